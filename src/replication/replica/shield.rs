//! The empty-master shield (`replica-empty-master-shield`): a master that we were in sync with, and that comes back at the
//! same address with another history and hardly any keys, has lost its data; ours is the copy that is left. It is kept and
//! served until REPLICAOF is given again, or the directive says no.
//!
//! How many keys a dump holds is counted in the dump itself, for as long as a turn may take, and reckoned from there on.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{Linking, MasterLink, Standing};
use crate::env::ticks;
use crate::persistence::rdb::{Checks, Reader, Record};

/// A master that holds less than one key of so many of ours has hardly any.
const SHARE: u64 = 10;
/// How long the keys of a dump are counted.
const COUNTING: Duration = Duration::from_millis(100);
/// The clock is asked after so many records.
const ASK_EVERY: u64 = 256;
/// When a master is asked again from which we were shielded, in ms.
pub const ASK_AGAIN_MS: u64 = 10_000;

/// What we were shielded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shielded {
    /// Keys of the master, and ours.
    pub theirs: u64,
    pub ours: u64,
}

impl fmt::Display for Shielded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Shielded { theirs, ours } = self;
        write!(
            f,
            "The master was in sync and has come back with another history and {theirs} keys, where this replica holds {ours}: they are kept (replica-empty-master-shield). Give REPLICAOF again to replace them"
        )
    }
}

impl Standing {
    /// Whether a dump of this stream may be one that we have to be shielded from.
    pub(super) fn may_need_shield(&self, id: Option<&str>, cx: &Linking) -> bool {
        let other = id.is_none_or(|id| id != cx.history.id);
        cx.config.replica_empty_master_shield && self.was_in_sync && other && cx.keyspace.keys() > 0
    }

    /// What we have to be shielded from, given a dump that has come.
    pub(super) fn shielded_from(&self, id: Option<&str>, dump: &Path, cx: &Linking) -> Option<Shielded> {
        if !self.may_need_shield(id, cx) {
            return None;
        }
        let ours = cx.keyspace.keys() as u64;
        // A dump that cannot be read is the loader's to refuse.
        let theirs = count_keys(dump, ours.div_ceil(SHARE)).ok()?;
        (theirs * SHARE < ours).then_some(Shielded { theirs, ours })
    }
}

impl MasterLink {
    /// What we are shielded from, while we are.
    pub fn shielded(&self) -> Option<Shielded> {
        self.standing.shielded
    }
}

/// How many keys a dump holds; no further than `enough`.
fn count_keys(dump: &Path, enough: u64) -> Result<u64, std::io::Error> {
    let file = File::open(dump)?;
    let len = file.metadata()?.len();
    let invalid = |_| std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut reader = Reader::new(file, Checks { checksum: false, version: false }).map_err(invalid)?;
    let (mut keys, mut records) = (0, 0u64);
    let began = ticks::now();
    while keys < enough {
        match reader.next_record().map_err(invalid)? {
            None | Some(Record::Eof { .. }) => break,
            Some(Record::Entry(_)) => keys += 1,
            Some(_) => {}
        }
        records += 1;
        if records.is_multiple_of(ASK_EVERY) && ticks::ns_since(began) > COUNTING.as_nanos() as u64 {
            // The rest is taken to be like the beginning.
            return Ok(u64::try_from(
                u128::from(keys) * u128::from(len) / u128::from(reader.offset().max(1)),
            )
            .unwrap_or(keys));
        }
    }
    Ok(keys)
}
