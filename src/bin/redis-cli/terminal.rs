//! The terminal, or what stands in its place: whether there is one, printing to it, and its "press any key" state.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};

pub fn stdin_is_tty() -> bool {
    io::stdin().is_terminal()
}

/// Whether replies are read by a person. `FAKETTY` lets test programs pose as one.
pub fn stdout_is_tty() -> bool {
    io::stdout().is_terminal() || std::env::var_os("FAKETTY").is_some()
}

pub fn has_color() -> bool {
    std::env::var("TERM").is_ok_and(|term| term.contains("xterm"))
}

/// Prints at once. A reader that went away (`redis-cli … | head`) ends the program: nobody listens any more.
pub fn print(bytes: impl AsRef<[u8]>) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes.as_ref()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What the C library calls the error, without Rust's additions.
pub fn error_text(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        // Rust has a text of its own for connections that it gave up itself.
        return "Connection timed out".to_string();
    }
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    text.split(" (os error").next().unwrap_or(text).to_string()
}

/// While it lives, each key is readable as soon as it is pressed, and is not echoed.
pub struct AnyKey {
    before: Option<Termios>,
}

impl AnyKey {
    pub fn new() -> AnyKey {
        let before = match stdin_is_tty() {
            true => tcgetattr(io::stdin()).ok(),
            false => None,
        };
        if let Some(before) = &before {
            let mut mode = before.clone();
            mode.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            // A terminal that refuses stays as it is: keys are then read after Enter.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &mode);
        }
        AnyKey { before }
    }
}

impl Drop for AnyKey {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
