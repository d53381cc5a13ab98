//! The table of commands: names to rows, and the counts kept for each row.

use std::cell::Cell;
use std::collections::HashMap;

use crate::acl::{Catalog, CommandId};
use crate::client::RowId;
use crate::config::RenameCommand;
use crate::exec::{Args, BeginSearch, CmdError, Command, FindKeys, printed};
use crate::server::{CommandStats, Server};

struct Row {
    command: &'static Command<Server>,
    /// Its first argument behind the name is a key.
    begins_with_key: bool,
    id: CommandId,
    stats: CommandStats,
}

/// A name as it was spelt lately, and its row. Most requests name one of a few commands.
#[derive(Clone, Copy)]
struct Recent {
    name: ShortName,
    row: RowId,
}

const RECENT: usize = 64;

/// A name of up to sixteen bytes in a form that is compared at once.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct ShortName {
    low: u64,
    high: u64,
    len: usize,
}

impl ShortName {
    /// The first and the last bytes of a name, which overlap: with the length they tell the whole of it.
    #[inline]
    fn of(name: &[u8]) -> Option<ShortName> {
        let (low, high) = match name.len() {
            8..=16 => (u64::from_le_bytes(*name.first_chunk()?), u64::from_le_bytes(*name.last_chunk()?)),
            4..=7 => (
                u64::from(u32::from_le_bytes(*name.first_chunk()?)),
                u64::from(u32::from_le_bytes(*name.last_chunk()?)),
            ),
            2..=3 => (
                u64::from(u16::from_le_bytes(*name.first_chunk()?)),
                u64::from(u16::from_le_bytes(*name.last_chunk()?)),
            ),
            _ => return None,
        };
        Some(ShortName { low, high, len: name.len() })
    }

    #[inline]
    fn place(&self) -> usize {
        let mixed = (self.low ^ self.high.rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - RECENT.ilog2())) as usize
    }
}

/// See the head of this file.
pub struct Table {
    by_name: HashMap<Vec<u8>, RowId, ahash::RandomState>,
    rows: Vec<Row>,
    recent: [Cell<Recent>; RECENT],
    /// For each container, its subcommands.
    subcommands: HashMap<*const Command<Server>, Vec<RowId>, ahash::RandomState>,
}

/// Stands where no name was spelt yet: no name has no length.
const NOBODY: Recent = Recent { name: ShortName { low: 0, high: 0, len: 0 }, row: RowId(0) };

/// Longer names than this are nobody's.
const LONGEST: usize = 64;

impl Table {
    /// Makes the table from the rows of all families, which `catalog` numbers.
    ///
    /// # Panics
    /// If a name stands there twice.
    pub fn new(families: &[&'static [Command<Server>]], catalog: &Catalog, seed: u64) -> Table {
        let state = || ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(17), 0x5bd1_e995);
        let mut table = Table {
            by_name: HashMap::with_hasher(state()),
            rows: Vec::new(),
            recent: [const { Cell::new(NOBODY) }; RECENT],
            subcommands: HashMap::with_hasher(state()),
        };
        for command in families.iter().copied().flatten() {
            let id = table.push(command, catalog);
            let twice = table.by_name.insert(command.name.as_bytes().to_vec(), id);
            assert!(twice.is_none(), "{} stands in the table twice", command.name);
            let subs = command.subcommands.iter().map(|sub| table.push(sub, catalog)).collect();
            table.subcommands.insert(command, subs);
        }
        table
    }

    fn push(&mut self, command: &'static Command<Server>, catalog: &Catalog) -> RowId {
        let begins_with_key = command.keys.first().is_some_and(|spec| {
            matches!(spec.begin, BeginSearch::Index(1)) && matches!(spec.find, FindKeys::Range(..))
        });
        let id = catalog.find(command.full_name.as_bytes()).expect("the catalog has all rows");
        self.rows.push(Row { command, begins_with_key, id, stats: CommandStats::default() });
        RowId((self.rows.len() - 1) as u16)
    }

    /// Applies `rename-command`: the command gets another name, or none.
    pub fn rename(&mut self, rename: &RenameCommand) -> Result<(), &'static str> {
        let id = self.find(&rename.old).ok_or("No such command in rename-command")?;
        if !rename.new.is_empty() && self.find(&rename.new).is_some() {
            return Err("Target command name already exists");
        }
        self.by_name.remove(&rename.old.to_ascii_lowercase());
        self.recent.fill(Cell::new(NOBODY));
        if !rename.new.is_empty() {
            self.by_name.insert(rename.new.to_ascii_lowercase(), id);
        }
        Ok(())
    }

    /// The row of a command by its name, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<RowId> {
        let Some(short) = ShortName::of(name) else { return self.look_up(name) };
        let recent = &self.recent[short.place()];
        let known = recent.get();
        if known.name == short {
            return Some(known.row);
        }
        let row = self.look_up(name)?;
        recent.set(Recent { name: short, row });
        Some(row)
    }

    fn look_up(&self, name: &[u8]) -> Option<RowId> {
        let mut lower = [0; LONGEST];
        let lower = lower.get_mut(..name.len())?;
        for (to, from) in lower.iter_mut().zip(name) {
            *to = from.to_ascii_lowercase();
        }
        self.by_name.get(&*lower).copied()
    }

    /// The row that a request names, its subcommand's if it has some; `found` is the row of its first argument.
    pub fn resolve(&self, found: Option<RowId>, args: Args) -> Result<RowId, CmdError> {
        let Some(row) = found else { return Err(unknown_command(args)) };
        let command = self.command(row);
        if command.subcommands.is_empty() || args.len() < 2 {
            return Ok(row);
        }
        self.find_subcommand(row, args.get(1)).ok_or_else(|| unknown_subcommand(command.name, args.get(1)))
    }

    /// Whether a name is none of a command's but how a request of HTTP begins.
    pub fn is_http(&self, name: &[u8]) -> bool {
        ["post", "host:"].iter().any(|argument| name.eq_ignore_ascii_case(argument.as_bytes()))
    }

    /// Whether the first argument behind the command's name is a key.
    pub fn begins_with_key(&self, id: RowId) -> bool {
        self.rows[usize::from(id.0)].begins_with_key
    }

    /// The row of a subcommand of a container.
    pub fn find_subcommand(&self, container: RowId, name: &[u8]) -> Option<RowId> {
        let subs = self.subcommands.get(&std::ptr::from_ref(self.command(container)))?;
        subs.iter().copied().find(|&sub| self.command(sub).name.as_bytes().eq_ignore_ascii_case(name))
    }

    pub fn command(&self, id: RowId) -> &'static Command<Server> {
        self.rows[usize::from(id.0)].command
    }

    /// The number under which rules know the command.
    pub fn command_id(&self, id: RowId) -> CommandId {
        self.rows[usize::from(id.0)].id
    }

    pub fn stats_mut(&mut self, id: RowId) -> &mut CommandStats {
        &mut self.rows[usize::from(id.0)].stats
    }

    /// All rows with their counts, subcommands behind their container.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Command<Server>, &CommandStats)> {
        self.rows.iter().map(|row| (row.command, &row.stats))
    }

    /// The commands by the names under which they can be called, without subcommands, in the order of the table.
    pub fn commands(&self) -> Vec<(&[u8], &'static Command<Server>)> {
        let mut named: Vec<_> = self.by_name.iter().map(|(name, &id)| (id.0, name.as_slice())).collect();
        named.sort_unstable();
        named.into_iter().map(|(id, name)| (name, self.rows[usize::from(id)].command)).collect()
    }

    /// Number of commands, without subcommands.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Forgets all counts (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        for row in &mut self.rows {
            row.stats = CommandStats::default();
        }
    }
}

fn unknown_subcommand(container: &str, name: &[u8]) -> CmdError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    let shown = printed(name);
    text.extend_from_slice(&shown[..shown.len().min(128)]);
    text.extend_from_slice(format!("'. Try {} HELP.", container.to_uppercase()).as_bytes());
    CmdError::bytes(text)
}

/// The text quotes the beginning of the arguments, each up to its first zero byte.
fn unknown_command(args: Args) -> CmdError {
    let beginning = |arg: &'_ [u8], room: usize| arg.iter().take(room).take_while(|&&byte| byte != 0).count();
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&args.get(0)[..beginning(args.get(0), 128)]);
    text.extend_from_slice(b"', with args beginning with: ");
    let mut quoted: Vec<u8> = Vec::new();
    for arg in args.from(1) {
        if quoted.len() >= 128 {
            break;
        }
        let end = beginning(arg, 128 - quoted.len());
        quoted.push(b'\'');
        quoted.extend_from_slice(&arg[..end]);
        quoted.extend_from_slice(b"' ");
    }
    text.extend_from_slice(&quoted);
    CmdError::bytes(text)
}
