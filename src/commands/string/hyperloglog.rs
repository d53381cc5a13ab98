//! The HyperLogLog family: strings that estimate how many different elements they have seen.
//!
//! The estimate is kept in the value itself, so that PFCOUNT, which looks like reading, changes it now and then; that
//! goes to replicas like any change.

use std::sync::Arc;

use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*, key,
    key_flags as kf, printed,
};
use crate::keyspace::Class;
use crate::server::Server;
use crate::structures::hyperloglog::{self, Encoding, Union};
use crate::types::{Entry, NewValue, Shared};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("pfadd", pfadd, -2)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec::range(kf::RW | kf::INSERT, 1, 1, 1)])
        .doc(
            Group::HyperLogLog,
            "2.8.9",
            "O(1) for each element",
            "Adds elements to a HyperLogLog; creates the key where it is missing.",
        )
        .args(&[key("key", 0), arg("element", ArgKind::String).optional().multiple()]),
    data("pfcount", pfcount, -2)
        .flags(READONLY | MAY_REPLICATE)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec {
            notes: Some("The estimate is kept in the value, which changes it, and goes to replicas."),
            ..KeySpec::range(kf::RW | kf::ACCESS, 1, -1, 1)
        }])
        .doc(
            Group::HyperLogLog,
            "2.8.9",
            "O(1) for one key, O(N) for the union of N keys, with a much larger constant",
            "Estimates how many different elements were added to HyperLogLogs.",
        )
        .args(&[key("key", 0).multiple()]),
    data("pfmerge", pfmerge, -2)
        .flags(WRITE | DENYOOM)
        .acl(acl::HYPERLOGLOG)
        .keys(&[
            KeySpec::range(kf::RW | kf::ACCESS | kf::INSERT, 1, 1, 1),
            KeySpec::range(kf::RO | kf::ACCESS, 2, -1, 1),
        ])
        .doc(
            Group::HyperLogLog,
            "2.8.9",
            "O(N) for N HyperLogLogs, with a large constant",
            "Makes a HyperLogLog the union of several.",
        )
        .args(&[key("destkey", 0), key("sourcekey", 1).optional().multiple()]),
    data("pfdebug", pfdebug, 3)
        .flags(WRITE | DENYOOM | ADMIN)
        .acl(acl::HYPERLOGLOG)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS, 2, 2, 1)])
        .doc(Group::HyperLogLog, "2.8.9", "N/A", "Shows what is inside a HyperLogLog.")
        .syscmd()
        .args(&[arg("subcommand", ArgKind::String), key("key", 0)]),
    data("pfselftest", pfselftest, 1)
        .flags(ADMIN)
        .acl(acl::HYPERLOGLOG)
        .doc(Group::HyperLogLog, "2.8.9", "N/A", "Tests the implementation of HyperLogLogs.")
        .syscmd(),
];

fn error(why: hyperloglog::Error) -> CmdError {
    CmdError::new(why.to_string())
}

/// Whether a value may be a HyperLogLog at all.
fn check(entry: &Entry) -> Result<Encoding, CmdError> {
    let string = entry.str().ok_or(CmdError::WRONG_TYPE)?;
    hyperloglog::encoding(&string.text()).map_err(error)
}

/// Edits a value that was checked. The string is `raw` from then on, as everything that is edited.
fn edit<T>(entry: &mut Entry, with: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    if let Some(bytes) = entry.object_mut::<Shared>() {
        return with(Arc::make_mut(bytes));
    }
    let mut bytes = entry.str().map_or_else(Vec::new, |string| string.text().into_owned());
    let result = with(&mut bytes);
    entry.set(entry.expiry(), NewValue::Edited(bytes));
    result
}

/// PFADD key [element [element ...]]
fn pfadd(ctx: &mut Ctx) -> CmdResult {
    let (key, sparse_max) = (ctx.args.key(), ctx.limits.hll_sparse_bytes as usize);
    let elements = ctx.args.from(2);
    let add = |hll: &mut Vec<u8>| {
        let mut updated = 0;
        for element in elements.clone() {
            updated += u64::from(hyperloglog::add(hll, element, sparse_max).map_err(error)?);
        }
        Ok(updated)
    };
    let updated = match ctx.db.write(key) {
        Some(entry) => {
            check(entry)?;
            edit(entry, add)?
        }
        None => {
            let mut hll = hyperloglog::new();
            let updated = add(&mut hll)?;
            hyperloglog::invalidate(&mut hll).map_err(error)?;
            ctx.db.add(key, None, NewValue::Edited(hll));
            updated + 1
        }
    };
    if updated > 0 {
        ctx.db.changed(key, Class::STRING, "pfadd");
        ctx.db.changes.dirty += updated - 1;
    }
    ctx.reply.int(i64::from(updated > 0));
    Ok(Done)
}

/// PFCOUNT key [key ...]
fn pfcount(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    if ctx.args.len() > 2 {
        let union = union_of(ctx)?;
        ctx.reply.int(union.count());
        return Ok(Done);
    }
    let Some(entry) = ctx.db.read(key) else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    check(entry)?;
    let bytes = entry.str().ok_or(CmdError::WRONG_TYPE)?.text();
    if let Some(count) = hyperloglog::cached(&bytes).map_err(error)? {
        ctx.reply.int(count);
        return Ok(Done);
    }
    let count = hyperloglog::count(&bytes).map_err(error)?;
    drop(bytes);
    if let Some(entry) = ctx.db.db.get_mut(key) {
        edit(entry, |hll| hyperloglog::set_cached(hll, count)).map_err(error)?;
        ctx.db.changes.dirty += 1;
        ctx.db.changes.touch(ctx.db.index, key);
    }
    ctx.reply.int(count);
    Ok(Done)
}

/// What the HyperLogLogs at all keys have seen together.
fn union_of(ctx: &mut Ctx) -> Result<Union, CmdError> {
    let mut union = Union::new();
    for key in ctx.args.from(1) {
        let Some(entry) = ctx.db.read(key) else { continue };
        check(entry)?;
        union.merge(&entry.str().ok_or(CmdError::WRONG_TYPE)?.text()).map_err(error)?;
    }
    Ok(union)
}

/// PFMERGE destkey [sourcekey [sourcekey ...]]
fn pfmerge(ctx: &mut Ctx) -> CmdResult {
    let (key, sparse_max) = (ctx.args.key(), ctx.limits.hll_sparse_bytes as usize);
    let union = union_of(ctx)?;
    match ctx.db.write(key) {
        Some(entry) => edit(entry, |hll| union.store(hll, sparse_max)).map_err(error)?,
        None => {
            let mut hll = hyperloglog::new();
            union.store(&mut hll, sparse_max).map_err(error)?;
            ctx.db.add(key, None, NewValue::Edited(hll));
        }
    }
    ctx.db.changed(key, Class::STRING, "pfadd");
    ctx.reply.ok();
    Ok(Done)
}

/// PFDEBUG GETREG|DECODE|ENCODING|TODENSE key
fn pfdebug(ctx: &mut Ctx) -> CmdResult {
    let (subcommand, key) = (ctx.args.get(1), ctx.args.get(2));
    let Some(entry) = ctx.db.write(key) else {
        return Err(CmdError::text("ERR The specified key does not exist"));
    };
    let encoding = check(entry)?;
    // Whatever is asked, the string is one's own from now on, as if it had been edited.
    edit(entry, |_| ());
    let to_dense = |entry: &mut Entry| edit(entry, hyperloglog::to_dense).map_err(error);
    match subcommand.to_ascii_lowercase().as_slice() {
        b"getreg" => {
            let converted = encoding == Encoding::Sparse && to_dense(entry)?;
            let registers = entry.str().map(|string| hyperloglog::registers(&string.text()));
            let registers = registers.transpose().map_err(error)?.unwrap_or_default();
            ctx.db.changes.dirty += u64::from(converted);
            ctx.reply.array(registers.len());
            registers.into_iter().for_each(|register| ctx.reply.int(register));
        }
        b"decode" => {
            let text = entry.str().map(|string| hyperloglog::decode(&string.text()));
            match text.transpose().map_err(error)?.flatten() {
                Some(text) => ctx.reply.bulk(text.as_bytes()),
                None => return Err(CmdError::text("ERR HLL encoding is not sparse")),
            }
        }
        b"encoding" => ctx.reply.simple(encoding.name()),
        b"todense" => {
            let converted = encoding == Encoding::Sparse && to_dense(entry)?;
            ctx.db.changes.dirty += u64::from(converted);
            ctx.reply.int(i64::from(converted));
        }
        _ => {
            let mut text = b"ERR Unknown PFDEBUG subcommand '".to_vec();
            text.extend_from_slice(printed(subcommand));
            text.push(b'\'');
            return Err(CmdError::bytes(text));
        }
    }
    Ok(Done)
}

/// PFSELFTEST
fn pfselftest(ctx: &mut Ctx) -> CmdResult {
    let sparse_max = ctx.limits.hll_sparse_bytes as usize;
    hyperloglog::self_test(sparse_max, &mut || ctx.rng.next_u64())
        .map_err(|why| CmdError::new(format!("ERR {why}")))?;
    ctx.reply.ok();
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;

    #[test]
    fn a_count_is_kept_until_something_is_added() {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS]);
        assert_eq!(bench.run("PFADD h a b c"), ":1\r\n");
        assert_eq!(bench.changes.dirty, 4);
        assert_eq!(bench.run("PFADD h a"), ":0\r\n");
        assert!(bench.changes.is_empty());
        assert_eq!(bench.run("PFCOUNT h"), ":3\r\n");
        assert_eq!(bench.changes.dirty, 1);
        assert_eq!(bench.run("PFCOUNT h"), ":3\r\n");
        assert!(bench.changes.is_empty());
        assert_eq!(bench.run("PFADD other c d"), ":1\r\n");
        assert_eq!(bench.run("PFCOUNT h other none"), ":4\r\n");
        assert_eq!(bench.run("PFMERGE all h other"), "+OK\r\n");
        assert_eq!(bench.run("PFCOUNT all"), ":4\r\n");
        assert_eq!(bench.run("PFDEBUG ENCODING all"), "+sparse\r\n");
        assert_eq!(bench.run("PFDEBUG TODENSE all"), ":1\r\n");
        assert_eq!(bench.run("PFDEBUG TODENSE all"), ":0\r\n");
        assert_eq!(bench.run("PFDEBUG DECODE all"), "-ERR HLL encoding is not sparse\r\n");
        assert_eq!(bench.run("PFCOUNT all"), ":4\r\n");
    }

    #[test]
    fn other_strings_are_refused() {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS]);
        bench.keyspace.db_mut(0).set(b"s", None, NewValue::Str(b"HYLL"));
        let refused = "-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
        for line in ["PFADD s a", "PFCOUNT s", "PFCOUNT s t", "PFMERGE s", "PFMERGE d s", "PFDEBUG GETREG s"]
        {
            assert_eq!(bench.run(line), refused, "{line}");
        }
        bench.keyspace.db_mut(0).set(b"stored", None, NewValue::Str(&hyperloglog::new()));
        assert_eq!(
            bench.keyspace.db(0).get(b"stored").and_then(Entry::str).map(|it| it.encoding()),
            Some("embstr")
        );
        bench.run("PFDEBUG ENCODING stored");
        assert_eq!(
            bench.keyspace.db(0).get(b"stored").and_then(Entry::str).map(|it| it.encoding()),
            Some("raw")
        );
        assert_eq!(bench.run("PFDEBUG X none"), "-ERR The specified key does not exist\r\n");
        bench.run("PFADD h");
        assert_eq!(bench.run("PFDEBUG X h"), "-ERR Unknown PFDEBUG subcommand 'X'\r\n");
    }
}
