//! Access control at work: what a client asks for is checked against the rights of its user, and connections that lose
//! them are closed. Who may do what is known by [`crate::acl`].
//!
//! Whether a request may be run is asked by admission (`Server::check_rights`), which is one look at a flag for a client
//! whose user may do everything. What follows from a denial is done here.

use std::path::PathBuf;

use super::Server;
use super::boot::BootError;
use crate::acl::{
    Attempt, Catalog, Closing, Context, Declaration, Denial, Event, Log, Reason, UserId, Users,
};
use crate::client::{Auth, ClientId, Kind, RowId, Session};
use crate::config::Config;
use crate::exec::{Args, CmdError, Command};
use crate::observe::log;

/// The users, and what was denied them.
pub struct Acl {
    pub users: Users,
    pub log: Log,
}

impl Acl {
    /// The users that the configuration declares, or its user file, as the server starts.
    pub(super) fn boot(config: &Config, families: &[&'static [Command<Server>]]) -> Result<Acl, BootError> {
        let mut users = Users::new(Catalog::new(families));
        if config.requirepass.is_set() {
            users.set_default_password(Some(&config.requirepass));
        }
        let mut declarations = Vec::new();
        for line in &config.users {
            let parsed = Declaration::parse(&line.arguments, &declarations, users.catalog());
            declarations.push(parsed.map_err(|(argument, why)| {
                let argument = String::from_utf8_lossy(&argument);
                BootError(line.fatal(&format!("Error in user declaration '{argument}': {why}")).to_string())
            })?);
        }
        if config.aclfile.is_set() && !declarations.is_empty() {
            return Err(BootError("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This setup is very likely to lead to configuration errors and security holes, please define either an ACL file or declare users directly in your redis.conf, but not both.".into()));
        }
        let disabled = |name: &[u8]| {
            log::notice!(
                "The user '{}' is disabled (there is no 'on' modifier in the user description). Make sure this is not a configuration error.",
                String::from_utf8_lossy(name)
            );
        };
        users.declare_all(&declarations, config.acl_pubsub_default, disabled).map_err(|why| {
            log::warning!("{why}");
            BootError("Critical error while loading ACLs. Exiting.".into())
        })?;
        if config.aclfile.is_set() {
            // Nobody is connected yet.
            let _ = users
                .load(&config.base.join(config.aclfile.as_path()), config.acl_pubsub_default)
                .map_err(|why| {
                    let why = String::from_utf8_lossy(&why);
                    BootError(format!("Aborting Redis startup because of ACL errors: {why}"))
                })?;
        }
        Ok(Acl { users, log: Log::default() })
    }

    /// Whether a new connection has to authenticate.
    pub fn first_auth(&self) -> Auth {
        if self.users.default_is_open() { Auth::Done } else { Auth::Required }
    }
}

impl Server {
    /// Whether the user of a client may read whatever key the data name (SORT BY and GET).
    pub(super) fn may_read_all_keys(&self, id: ClientId, row: RowId, args: Args) -> bool {
        let user = self.clients.get(id).map_or(UserId::SUPERUSER, |client| client.session.user);
        let attempt = Attempt::new(self.table.command_id(row), self.table.command(row), args);
        self.acl.users.is_unrestricted(user) || self.acl.users.reads_all_keys(user, &attempt)
    }

    /// The command that a client is about to run may read keys that it names only, or may read others again.
    pub(super) fn limit_to_named_keys(&mut self, id: ClientId, limited: bool) {
        if let Some(client) = self.clients.get_mut(id) {
            client.session.reads_named_keys_only = limited;
        }
    }

    /// The error that a client hears whose user may not run a command.
    pub(super) fn denial_error(&self, id: ClientId, row: RowId, denial: Denial) -> CmdError {
        let user = self.clients.get(id).map_or(UserId::DEFAULT, |client| client.session.user);
        denial.error(self.acl.users.name(user), self.table.command(row).full_name)
    }

    /// Notes in the log that a client may not run a command.
    pub(super) fn note_denial(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        denial: Denial,
        context: Context,
    ) {
        let Some(client) = self.clients.get(id) else { return };
        let username = self.acl.users.name(client.session.user).to_vec();
        let object = denial.object(self.table.command(row).full_name, args);
        self.note_denied(id, args, (denial.into(), context), object, &username);
    }

    /// Notes in the log what was denied a client.
    fn note_denied(
        &mut self,
        id: ClientId,
        args: Args,
        (reason, context): (Reason, Context),
        object: &[u8],
        username: &[u8],
    ) {
        let mut info = Vec::new();
        self.client_info(id, Some((id, args)), &mut info);
        // A line of CLIENT LIST ends with a line feed, which is no part of the client.
        info.pop();
        let event = Event { reason, context, object, username, client_info: &info };
        self.acl.log.record(&event, self.clock.unix_ms(), self.config.acllog_max_len);
    }

    /// Lets a client in as the user whose name and password it gives.
    pub fn authenticate(
        &mut self,
        id: ClientId,
        args: Args,
        name: &[u8],
        password: &[u8],
    ) -> Result<(), CmdError> {
        let user = self.acl.users.authenticate(name, password);
        let Some(client) = self.clients.get_mut(id) else { return Err(CmdError::WRONG_PASS) };
        let Some(user) = user else {
            let multi = client.session.transaction.is_some() || client.session.in_exec;
            let context = if multi { Context::Multi } else { Context::TopLevel };
            self.note_denied(id, args, (Reason::Auth, context), args.get(0), name);
            return Err(CmdError::WRONG_PASS);
        };
        (client.session.user, client.session.auth) = (user, Auth::Done);
        Ok(())
    }

    /// Closes the connections that a change of users costs; the one whose command `running` is, behind its reply.
    pub fn close_unentitled(&mut self, running: ClientId, mut closing: Closing) {
        closing.gone.sort_unstable();
        let is_gone = |session: &Session| closing.gone.binary_search(&session.user).is_ok();
        let unentitled: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                let session = &client.session;
                is_gone(session)
                    || closing.lost_channels == Some(session.user) && self.hears_too_much(session)
            })
            .map(|(id, _)| id)
            .collect();
        for id in unentitled {
            if let Some(client) = self.clients.get_mut(id)
                && is_gone(&client.session)
            {
                // Until it is closed it is nobody.
                (client.session.user, client.session.auth) = (UserId::DEFAULT, Auth::Required);
            }
            match id == running {
                true => self.close_client_after_reply(id),
                false => self.close_client_later(id),
            }
        }
    }

    /// Whether a client listens to a channel or a pattern that its user may not hear.
    fn hears_too_much(&self, session: &Session) -> bool {
        let Some(subscriptions) = &session.subscriptions else { return false };
        [Kind::Pattern, Kind::Channel, Kind::ShardChannel].into_iter().any(|kind| {
            let is_pattern = kind == Kind::Pattern;
            subscriptions.of(kind).iter().any(|topic| !self.acl.users.hears(session.user, topic, is_pattern))
        })
    }

    /// The `user` lines of the configuration file, as CONFIG REWRITE writes them: none where users have a file of their
    /// own.
    pub fn user_lines(&self) -> Vec<Vec<u8>> {
        if self.config.aclfile.is_set() { Vec::new() } else { self.acl.users.config_lines().collect() }
    }

    /// `requirepass` has changed: it is the password of the default user. Who is in stays in.
    pub(super) fn password_has_changed(&mut self) {
        let password = &self.config.requirepass;
        self.acl.users.set_default_password(password.is_set().then_some(password));
    }

    /// The user file, if there is one.
    pub fn user_file(&self) -> Option<PathBuf> {
        let file = &self.config.aclfile;
        file.is_set().then(|| self.config.base.join(file.as_path()))
    }
}
