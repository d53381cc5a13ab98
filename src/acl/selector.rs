//! A selector: one set of rights, to commands, keys and channels. A user has one (the root selector) and may have more,
//! and may do what any of them allows as a whole.
//!
//! Rights to commands are held twice: as the bits that are asked, and as the rules that led to them, in the order in which
//! they were given, which is how they are described. Replaying the description gives the same bits ([`Selector::verify`]).

use super::catalog::{Catalog, CommandId, CommandSet, category};
use super::check::{Attempt, Denial};
use super::rule::{RuleError, has_spaces};
use crate::config::AclPubsubDefault;
use crate::config::line;
use crate::exec::{Channels, key_flags, printed};
use crate::observe::log;
use crate::structures::glob::Pattern;

/// What a pattern of keys allows to do with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    read: bool,
    write: bool,
}

impl Access {
    const ALL: Access = Access { read: true, write: true };

    /// What a command does to a key, by the flags that its row has for it. To ask whether a key exists, or for its type,
    /// is neither.
    fn of(flags: u16) -> Access {
        let writes = key_flags::INSERT | key_flags::DELETE | key_flags::UPDATE;
        Access { read: flags & key_flags::ACCESS != 0, write: flags & writes != 0 }
    }

    fn covers(self, wanted: Access) -> bool {
        (self.read || !wanted.read) && (self.write || !wanted.write)
    }
}

/// A pattern of keys or channels: as it was given, by which it is known, and compiled.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    text: Vec<u8>,
    compiled: Pattern,
}

impl Glob {
    fn new(text: &[u8]) -> Glob {
        Glob { text: text.to_vec(), compiled: Pattern::new(text) }
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Glob) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    access: Access,
    pattern: Glob,
}

impl KeyPattern {
    fn argument(&self, form: Form) -> Vec<u8> {
        let prefix: &[u8] = match (self.access.read, self.access.write) {
            (true, false) => b"%R~",
            (false, true) => b"%W~",
            _ if self.pattern.text == b"*" && form == Form::Stored => b"%RW~",
            _ => b"~",
        };
        [prefix, &self.pattern.text].concat()
    }
}

/// What a description is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// To be shown, as real servers show it.
    Shown,
    /// To be read back. A pattern `*` that does not stand for all keys (`%R~* %W~*`, which others may follow) would be
    /// read as all keys in the form in which it is shown.
    Stored,
}

/// A rule on commands: `+get`, `-@read`, `+select|0`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CommandRule {
    allow: bool,
    /// In lower case, without the sign.
    name: Vec<u8>,
}

impl CommandRule {
    fn argument(&self) -> Vec<u8> {
        [if self.allow { b"+" } else { b"-" }, &self.name[..]].concat()
    }

    /// Whether it says nothing any more behind a rule on `name`: it is on the same, or on something below it.
    fn is_overruled_by(&self, name: &[u8]) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
    }
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    commands: CommandSet,
    /// Its rules begin with `+@all`.
    from_all: bool,
    rules: Vec<CommandRule>,
    /// Commands that are allowed with these first arguments only, which are in lower case.
    first_args: Vec<(CommandId, Vec<u8>)>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Glob>,
}

impl Selector {
    /// One that allows nothing, but for what `acl-pubsub-default` says of channels.
    pub(super) fn new(channels: AclPubsubDefault) -> Selector {
        Selector {
            commands: CommandSet::default(),
            from_all: false,
            rules: Vec::new(),
            first_args: Vec::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels: channels == AclPubsubDefault::AllChannels,
            channels: Vec::new(),
        }
    }

    /// One of the arguments between parentheses.
    pub(super) fn parse(
        text: &[u8],
        channels: AclPubsubDefault,
        catalog: &Catalog,
    ) -> Result<Selector, RuleError> {
        let mut selector = Selector::new(channels);
        // Arguments whose quotes do not balance count as none in real servers: they give no right, either.
        for argument in line::split_args(text).unwrap_or_default() {
            selector.apply(&argument, catalog)?;
        }
        Ok(selector)
    }

    /// Whether it allows everything that there is.
    pub(super) fn is_unrestricted(&self, catalog: &Catalog) -> bool {
        self.all_keys && self.all_channels && self.commands == catalog.everything()
    }

    /// Obeys one rule. After a refusal the caller throws the selector away.
    pub(super) fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let argument = printed(rule).to_ascii_lowercase();
        match argument.as_slice() {
            b"allkeys" | b"~*" => self.set_keys(true),
            b"resetkeys" => self.set_keys(false),
            b"allchannels" | b"&*" => self.set_channels(true),
            b"resetchannels" => self.set_channels(false),
            b"allcommands" | b"+@all" => self.set_commands(true, catalog),
            b"nocommands" | b"-@all" => self.set_commands(false, catalog),
            [b'~' | b'%', ..] => self.add_key_pattern(rule)?,
            [b'&', ..] => self.add_channel(&rule[1..])?,
            [sign @ (b'+' | b'-'), b'@', name @ ..] => {
                let bit = category(name).ok_or(RuleError::Unknown)?;
                self.allow_members(bit, &argument[1..], *sign == b'+', catalog);
            }
            [b'+', name @ ..] => match memchr::memrchr(b'|', name) {
                Some(bar) => self.allow_below(&printed(rule)[1..], bar, catalog)?,
                None => self.allow(name, true, catalog)?,
            },
            [b'-', name @ ..] => self.allow(name, false, catalog)?,
            _ => return Err(RuleError::Syntax),
        }
        Ok(())
    }

    fn set_keys(&mut self, all: bool) {
        self.all_keys = all;
        self.keys.clear();
    }

    pub(super) fn set_channels(&mut self, all: bool) {
        self.all_channels = all;
        self.channels.clear();
    }

    fn set_commands(&mut self, all: bool, catalog: &Catalog) {
        self.commands = if all { catalog.everything() } else { CommandSet::default() };
        self.from_all = all;
        self.rules.clear();
        self.first_args.clear();
    }

    /// `~pattern`, `%R~pattern`, `%W~pattern`, `%RW~pattern`. Where the tilde lacks, so does the pattern: it is empty.
    fn add_key_pattern(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let (access, pattern) = match rule {
            [b'~', pattern @ ..] => (Access::ALL, pattern),
            _ => {
                let tilde = memchr::memchr(b'~', rule).unwrap_or(rule.len());
                let access = match rule[1..tilde].to_ascii_uppercase().as_slice() {
                    b"R" => Access { read: true, write: false },
                    b"W" => Access { read: false, write: true },
                    b"RW" | b"WR" => Access::ALL,
                    // Without a letter there is no right to give: 7.2 takes a lone `%` and dies of it, later ones refuse.
                    _ => return Err(RuleError::Syntax),
                };
                (access, rule.get(tilde + 1..).unwrap_or_default())
            }
        };
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| known.pattern.text == pattern) {
            Some(known) => {
                known.access.read |= access.read;
                known.access.write |= access.write;
            }
            None => self.keys.push(KeyPattern { access, pattern: Glob::new(pattern) }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known.text == pattern) {
            self.channels.push(Glob::new(pattern));
        }
        Ok(())
    }

    /// `+@category` and `-@category`. A container takes its subcommands with it.
    fn allow_members(&mut self, category: u64, name: &[u8], allow: bool, catalog: &Catalog) {
        for id in catalog.members(category) {
            self.allow_command(id, allow, catalog);
        }
        self.note_rule(name, allow);
    }

    /// `+command`, `-command`, `-container|subcommand`.
    fn allow(&mut self, name: &[u8], allow: bool, catalog: &Catalog) -> Result<(), RuleError> {
        let id = catalog.find(name).ok_or(RuleError::Unknown)?;
        self.allow_command(id, allow, catalog);
        self.note_rule(name, allow);
        Ok(())
    }

    /// `+container|subcommand`, or `+command|first-arg` where the command has no subcommands. `bar` is the place of the
    /// last bar in the name.
    fn allow_below(&mut self, name: &[u8], bar: usize, catalog: &Catalog) -> Result<(), RuleError> {
        let (command, below) = (&name[..bar], &name[bar + 1..]);
        let id = catalog.find(command).ok_or(RuleError::Unknown)?;
        if catalog.is_subcommand(id) {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if below.is_empty() {
            return Err(RuleError::Syntax);
        }
        if catalog.subcommands(id).len() > 0 {
            let sub = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.allow_command(sub, true, catalog);
        } else {
            // What could not be read back as one argument would make the whole description unreadable; real servers die.
            if line::split_args(below).is_none_or(|arguments| arguments.len() != 1) || has_spaces(below) {
                return Err(RuleError::Syntax);
            }
            log::warning!(
                "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may get disabled in the future (offender: +{})",
                String::from_utf8_lossy(name)
            );
            let known = |(of, arg): &(CommandId, Vec<u8>)| *of == id && arg.eq_ignore_ascii_case(below);
            if !self.first_args.iter().any(known) {
                self.first_args.push((id, below.to_ascii_lowercase()));
            }
        }
        self.note_rule(&name.to_ascii_lowercase(), true);
        Ok(())
    }

    fn allow_command(&mut self, id: CommandId, allow: bool, catalog: &Catalog) {
        self.commands.set(id, allow);
        self.first_args.retain(|(of, _)| *of != id);
        for sub in catalog.subcommands(id) {
            self.commands.set(sub, allow);
        }
    }

    /// Notes a rule behind all others, in place of those that it overrules.
    fn note_rule(&mut self, name: &[u8], allow: bool) {
        self.rules.retain(|rule| !rule.is_overruled_by(name));
        self.rules.push(CommandRule { allow, name: name.to_vec() });
    }

    /// Its rules on commands, as `ACL GETUSER` shows them.
    pub fn commands(&self) -> Vec<u8> {
        self.command_arguments().join(&b' ')
    }

    /// Its patterns of keys.
    pub fn keys(&self) -> Vec<u8> {
        self.key_arguments(Form::Shown).join(&b' ')
    }

    /// Its patterns of channels.
    pub fn channels(&self) -> Vec<u8> {
        self.channel_arguments().join(&b' ')
    }

    fn command_arguments(&self) -> Vec<Vec<u8>> {
        let base: &[u8] = if self.from_all { b"+@all" } else { b"-@all" };
        std::iter::once(base.to_vec()).chain(self.rules.iter().map(CommandRule::argument)).collect()
    }

    fn key_arguments(&self, form: Form) -> Vec<Vec<u8>> {
        if self.all_keys {
            return vec![b"~*".to_vec()];
        }
        self.keys.iter().map(|pattern| pattern.argument(form)).collect()
    }

    fn channel_arguments(&self) -> Vec<Vec<u8>> {
        if self.all_channels {
            return vec![b"&*".to_vec()];
        }
        self.channels.iter().map(|pattern| [b"&", &pattern.text[..]].concat()).collect()
    }

    /// All its rules: keys, channels, commands.
    pub(super) fn arguments(&self, form: Form) -> Vec<Vec<u8>> {
        let mut arguments = self.key_arguments(form);
        if !self.all_channels {
            arguments.push(b"resetchannels".to_vec());
        }
        arguments.extend(self.channel_arguments());
        arguments.extend(self.command_arguments());
        arguments
    }

    /// Whether a command may be run with its arguments.
    pub(super) fn check<S>(&self, attempt: &Attempt<S>) -> Result<(), Denial> {
        if !self.allows_command(attempt) {
            return Err(Denial::Command);
        }
        if self.all_keys {
            // Whatever its keys are.
        } else if let Some(flags) = attempt.command.only_key_flags() {
            if attempt.args.len() > 1 && !self.allows_key(attempt.args.get(1), flags) {
                return Err(Denial::Key(1));
            }
        } else if attempt.command.has_keys() {
            for &(index, flags) in attempt.keys() {
                if !self.allows_key(attempt.args.get(index), flags) {
                    return Err(Denial::Key(index));
                }
            }
        }
        if !self.all_channels && attempt.command.channels != Channels::None {
            let is_pattern = attempt.command.channels == Channels::Patterns;
            let denied = attempt
                .channel_indexes()
                .find(|&index| !allows_channel(self.channels.iter(), attempt.args.get(index), is_pattern));
            if let Some(index) = denied {
                return Err(Denial::Channel(index));
            }
        }
        Ok(())
    }

    fn allows_command<S>(&self, attempt: &Attempt<S>) -> bool {
        let first_arg_fits = || {
            self.first_args.iter().any(|(of, arg)| {
                *of == attempt.id
                    && attempt.args.len() > 1
                    && printed(attempt.args.get(1)).eq_ignore_ascii_case(arg)
            })
        };
        self.commands.has(attempt.id) || attempt.needs_no_rights() || first_arg_fits()
    }

    fn allows_key(&self, key: &[u8], flags: u16) -> bool {
        let wanted = Access::of(flags);
        self.keys.iter().any(|known| known.access.covers(wanted) && known.pattern.compiled.matches(key))
    }

    /// Whether any key at all may be read: what a command reads whose keys are named by the data (SORT BY, GET).
    pub(super) fn reads_all_keys(&self) -> bool {
        let reads_all = |known: &KeyPattern| known.access.read && known.pattern.text == b"*";
        self.all_keys || self.keys.iter().any(reads_all)
    }

    /// Whether it allows all channels.
    pub(super) fn allows_all_channels(&self) -> bool {
        self.all_channels
    }

    /// The patterns of channels that it allows, if those are not all.
    pub(super) fn channel_patterns(&self) -> &[Glob] {
        &self.channels
    }

    /// Checks what it has to be.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn verify(&self, catalog: &Catalog) {
        let mut replayed = Selector::new(AclPubsubDefault::ResetChannels);
        for argument in self.arguments(Form::Stored) {
            assert_eq!(replayed.apply(&argument, catalog), Ok(()), "{}", argument.escape_ascii());
        }
        assert!(replayed == *self, "{replayed:?} is described, not {self:?}");
        for (id, arg) in &self.first_args {
            assert!(catalog.subcommands(*id).len() == 0 && !arg.is_empty());
        }
    }
}

/// Whether a channel is among those that patterns allow. A pattern that somebody subscribes to has to be one of them to
/// the letter.
pub(super) fn allows_channel<'a>(
    mut patterns: impl Iterator<Item = &'a Glob>,
    channel: &[u8],
    is_pattern: bool,
) -> bool {
    patterns.any(|pattern| match is_pattern {
        true => pattern.text == printed(channel),
        false => pattern.compiled.matches(channel),
    })
}
