//! The commands as rules name them: every command and subcommand with a dense number, its categories, and its place
//! under a container.
//!
//! Rules are always about a command's own name, so that `rename-command` takes no right away and gives none. Numbers are
//! given in the order of the families, each container before its subcommands, and stay what they are while the server
//! runs; a set of commands is a bit for each. Nothing here knows a user.

use std::collections::HashMap;
use std::ops::Range;

use crate::exec::{Command, acl, printed};

/// Words of 64 bits in a [`CommandSet`].
const WORDS: usize = 16;

/// Longer names than this are nobody's.
const LONGEST: usize = 64;

/// Which command or subcommand: its number in the [`Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(u16);

impl CommandId {
    /// The number itself, for tables that run beside the catalog.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Some of the commands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct CommandSet([u64; WORDS]);

impl CommandSet {
    pub fn has(&self, id: CommandId) -> bool {
        self.0[id.index() / 64] & (1 << (id.index() % 64)) != 0
    }

    pub fn set(&mut self, id: CommandId, allowed: bool) {
        let bit = 1 << (id.index() % 64);
        match allowed {
            true => self.0[id.index() / 64] |= bit,
            false => self.0[id.index() / 64] &= !bit,
        }
    }
}

struct Row {
    full_name: &'static str,
    categories: u64,
    /// It stands under a container.
    is_subcommand: bool,
    /// The rows of its subcommands, which follow it.
    subcommands: Range<u16>,
}

/// See the head of this file.
pub struct Catalog {
    rows: Vec<Row>,
    by_name: HashMap<&'static str, CommandId>,
}

impl Catalog {
    /// Numbers the rows of all families.
    ///
    /// # Panics
    /// If there are more of them than a set has bits, or a name stands there twice.
    pub fn new<S>(families: &[&'static [Command<S>]]) -> Catalog {
        let mut catalog = Catalog { rows: Vec::new(), by_name: HashMap::new() };
        for command in families.iter().copied().flatten() {
            let container = catalog.push(command, false);
            let first = catalog.rows.len() as u16;
            for sub in command.subcommands {
                catalog.push(sub, true);
            }
            catalog.rows[container.index()].subcommands = first..catalog.rows.len() as u16;
        }
        assert!(catalog.rows.len() <= WORDS * 64, "a set of commands has a bit for each");
        catalog
    }

    fn push<S>(&mut self, command: &Command<S>, is_subcommand: bool) -> CommandId {
        let id = CommandId(self.rows.len() as u16);
        self.rows.push(Row {
            full_name: command.full_name,
            categories: command.categories(),
            is_subcommand,
            subcommands: 0..0,
        });
        let twice = self.by_name.insert(command.full_name, id);
        assert!(twice.is_none(), "{} stands in the table twice", command.full_name);
        id
    }

    /// The command of that full name (`get`, `config|get`), in any case. An argument behind a command that has no
    /// subcommands makes it unknown.
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let mut lower = [0; LONGEST];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(str::from_utf8(lower).ok()?).copied()
    }

    /// Its name, a subcommand's with its container (`config|get`).
    pub fn full_name(&self, id: CommandId) -> &'static str {
        self.rows[id.index()].full_name
    }

    /// Whether it stands under a container.
    pub(super) fn is_subcommand(&self, id: CommandId) -> bool {
        self.rows[id.index()].is_subcommand
    }

    /// The subcommands of a container.
    pub(super) fn subcommands(&self, id: CommandId) -> impl ExactSizeIterator<Item = CommandId> + use<> {
        self.rows[id.index()].subcommands.clone().map(CommandId)
    }

    fn ids(&self) -> impl Iterator<Item = CommandId> {
        (0..self.rows.len() as u16).map(CommandId)
    }

    /// All commands.
    pub(super) fn everything(&self) -> CommandSet {
        let mut all = CommandSet::default();
        self.ids().for_each(|id| all.set(id, true));
        all
    }

    /// The commands that belong to a category (a bit of [`category`]).
    pub(super) fn members(&self, category: u64) -> impl Iterator<Item = CommandId> {
        self.ids().filter(move |id| self.rows[id.index()].categories & category != 0)
    }

    /// Their full names, for ACL CAT.
    pub fn names_in(&self, category: u64) -> impl Iterator<Item = &'static str> {
        self.members(category).map(|id| self.full_name(id))
    }
}

/// The bit of the category of that name, in any case.
pub fn category(name: &[u8]) -> Option<u64> {
    let known = acl::NAMES.iter().find(|(_, known)| printed(name).eq_ignore_ascii_case(known.as_bytes()));
    known.map(|(bit, _)| *bit)
}

/// The names of all categories, for ACL CAT.
pub fn categories() -> impl ExactSizeIterator<Item = &'static str> {
    acl::NAMES.iter().map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::FAMILIES;

    #[test]
    fn commands_and_subcommands_are_found_by_their_full_names() {
        let catalog = Catalog::new(FAMILIES);
        let name = |argument: &str| catalog.find(argument.as_bytes()).map(|id| catalog.full_name(id));
        assert_eq!(name("GET"), Some("get"));
        assert_eq!(name("Config|SET"), Some("config|set"));
        for unknown in ["", "get|x", "config|", "config|nosuch", "config|get|x", "|get", "nosuch", "set "] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
        assert_eq!(name(&"x".repeat(100)), None);
    }

    #[test]
    fn subcommands_follow_their_container() {
        let catalog = Catalog::new(FAMILIES);
        let config = catalog.find(b"config").unwrap();
        assert!(!catalog.is_subcommand(config));
        assert!(catalog.subcommands(config).len() >= 4);
        for sub in catalog.subcommands(config) {
            assert!(catalog.is_subcommand(sub));
            assert!(catalog.full_name(sub).starts_with("config|"));
        }
        assert_eq!(catalog.subcommands(catalog.find(b"get").unwrap()).len(), 0);
    }

    #[test]
    fn a_category_is_known_by_its_name_in_any_case() {
        assert_eq!(category(b"Read"), Some(acl::READ));
        assert_eq!(category(b"all"), None);
        assert_eq!(category(b""), None);
        assert_eq!(categories().len(), 21);
        let catalog = Catalog::new(FAMILIES);
        let transactions: Vec<_> = catalog.names_in(acl::TRANSACTION).collect();
        assert!(
            ["multi", "exec", "discard", "watch", "unwatch"].iter().all(|name| transactions.contains(name))
        );
        assert!(catalog.names_in(acl::DANGEROUS).any(|name| name == "config|set"));
    }
}
