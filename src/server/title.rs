//! What `ps` shows of us and of our children: `proc-title-template`.

use super::Server;
use crate::env::process;

impl Server {
    /// Sets the title that `ps` shows. False if the template gives none.
    pub fn set_title(&mut self) -> bool {
        if !self.config.set_proc_title {
            return true;
        }
        match self.expand_title(&self.life.program.called()) {
            Some(title) => {
                process::set_title(&title);
                true
            }
            None => false,
        }
    }

    /// The title of a child.
    pub(super) fn child_title(&self, what: &str) -> String {
        self.expand_title(what).unwrap_or_else(|| what.to_owned())
    }

    fn expand_title(&self, title: &str) -> Option<String> {
        let template = String::from_utf8_lossy(&self.config.proc_title_template).into_owned();
        let host =
            self.config.bind.addresses().next().map_or("*".to_owned(), |address| address.host.to_owned());
        process::expand_title(&template, |name| {
            Some(match name {
                "title" => title.to_owned(),
                "listen-addr" if self.config.port != 0 => format!("{host}:{}", self.config.port),
                "listen-addr" => String::from_utf8_lossy(&self.config.unixsocket).into_owned(),
                "server-mode" => String::new(),
                "port" => self.config.port.to_string(),
                "tls-port" => self.config.tls_port.to_string(),
                "unixsocket" => String::from_utf8_lossy(&self.config.unixsocket).into_owned(),
                "config-file" => self
                    .config
                    .config_file
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
                _ => return None,
            })
        })
    }
}
