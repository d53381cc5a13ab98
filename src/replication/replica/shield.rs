//! The empty-master shield (`replica-empty-master-shield`): a master that we were in sync with, and that comes back at the
//! same address with another history and hardly any keys, has lost its data; ours is the copy that is left. It is kept and
//! served until REPLICAOF is given again, or the directive says no.
//!
//! How many keys a dump holds is seen in the dump itself, from what stands in its beginning: the loop does not wait for more.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{Linking, MasterLink, Standing};
use crate::persistence::rdb::{Checks, Reader, Record};

/// A master that holds less than one key of so many of ours has hardly any.
const SHARE: u64 = 10;
/// So many bytes of a dump are looked at, which takes a few ms.
const BEGINNING: u64 = 1 << 20;
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

/// How many keys a dump holds; no further than `enough`. No more than its beginning is read: what the dump says of its
/// databases counts for those that begin there, and the rest is taken to be like the beginning.
fn count_keys(dump: &Path, enough: u64) -> io::Result<u64> {
    let file = File::open(dump)?;
    let len = file.metadata()?.len();
    let invalid = |_| io::Error::from(ErrorKind::InvalidData);
    let beginning = file.take(BEGINNING);
    let mut reader = Reader::new(beginning, Checks { checksum: false, version: false }).map_err(invalid)?;
    let (mut keys, mut said, mut offset) = (0, 0u64, 0);
    while keys.max(said) < enough {
        match reader.next_record() {
            Ok(None | Some(Record::Eof { .. })) => return Ok(keys),
            Ok(Some(Record::Entry(_))) => keys += 1,
            Ok(Some(Record::ResizeDb { keys, .. })) => said = said.saturating_add(keys),
            Ok(Some(_)) => {}
            Err(_) if len > BEGINNING => {
                let alike = u128::from(keys) * u128::from(len) / u128::from(offset.max(1));
                let alike = u64::try_from(alike).unwrap_or(enough);
                return Ok(alike.max(said).min(enough));
            }
            Err(why) => return Err(invalid(why)),
        }
        offset = reader.offset();
    }
    Ok(enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::rdb::{Writer, WriterOptions};

    /// A dump of databases: what each says of its number of keys, the bytes of its first value, and how many small ones
    /// stand behind it.
    fn dump(databases: &[(Option<u64>, usize, usize)]) -> tempfile::NamedTempFile {
        let mut writer =
            Writer::new(Vec::new(), WriterOptions { compress: false, ..WriterOptions::default() });
        writer.header().unwrap();
        for (db, &(said, first, small)) in databases.iter().enumerate() {
            writer.select_db(db as u64).unwrap();
            if let Some(keys) = said {
                writer.resize_db(keys, 0).unwrap();
            }
            writer.string_entry(b"first", &vec![b'x'; first]).unwrap();
            for number in 0..small {
                writer.string_entry(number.to_string().as_bytes(), b"v").unwrap();
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), writer.finish().unwrap()).unwrap();
        file
    }

    fn count(databases: &[(Option<u64>, usize, usize)], enough: u64) -> u64 {
        count_keys(dump(databases).path(), enough).unwrap()
    }

    #[test]
    fn few_keys_are_counted() {
        assert_eq!(count(&[(None, 1, 9)], 1000), 10);
        assert_eq!(count(&[(Some(10), 1, 9), (Some(6), 1, 5)], 1000), 16);
        assert_eq!(count(&[(None, 1, 5000)], 1000), 1000, "no further than enough");
    }

    #[test]
    fn a_big_value_does_not_hide_the_keys_behind_it() {
        // The dump says how many keys there are, before any of them.
        assert_eq!(count(&[(Some(5001), 20 << 20, 5000)], 1000), 1000);
        assert_eq!(count(&[(Some(5001), 20 << 20, 5000)], 100_000), 5001);
    }

    #[test]
    fn what_is_no_dump_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"no dump").unwrap();
        assert!(count_keys(file.path(), 10).is_err());
        let mut cut = std::fs::read(dump(&[(None, 1, 9)]).path()).unwrap();
        cut.truncate(cut.len() / 2);
        std::fs::write(file.path(), &cut).unwrap();
        assert!(count_keys(file.path(), 10).is_err());
    }
}
