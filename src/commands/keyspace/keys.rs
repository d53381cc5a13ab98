//! Keys whatever they hold: DEL, EXISTS, TYPE, RENAME, RANDOMKEY, KEYS, TOUCH.
//!
//! Nothing here looks into a value; what depends on its type is asked of the entry.

use crate::exec::{Arg, ArgKind};
use crate::exec::{
    CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*, key, key_flags as kf,
};
use crate::keyspace::{Class, DbView, Expired};
use crate::server::Server;
use crate::structures::glob::Pattern;
use crate::types::Entry;

/// All arguments behind the name are keys.
const KEYS: &[Arg] = &[key("key", 0).multiple()];
const ALL_SHARDS_SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

pub const COMMANDS: &[Command<Server>] = &[
    data("del", del, -2)
        .flags(WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RM | kf::DELETE, 1, -1, 1)])
        .doc(
            Group::Generic,
            "1.0.0",
            "O(N + M) for N keys whose values have M elements in all",
            "Deletes keys.",
        )
        .tips(ALL_SHARDS_SUM)
        .args(KEYS),
    data("unlink", unlink, -2)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RM | kf::DELETE, 1, -1, 1)])
        .doc(
            Group::Generic,
            "4.0.0",
            "O(N) for N keys; big values are freed by another thread",
            "Deletes keys, and frees their values in the background.",
        )
        .tips(ALL_SHARDS_SUM)
        .args(KEYS),
    data("exists", exists, -2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RO, 1, -1, 1)])
        .doc(Group::Generic, "1.0.0", "O(N) for N keys", "Counts the keys that exist.")
        .history(&[("3.0.3", "Takes several keys.")])
        .tips(ALL_SHARDS_SUM)
        .args(KEYS),
    data("type", type_, 2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RO, 1, 1, 1)])
        .doc(Group::Generic, "1.0.0", "O(1)", "Tells the type of a key's value.")
        .args(&[key("key", 0)]),
    data("touch", touch, -2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RO, 1, -1, 1)])
        .doc(
            Group::Generic,
            "3.2.1",
            "O(N) for N keys",
            "Counts the keys that exist, and notes that they were used.",
        )
        .tips(ALL_SHARDS_SUM)
        .args(KEYS),
    data("rename", rename, 3)
        .flags(WRITE)
        .acl(acl::KEYSPACE)
        .keys(&[
            KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1),
            KeySpec::range(kf::OW | kf::UPDATE, 2, 2, 1),
        ])
        .doc(Group::Generic, "1.0.0", "O(1)", "Gives a key another name, over whatever had that name.")
        .args(&[key("key", 0), key("newkey", 1)]),
    data("renamenx", renamenx, 3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[
            KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1),
            KeySpec::range(kf::OW | kf::INSERT, 2, 2, 1),
        ])
        .doc(Group::Generic, "1.0.0", "O(1)", "Gives a key another name, unless that name is taken.")
        .history(&[("3.2.0", "Two equal names are no error.")])
        .args(&[key("key", 0), key("newkey", 1)]),
    data("randomkey", randomkey, 1)
        .flags(READONLY | TOUCHES_ARBITRARY_KEYS)
        .acl(acl::KEYSPACE)
        .doc(Group::Generic, "1.0.0", "O(1)", "Names a key chosen by chance.")
        .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"]),
    data("keys", keys, 2)
        .flags(READONLY)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc(
            Group::Generic,
            "1.0.0",
            "O(N) for N keys in the database",
            "Names all keys that match a pattern.",
        )
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .args(&[arg("pattern", ArgKind::Pattern)]),
];

/// Looks at a key without noting a use of it, though the look counts as a hit or a miss.
pub(in crate::commands) fn look<T>(db: &mut DbView, key: &[u8], read: impl FnOnce(&Entry) -> T) -> Option<T> {
    let found = look_silently(db, key, read);
    if found.is_none() {
        db.event(key, Class::KEY_MISS, "keymiss");
    }
    found
}

/// As [`look`], but nobody is told of a miss.
pub(in crate::commands) fn look_silently<T>(
    db: &mut DbView,
    key: &[u8],
    read: impl FnOnce(&Entry) -> T,
) -> Option<T> {
    let found = db.peek(key).map(read);
    match found {
        Some(_) => db.stats.hits += 1,
        None => db.stats.misses += 1,
    }
    found
}

/// Whether an entry's time has come, where that matters to who looks.
pub(in crate::commands) fn is_expired(db: &DbView, entry: &Entry) -> bool {
    entry.expiry().is_some_and(|at| at < db.turn.now_ms) && db.turn.expired != Expired::Show
}

/// DEL key [key ...]
fn del(ctx: &mut Ctx) -> CmdResult {
    let lazily = ctx.db.turn.lazy_user_del;
    delete(ctx, lazily)
}

/// UNLINK key [key ...]
fn unlink(ctx: &mut Ctx) -> CmdResult {
    delete(ctx, true)
}

fn delete(ctx: &mut Ctx, lazily: bool) -> CmdResult {
    let mut deleted = 0;
    for key in ctx.args.from(1) {
        // An expired key is deleted as such here, and not counted; where it is only hidden, it is there to delete.
        ctx.db.peek(key);
        let Some(entry) = ctx.db.db.remove(key) else { continue };
        ctx.db.freer.free(entry, lazily);
        ctx.db.changed(key, Class::GENERIC, "del");
        deleted += 1;
    }
    ctx.reply.int(deleted);
    Ok(Done)
}

/// EXISTS key [key ...]
fn exists(ctx: &mut Ctx) -> CmdResult {
    let count = ctx.args.from(1).filter(|key| look(&mut ctx.db, key, |_| ()).is_some()).count();
    ctx.reply.int(count as i64);
    Ok(Done)
}

/// TYPE key
fn type_(ctx: &mut Ctx) -> CmdResult {
    let name = look(&mut ctx.db, ctx.args.key(), Entry::type_name);
    ctx.reply.simple(name.unwrap_or("none"));
    Ok(Done)
}

/// TOUCH key [key ...]
fn touch(ctx: &mut Ctx) -> CmdResult {
    let count = ctx.args.from(1).filter(|key| ctx.db.read(key).is_some()).count();
    ctx.reply.int(count as i64);
    Ok(Done)
}

/// RENAME key newkey
fn rename(ctx: &mut Ctx) -> CmdResult {
    rename_unless(ctx, false)?;
    ctx.reply.ok();
    Ok(Done)
}

/// RENAMENX key newkey
fn renamenx(ctx: &mut Ctx) -> CmdResult {
    let renamed = rename_unless(ctx, true)?;
    ctx.reply.int(i64::from(renamed));
    Ok(Done)
}

/// Renames a key, unless the other name `must_be_free` and is not. Says whether it did.
fn rename_unless(ctx: &mut Ctx, must_be_free: bool) -> Result<bool, CmdError> {
    let (from, to) = (ctx.args.get(1), ctx.args.get(2));
    let db = &mut ctx.db;
    if db.write(from).is_none() {
        return Err(CmdError::NO_SUCH_KEY);
    }
    if from == to || db.exists(to) && must_be_free {
        return Ok(false);
    }
    let entry = db.db.remove(from).expect("it was found just now");
    let mut entry = entry.rename(to);
    entry.set_lru(db.turn.stamp.fresh());
    replace(db, entry);
    db.changed(from, Class::GENERIC, "rename_from");
    db.changes.touch(db.index, to);
    db.event(to, Class::GENERIC, "rename_to");
    Ok(true)
}

/// Puts an entry in the place of whatever has its key.
pub(in crate::commands) fn replace(db: &mut DbView, entry: Entry) {
    // Also what is expired and only hidden has to go.
    if let Some(old) = db.db.remove(entry.key()) {
        db.freer.free(old, db.turn.lazy_server_del);
    }
    db.insert(entry);
}

/// How often RANDOMKEY tries to find a key that is not expired where it may not delete those that are.
const RANDOM_TRIES: usize = 100;

/// RANDOMKEY
fn randomkey(ctx: &mut Ctx) -> CmdResult {
    let mut tries = 0;
    let key = loop {
        let Some(entry) = ctx.db.db.dict().random(&mut || ctx.rng.next_u64()) else { break None };
        let key = entry.key().to_vec();
        if entry.expiry().is_none() {
            break Some(key);
        }
        // If every key can be expired, and hidden keys are all there are, an expired one has to do.
        let all_volatile = ctx.db.db.volatile() == ctx.db.db.len();
        tries += 1;
        if ctx.db.exists(&key)
            || all_volatile && ctx.db.turn.expired != Expired::Delete && tries == RANDOM_TRIES
        {
            break Some(key);
        }
    };
    ctx.reply.bulk_or_null(key.as_deref());
    Ok(Done)
}

/// KEYS pattern
fn keys(ctx: &mut Ctx) -> CmdResult {
    // The lone star means all keys, the empty one included, which it does not match.
    let pattern = Some(ctx.args.get(1)).filter(|pattern| *pattern != b"*").map(Pattern::new);
    let names = ctx.reply.defer_array();
    let mut count = 0;
    for entry in ctx.db.db.dict().iter() {
        let wanted = pattern.as_ref().is_none_or(|pattern| pattern.matches(entry.key()));
        if wanted && !is_expired(&ctx.db, entry) {
            ctx.reply.bulk(entry.key());
            count += 1;
        }
        if ctx.reply.is_full() {
            break;
        }
    }
    ctx.reply.close(names, count);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.changes.notify = Class::ALL | Class::NEW | Class::KEY_MISS;
        let now = bench.turn.now_ms;
        let mut view = bench.keyspace.view(0, &mut bench.changes, &bench.turn);
        view.add(b"a", None, NewValue::Str(b"value"));
        view.add(b"n", None, NewValue::Str(b"12"));
        view.add(b"soon", Some(now), NewValue::Str(b"not yet"));
        view.add(b"gone", Some(now - 1), NewValue::Str(b"expired"));
        bench
    }

    fn events(bench: &Bench<Server>) -> Vec<String> {
        bench
            .changes
            .events()
            .iter()
            .map(|event| format!("{} {}", event.name, String::from_utf8_lossy(&event.key)))
            .collect()
    }

    #[test]
    fn deleting_counts_what_was_there_and_tells_of_what_had_expired() {
        let mut bench = bench();
        assert_eq!(bench.run("DEL a nobody gone a"), ":1\r\n");
        assert_eq!(bench.changes.dirty, 1);
        assert_eq!(events(&bench), ["del a", "expired gone"]);
        assert_eq!(bench.propagated(), ["0: DEL gone"]);
        assert_eq!(bench.run("UNLINK soon n"), ":2\r\n");
        assert_eq!(bench.changes.dirty, 2);
    }

    #[test]
    fn a_replica_hides_what_has_expired_and_still_deletes_it_when_told() {
        let mut bench = bench();
        bench.turn.expired = Expired::Hide;
        assert_eq!(bench.run("EXISTS gone"), ":0\r\n");
        assert!(bench.propagated().is_empty());
        assert_eq!(bench.run("DEL gone"), ":1\r\n");
    }

    #[test]
    fn existing_keys_are_counted_as_often_as_they_are_named() {
        let mut bench = bench();
        assert_eq!(bench.run("EXISTS a a nobody gone"), ":2\r\n");
        assert_eq!((bench.keyspace.stats.hits, bench.keyspace.stats.misses), (2, 2));
        assert_eq!(events(&bench), ["keymiss nobody", "expired gone", "keymiss gone"]);
        assert_eq!(bench.run("TOUCH a nobody"), ":1\r\n");
    }

    #[test]
    fn the_type_of_nothing_is_none() {
        let mut bench = bench();
        assert_eq!(bench.run("TYPE n"), "+string\r\n");
        assert_eq!(bench.run("TYPE gone"), "+none\r\n");
    }

    #[test]
    fn renaming_takes_the_expiry_along_and_overwrites_what_is_there() {
        let mut bench = bench();
        assert_eq!(bench.run("RENAME soon a"), "+OK\r\n");
        assert_eq!(bench.changes.dirty, 1);
        assert_eq!(events(&bench), ["new a", "rename_from soon", "rename_to a"]);
        assert_eq!(bench.keyspace.db(0).get(b"a").unwrap().expiry(), Some(bench.turn.now_ms));
        assert_eq!(bench.run("RENAME nobody a"), "-ERR no such key\r\n");
        assert_eq!(bench.run("RENAMENX a n"), ":0\r\n");
        assert_eq!(bench.run("RENAMENX a a"), ":0\r\n");
        assert_eq!(bench.run("RENAME a a"), "+OK\r\n");
        assert_eq!(bench.changes.dirty, 0);
        assert_eq!(bench.run("RENAMENX a gone"), ":1\r\n");
        assert_eq!(bench.propagated(), ["0: DEL gone"]);
    }

    #[test]
    fn a_random_key_is_one_that_has_not_expired() {
        let mut bench = bench();
        assert_eq!(bench.run("DEL a n"), ":2\r\n");
        for _ in 0..20 {
            assert_eq!(bench.run("RANDOMKEY"), "$4\r\nsoon\r\n");
        }
        assert_eq!(bench.run("DEL soon"), ":1\r\n");
        assert_eq!(bench.run("RANDOMKEY"), "$-1\r\n");
        bench.turn.now_ms += 1;
        let ended = bench.turn.now_ms - 1;
        bench.keyspace.db_mut(0).set(b"ended", Some(ended), NewValue::Int(1));
        bench.turn.expired = Expired::Hide;
        assert_eq!(bench.run("RANDOMKEY"), "$5\r\nended\r\n");
    }

    #[test]
    fn keys_lists_what_matches_and_has_not_expired() {
        let mut bench = bench();
        assert_eq!(bench.run("KEYS so*"), "*1\r\n$4\r\nsoon\r\n");
        assert_eq!(bench.run("KEYS g*"), "*0\r\n");
        assert!(bench.run("KEYS *").starts_with("*3\r\n"));
        assert_eq!(bench.keyspace.db(0).len(), 4);
        bench.keyspace.db_mut(0).set(b"", None, NewValue::Int(1));
        assert!(bench.run("KEYS *").starts_with("*4\r\n"));
    }
}
