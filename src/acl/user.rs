//! A user: whether it may log in and with what, and its selectors.

use super::catalog::Catalog;
use super::check::{Attempt, Denial};
use super::password::PasswordHash;
use super::rule::RuleError;
use super::selector::{Form, Glob, Selector, allows_channel};
use crate::config::AclPubsubDefault;
use crate::config::line;
use crate::exec::printed;

/// The name of the user that every connection begins as.
pub const DEFAULT_NAME: &[u8] = b"default";

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(super) name: Vec<u8>,
    enabled: bool,
    no_password: bool,
    sanitize_payload: bool,
    passwords: Vec<PasswordHash>,
    /// The first is the root selector, which is always there.
    selectors: Vec<Selector>,
    /// One of its selectors allows everything. Kept beside them since it is asked of every command.
    unrestricted: bool,
}

impl User {
    /// A new user, who may do nothing.
    pub(super) fn new(name: &[u8], channels: AclPubsubDefault) -> User {
        User {
            name: name.to_vec(),
            enabled: false,
            no_password: false,
            sanitize_payload: true,
            passwords: Vec::new(),
            selectors: vec![Selector::new(channels)],
            unrestricted: false,
        }
    }

    /// The default user of a server that was told nothing: it may do everything, without a password.
    pub(super) fn open_default(catalog: &Catalog) -> User {
        let mut user = User::new(DEFAULT_NAME, AclPubsubDefault::ResetChannels);
        for rule in [&b"on"[..], b"nopass", b"allkeys", b"allchannels", b"allcommands"] {
            user.apply(rule, AclPubsubDefault::ResetChannels, catalog).expect("these are rules");
        }
        user.settle(catalog);
        user
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether nothing that it asks for has to be checked.
    #[inline]
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Whether one may log in as this user.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether any password will do.
    pub fn needs_no_password(&self) -> bool {
        self.no_password
    }

    /// Whether what it RESTOREs has to be looked through.
    pub fn sanitizes_payload(&self) -> bool {
        self.sanitize_payload
    }

    /// Whether it may log in with a password. All of its passwords are compared, whichever it is.
    pub(super) fn accepts(&self, password: &PasswordHash) -> bool {
        let known = self.passwords.iter().fold(false, |known, own| known | own.matches(password));
        self.enabled && (self.no_password || known)
    }

    /// Obeys one rule. After a refusal the caller throws the user away; after the last rule it calls `settle`.
    pub(super) fn apply(
        &mut self,
        rule: &[u8],
        channels: AclPubsubDefault,
        catalog: &Catalog,
    ) -> Result<(), RuleError> {
        match printed(rule).to_ascii_lowercase().as_slice() {
            [] if rule.is_empty() => {}
            b"on" => self.enabled = true,
            b"off" => self.enabled = false,
            b"skip-sanitize-payload" => self.sanitize_payload = false,
            b"sanitize-payload" => self.sanitize_payload = true,
            b"nopass" => self.set_no_password(true),
            b"resetpass" => self.set_no_password(false),
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => {
                let name = std::mem::take(&mut self.name);
                *self = User::new(&name, channels);
            }
            [b'>', ..] => self.add_password(PasswordHash::of(&rule[1..])),
            [b'#', ..] => {
                let hash = PasswordHash::from_hex(&rule[1..]).ok_or(RuleError::InvalidHash)?;
                self.add_password(hash);
            }
            [b'<', ..] => self.remove_password(&PasswordHash::of(&rule[1..]))?,
            [b'!', ..] => {
                let hash = PasswordHash::from_hex(&rule[1..]).ok_or(RuleError::InvalidHash)?;
                self.remove_password(&hash)?;
            }
            [b'(', ..] if rule.ends_with(b")") => {
                let selector = Selector::parse(&rule[1..rule.len() - 1], channels, catalog)?;
                self.selectors.push(selector);
            }
            _ => self.selectors[0].apply(rule, catalog)?,
        }
        Ok(())
    }

    /// Draws from its selectors what is kept beside them.
    pub(super) fn settle(&mut self, catalog: &Catalog) {
        self.unrestricted = self.selectors.iter().any(|selector| selector.is_unrestricted(catalog));
    }

    fn set_no_password(&mut self, none_needed: bool) {
        self.no_password = none_needed;
        self.passwords.clear();
    }

    fn add_password(&mut self, hash: PasswordHash) {
        if !self.passwords.contains(&hash) {
            self.passwords.push(hash);
        }
        self.no_password = false;
    }

    fn remove_password(&mut self, hash: &PasswordHash) -> Result<(), RuleError> {
        let index = self.passwords.iter().position(|known| known == hash);
        self.passwords.remove(index.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// Sets its one password, or none: what `requirepass` says of the default user.
    pub(super) fn set_only_password(&mut self, password: Option<&[u8]>) {
        self.set_no_password(password.is_none());
        self.passwords.extend(password.map(PasswordHash::of));
    }

    /// Its flags, as ACL GETUSER lists them.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.enabled, "on"),
            (!self.enabled, "off"),
            (self.no_password, "nopass"),
            (!self.sanitize_payload, "skip-sanitize-payload"),
            (self.sanitize_payload, "sanitize-payload"),
        ]
        .into_iter()
        .filter_map(|(is_so, flag)| is_so.then_some(flag))
    }

    /// The hashes of its passwords, in hexadecimal.
    pub fn passwords(&self) -> impl ExactSizeIterator<Item = String> {
        self.passwords.iter().map(PasswordHash::hex)
    }

    /// What it may do outside of any parentheses.
    pub fn root(&self) -> &Selector {
        &self.selectors[0]
    }

    /// The selectors in parentheses.
    pub fn further_selectors(&self) -> &[Selector] {
        &self.selectors[1..]
    }

    /// Whether it may run a command; of several selectors' denials, the gravest.
    pub(super) fn check<S>(&self, attempt: &Attempt<S>) -> Result<(), Denial> {
        let mut gravest = Denial::Command;
        for selector in &self.selectors {
            match selector.check(attempt) {
                Ok(()) => return Ok(()),
                Err(denial) => gravest = gravest.max(denial),
            }
        }
        Err(gravest)
    }

    /// Whether it may run a command that reads keys which only the data name.
    pub(super) fn reads_all_keys<S>(&self, attempt: &Attempt<S>) -> bool {
        self.selectors.iter().any(|selector| selector.check(attempt).is_ok() && selector.reads_all_keys())
    }

    /// Whether it may listen to a channel, or to a pattern of them.
    pub(super) fn hears(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.hears_everything() || allows_channel(self.channel_patterns(), channel, is_pattern)
    }

    fn channel_patterns(&self) -> impl Iterator<Item = &Glob> {
        self.selectors.iter().flat_map(Selector::channel_patterns)
    }

    fn hears_everything(&self) -> bool {
        self.selectors.iter().any(Selector::allows_all_channels)
    }

    /// Whether it has lost a pattern of channels that it had.
    pub(super) fn hears_less_than(&self, before: &User) -> bool {
        let is_lost = |pattern: &_| !self.channel_patterns().any(|now| now == pattern);
        !self.hears_everything() && (before.hears_everything() || before.channel_patterns().any(is_lost))
    }

    /// Its line in ACL LIST.
    pub fn line(&self) -> Vec<u8> {
        self.line_in(Form::Shown)
    }

    /// Its line in the user file, where a selector is split at blanks, and then as a line of the configuration is.
    pub(super) fn file_line(&self) -> Vec<u8> {
        self.line_in(Form::Stored)
    }

    /// Its line in the configuration file, which is split once more.
    pub fn config_line(&self) -> Vec<u8> {
        let name = if self.name.is_empty() { in_quotes(b"") } else { quoted(self.name.clone()) };
        let mut arguments = vec![b"user".to_vec(), name];
        arguments.extend(self.arguments(Form::Stored).into_iter().map(quoted));
        arguments.join(&b' ')
    }

    fn line_in(&self, form: Form) -> Vec<u8> {
        let mut arguments = vec![b"user".to_vec(), self.name.clone()];
        arguments.extend(self.arguments(form));
        arguments.join(&b' ')
    }

    /// The rules that make it what it is, a selector being one argument.
    fn arguments(&self, form: Form) -> Vec<Vec<u8>> {
        let mut arguments: Vec<Vec<u8>> = self.flags().map(|flag| flag.as_bytes().to_vec()).collect();
        arguments.extend(self.passwords().map(|hash| format!("#{hash}").into_bytes()));
        arguments.extend(self.root().arguments(form));
        for selector in self.further_selectors() {
            let mut inside = selector.arguments(form);
            if form == Form::Stored {
                inside = inside.into_iter().map(quoted_inside).collect();
            }
            arguments.push([b"(", &inside.join(&b' ')[..], b")"].concat());
        }
        arguments
    }

    /// Checks what it has to be.
    ///
    /// # Panics
    /// If it is not.
    pub fn verify(&self, catalog: &Catalog) {
        self.selectors.iter().for_each(|selector| selector.verify(catalog));
        assert!(!self.no_password || self.passwords.is_empty(), "passwords where none is needed");
        assert_eq!(
            self.unrestricted,
            self.selectors.iter().any(|selector| selector.is_unrestricted(catalog)),
            "what is kept beside the selectors is what they say"
        );
    }
}

/// An argument (or a selector) in quotes if it has some itself: it would not be read as it stands.
fn quoted(argument: Vec<u8>) -> Vec<u8> {
    let has_quotes = argument.iter().any(|byte| matches!(byte, b'"' | b'\''));
    if has_quotes { in_quotes(&argument) } else { argument }
}

/// As [`quoted`], for an argument in parentheses, which one at its end would close.
fn quoted_inside(argument: Vec<u8>) -> Vec<u8> {
    if argument.ends_with(b")") { in_quotes(&argument) } else { quoted(argument) }
}

fn in_quotes(argument: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    line::push_quoted(&mut text, argument);
    text
}
