//! CONFIG GET and CONFIG SET: what is shown under which name, who may change what, and the errors that say so.

use super::directive::{Apply, Directive, lookup, rule};
use super::table::{Config, DIRECTIVES};
use super::value::{Reason, Source};
use crate::structures::glob::Pattern;
use std::fmt;

/// Who sets, and when: what decides whether a directive may be changed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setter {
    /// The client comes over the loopback interface or the unix socket.
    pub is_local: bool,
    /// The server is loading its data.
    pub loading: bool,
}

/// Something that the server must do about a change, and the directive to blame if it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub apply: Apply,
    pub name: &'static str,
}

/// Why a CONFIG SET changed nothing. Its text is the whole error reply, without the leading dash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    Unknown { name: String },
    Loading,
    Failed { name: String, reason: Reason },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown { name } => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            SetError::Loading => f.write_str("LOADING Redis is loading the dataset in memory"),
            SetError::Failed { name, reason } => {
                write!(f, "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
            }
        }
    }
}

impl std::error::Error for SetError {}

impl Change {
    /// The error for a change that could not be applied. The server first takes back the configuration it kept.
    pub fn failed(&self, reason: impl Into<Reason>) -> SetError {
        SetError::Failed { name: self.name.into(), reason: reason.into() }
    }
}

impl Config {
    /// CONFIG GET: name and value of every directive that some pattern names. A name without pattern characters is
    /// answered as it was spelled, and is the only way to see a hidden directive.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut shown: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut show = |name: &[u8], directive: &Directive| {
            if !shown.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                shown.push((name.to_vec(), directive.show(self)));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some((directive, _)) = lookup(pattern) {
                    show(pattern, directive);
                }
                continue;
            }
            let pattern = Pattern::ignoring_case(pattern);
            for directive in DIRECTIVES.iter().filter(|directive| !directive.has(rule::HIDDEN)) {
                let alias = directive.alias.filter(|_| !directive.has(rule::NEWER_ALIAS));
                for name in [Some(directive.name), alias].into_iter().flatten() {
                    if pattern.matches(name.as_bytes()) {
                        show(name.as_bytes(), directive);
                    }
                }
            }
        }
        shown
    }

    /// CONFIG SET: all of the pairs, or none of them and an error.
    ///
    /// What is returned is still to be done. The server keeps a clone from before; if it cannot apply a change, it
    /// puts the clone back, applies that to what it has already changed, and answers with `Change::failed`.
    pub fn set_many(&mut self, pairs: &[(&[u8], &[u8])], setter: Setter) -> Result<Vec<Change>, SetError> {
        let chosen = self.choose(pairs, setter)?;
        let mut next = self.clone();
        let mut changes: Vec<Change> = Vec::new();
        for ((directive, name), (_, value)) in chosen.into_iter().zip(pairs) {
            let args: Vec<Vec<u8>> = match directive.has(rule::MULTI_ARG) {
                true if value.is_empty() => Vec::new(),
                true => value.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect(),
                false => vec![value.to_vec()],
            };
            let before = directive.show(&next);
            directive
                .set(&mut next, &args, Source::ConfigSet)
                .map_err(|reason| SetError::Failed { name: name.into(), reason })?;
            let apply = directive.apply;
            let noted = apply == Apply::None || changes.iter().any(|change| change.apply == apply);
            if !noted && directive.show(&next) != before {
                changes.push(Change { apply, name });
            }
        }
        next.soften();
        *self = next;
        Ok(changes)
    }

    /// Finds the directives and sees whether they may be set. The first pair that may not is the one reported.
    fn choose(
        &self,
        pairs: &[(&[u8], &[u8])],
        setter: Setter,
    ) -> Result<Vec<(&'static Directive, &'static str)>, SetError> {
        let mut chosen: Vec<(&'static Directive, &'static str)> = Vec::new();
        for (given, _) in pairs {
            let given_name = || String::from_utf8_lossy(given).into_owned();
            let failed = |reason: &str| SetError::Failed { name: given_name(), reason: reason.into() };
            let (directive, name) = lookup(given).ok_or_else(|| SetError::Unknown { name: given_name() })?;
            if directive.has(rule::IMMUTABLE) {
                return Err(failed("can't set immutable config"));
            }
            if directive.has(rule::PROTECTED) && !self.enable_protected_configs.allows(setter.is_local) {
                return Err(failed("can't set protected config"));
            }
            if directive.has(rule::DENY_LOADING) && setter.loading {
                return Err(SetError::Loading);
            }
            if chosen.iter().any(|(_, known)| *known == name) {
                return Err(failed("duplicate parameter"));
            }
            chosen.push((directive, name));
        }
        Ok(chosen)
    }
}
