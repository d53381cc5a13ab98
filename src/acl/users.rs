//! The table of users.
//!
//! A connection holds the [`UserId`] of its user, no reference: the user may be changed at any time, which the connection's
//! next command sees, or be deleted, and then the id names nobody and nothing is allowed. Ids are not used again while a
//! connection could still hold them. The default user is always there and keeps its id, whatever is loaded.
//!
//! What changes a user is done whole or not at all: rules are obeyed by a copy, which takes the user's place when every
//! one was accepted. Which connections a change costs is returned ([`Closing`]); the server closes them.

use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::check::{Attempt, Denial};
use super::password::PasswordHash;
use super::rule::{RuleError, has_spaces, join_selectors};
use super::user::{DEFAULT_NAME, User};
use crate::client::{Auth, Session, UserId};
use crate::config::AclPubsubDefault;
use crate::exec::{CmdError, printed};

/// The connections that a change costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "these connections have no right to stay"]
pub struct Closing {
    /// Those of these users, who are gone.
    pub gone: Vec<UserId>,
    /// Those of this user that listen to what it may hear no longer ([`Users::hears`]).
    pub lost_channels: Option<UserId>,
}

/// Why ACL SETUSER changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetUserError {
    InvalidName,
    /// A parenthesis that is never closed, with the argument that it stands in.
    Unmatched(Vec<u8>),
    /// A rule, and what is wrong with it.
    Refused(Vec<u8>, RuleError),
}

impl SetUserError {
    /// The error reply.
    pub fn error(&self) -> CmdError {
        CmdError::bytes(match self {
            SetUserError::InvalidName => b"ERR Usernames can't contain spaces or null characters".to_vec(),
            SetUserError::Unmatched(argument) => {
                let text = b"ERR Unmatched parenthesis in acl selector starting at '";
                [text, printed(argument), b"'."].concat()
            }
            SetUserError::Refused(rule, why) => {
                let text = b"ERR Error in ACL SETUSER modifier '";
                [text, printed(rule), b"': ", why.to_string().as_bytes()].concat()
            }
        })
    }
}

/// See the head of this file.
pub struct Users {
    catalog: Catalog,
    /// In the order of their ids; the default user is the first.
    users: Vec<(UserId, User)>,
    by_name: BTreeMap<Vec<u8>, UserId>,
    last_id: UserId,
}

impl Users {
    /// A table with the default user alone, who may do everything.
    pub fn new(catalog: Catalog) -> Users {
        let default = User::open_default(&catalog);
        Users {
            catalog,
            users: vec![(UserId::DEFAULT, default)],
            by_name: BTreeMap::from([(DEFAULT_NAME.to_vec(), UserId::DEFAULT)]),
            last_id: UserId::DEFAULT,
        }
    }

    /// The commands that rules are about.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn index(&self, id: UserId) -> Result<usize, usize> {
        self.users.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// The user with that id, if it is still there.
    #[inline]
    pub fn get(&self, id: UserId) -> Option<&User> {
        match id {
            UserId::DEFAULT => Some(&self.users[0].1),
            _ => self.index(id).ok().map(|index| &self.users[index].1),
        }
    }

    /// The user of that name.
    pub fn find(&self, name: &[u8]) -> Option<(UserId, &User)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.get(id)?))
    }

    /// The user that every connection begins as.
    pub fn default_user(&self) -> &User {
        &self.users[0].1
    }

    /// Whether a new connection may run commands without having authenticated.
    pub fn default_is_open(&self) -> bool {
        let default = self.default_user();
        default.is_enabled() && default.needs_no_password()
    }

    /// Whether a connection may run commands: it has authenticated, or the default user is open to everybody.
    #[inline]
    pub fn is_authenticated(&self, session: &Session) -> bool {
        session.auth == Auth::Done || self.default_is_open()
    }

    /// The name of a connection's user, as CLIENT LIST shows it.
    pub fn name(&self, id: UserId) -> &[u8] {
        match id {
            UserId::SUPERUSER => b"(superuser)",
            _ => self.get(id).map_or(&b""[..], User::name),
        }
    }

    /// All users, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &User> {
        self.by_name.values().map(|&id| self.get(id).expect("a name leads to a user"))
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none, which there never are.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether nothing that a connection of this user asks for has to be checked.
    #[inline]
    pub fn is_unrestricted(&self, id: UserId) -> bool {
        id == UserId::SUPERUSER || self.get(id).is_some_and(User::is_unrestricted)
    }

    /// Whether a connection of this user may run a command. A user who is gone may run none.
    pub fn check<S>(&self, id: UserId, attempt: &Attempt<S>) -> Result<(), Denial> {
        if self.is_unrestricted(id) {
            return Ok(());
        }
        match self.get(id) {
            Some(user) => user.check(attempt),
            None if attempt.needs_no_rights() => Ok(()),
            None => Err(Denial::Command),
        }
    }

    /// Whether a connection of this user may run a command that reads keys which only the data name (SORT BY, GET).
    pub fn reads_all_keys<S>(&self, id: UserId, attempt: &Attempt<S>) -> bool {
        self.is_unrestricted(id) || self.get(id).is_some_and(|user| user.reads_all_keys(attempt))
    }

    /// Whether a user may listen to a channel, or to a pattern of them: asked of who listens when rights were lost.
    pub fn hears(&self, id: UserId, channel: &[u8], is_pattern: bool) -> bool {
        id == UserId::SUPERUSER || self.get(id).is_some_and(|user| user.hears(channel, is_pattern))
    }

    /// The user who logs in with a name and a password. The password is hashed whether the user exists or not.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<UserId> {
        let hash = PasswordHash::of(password);
        let (id, user) = self.find(name)?;
        user.accepts(&hash).then_some(id)
    }

    /// Gives the default user its one password, or none at all (`requirepass`).
    pub fn set_default_password(&mut self, password: Option<&[u8]>) {
        self.users[0].1.set_only_password(password);
    }

    /// ACL SETUSER: makes a user or changes one.
    pub fn set_user(
        &mut self,
        name: &[u8],
        rules: &[&[u8]],
        channels: AclPubsubDefault,
    ) -> Result<Closing, SetUserError> {
        if has_spaces(name) {
            return Err(SetUserError::InvalidName);
        }
        let rules = join_selectors(rules).map_err(|index| SetUserError::Unmatched(rules[index].to_vec()))?;
        let known = self.find(name).map(|(id, user)| (id, user.clone()));
        let mut user = known.as_ref().map_or_else(|| User::new(name, channels), |(_, user)| user.clone());
        for rule in rules {
            user.apply(&rule, channels, &self.catalog).map_err(|why| SetUserError::Refused(rule, why))?;
        }
        user.settle(&self.catalog);
        let lost = known.filter(|(_, before)| user.hears_less_than(before));
        self.put(user);
        Ok(Closing { gone: Vec::new(), lost_channels: lost.map(|(id, _)| id) })
    }

    /// Puts a user in the place of the one of its name, or adds it.
    fn put(&mut self, user: User) {
        if let Some(&id) = self.by_name.get(&user.name) {
            let index = self.index(id).expect("a name leads to a user");
            self.users[index].1 = user;
            return;
        }
        let (id, index) = self.free_id();
        self.by_name.insert(user.name.clone(), id);
        self.users.insert(index, (id, user));
    }

    /// An id that nobody has, and the place of its user. Numbers come round again after four thousand million users:
    /// no connection lives that long without its user.
    fn free_id(&mut self) -> (UserId, usize) {
        loop {
            self.last_id = UserId(self.last_id.0.wrapping_add(1));
            if self.last_id != UserId::SUPERUSER
                && let Err(index) = self.index(self.last_id)
            {
                return (self.last_id, index);
            }
        }
    }

    /// ACL DELUSER: deletes those of these users who exist, and tells how many did.
    pub fn delete(&mut self, names: &[&[u8]]) -> Result<(usize, Closing), CmdError> {
        if names.iter().any(|name| printed(name) == DEFAULT_NAME) {
            return Err(CmdError::text("ERR The 'default' user cannot be removed"));
        }
        let mut gone = Vec::new();
        for name in names {
            let Some(id) = self.by_name.remove(*name) else { continue };
            if let Ok(index) = self.index(id) {
                self.users.remove(index);
            }
            gone.push(id);
        }
        Ok((gone.len(), Closing { gone, lost_channels: None }))
    }

    /// Puts other users in the place of all. If the default user is not among them, it may do everything.
    pub(super) fn replace(&mut self, users: Vec<User>) -> Closing {
        let gone = self.users.drain(1..).map(|(id, _)| id).collect();
        self.by_name.retain(|_, id| *id == UserId::DEFAULT);
        self.users[0].1 = User::open_default(&self.catalog);
        users.into_iter().for_each(|user| self.put(user));
        Closing { gone, lost_channels: None }
    }

    /// As [`Users::replace`] of one user, when the server starts.
    pub(super) fn declare(&mut self, user: User) {
        self.put(user);
    }

    /// Checks what the table has to be.
    ///
    /// # Panics
    /// If it is not.
    pub fn verify(&self) {
        assert_eq!(self.users[0].0, UserId::DEFAULT, "the default user is the first");
        assert_eq!(self.users[0].1.name(), DEFAULT_NAME);
        assert!(self.users.is_sorted_by(|a, b| a.0 < b.0), "users stand in the order of their ids");
        assert_eq!(self.users.len(), self.by_name.len());
        for (name, id) in &self.by_name {
            assert_eq!(self.get(*id).map(User::name), Some(&name[..]), "a name leads to its user");
        }
        self.users.iter().for_each(|(_, user)| user.verify(&self.catalog));
    }
}
