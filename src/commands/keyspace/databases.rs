//! Databases as wholes, and keys that go from one to another: SELECT, DBSIZE, SWAPDB, FLUSHDB, FLUSHALL, MOVE, COPY.

use crate::client::ClientId;
use crate::commands::keyspace::keys::replace;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*,
    key, key_flags as kf, one_of, server, token,
};
use crate::keyspace::{Changes, Class, Keyspace, Propagate, Turn};
use crate::server::Server;

const FLUSH_ARGS: &[Arg] =
    &[one_of("flush-type", &[token("async", "ASYNC").since("4.0.0"), token("sync", "SYNC").since("6.2.0")])
        .optional()];
const FLUSH_HISTORY: &[(&str, &str)] =
    &[("4.0.0", "Takes the word `ASYNC`."), ("6.2.0", "Takes the word `SYNC`.")];
const FLUSH_TIPS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub const COMMANDS: &[Command<Server>] = &[
    server("select", select, 2)
        .flags(LOADING | STALE | FAST)
        .acl(acl::CONNECTION)
        .doc(Group::Connection, "1.0.0", "O(1)", "Chooses the database that this connection works on.")
        .args(&[arg("index", ArgKind::Integer)]),
    data("dbsize", dbsize, 1)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .doc(Group::Server, "1.0.0", "O(1)", "Counts the keys of the database.")
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    server("swapdb", swapdb, 3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc(
            Group::Server,
            "4.0.0",
            "O(N) for N clients that watch keys of the two databases or wait for some",
            "Exchanges two databases.",
        )
        .args(&[arg("index1", ArgKind::Integer), arg("index2", ArgKind::Integer)]),
    server("flushdb", flushdb, -1)
        .flags(WRITE)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc(Group::Server, "1.0.0", "O(N) for N keys in the database", "Deletes all keys of the database.")
        .history(FLUSH_HISTORY)
        .tips(FLUSH_TIPS)
        .args(FLUSH_ARGS),
    server("flushall", flushall, -1)
        .flags(WRITE)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .doc(Group::Server, "1.0.0", "O(N) for N keys in all databases", "Deletes all keys of all databases.")
        .history(FLUSH_HISTORY)
        .tips(FLUSH_TIPS)
        .args(FLUSH_ARGS),
    server("move", move_, 3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::UPDATE, 1, 1, 1)])
        .doc(Group::Generic, "1.0.0", "O(1)", "Takes a key to another database.")
        .args(&[key("key", 0), arg("db", ArgKind::Integer)]),
    server("copy", copy, -3)
        .flags(WRITE | DENYOOM)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1), KeySpec::range(kf::OW | kf::UPDATE, 2, 2, 1)])
        .doc(
            Group::Generic,
            "6.2.0",
            "O(N) for N elements of the value, O(1) for strings",
            "Copies the value of a key to another key.",
        )
        .args(&[
            key("source", 0),
            key("destination", 1),
            arg("destination-db", ArgKind::Integer).token("DB").optional(),
            token("replace", "REPLACE").optional(),
        ]),
];

/// An argument that is to number a database, where Redis reads a C `int`; `named` is the error for what is none.
fn number(argument: &[u8], named: Option<CmdError>) -> Result<i64, CmdError> {
    match (crate::protocol::number::parse_int(argument), named) {
        (Some(n), _) if i32::try_from(n).is_ok() => Ok(n),
        (_, Some(error)) => Err(error),
        (None, None) => Err(CmdError::NOT_INTEGER),
        (Some(_), None) => {
            Err(CmdError::text("ERR value is out of range, value must between -2147483648 and 2147483647"))
        }
    }
}

/// The index of the database with that number, of `count` that there are.
fn index(number: i64, count: usize) -> Result<usize, CmdError> {
    usize::try_from(number).ok().filter(|&index| index < count).ok_or(CmdError::DB_INDEX)
}

/// SELECT index
fn select(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let db = index(number(args.get(1), None)?, server.keyspace.count())?;
    if let Some(client) = server.client(client) {
        client.session.db = db;
    }
    server.reply(client).ok();
    Ok(Done)
}

/// DBSIZE
fn dbsize(ctx: &mut Ctx) -> CmdResult {
    // Keys that have expired count until they are deleted.
    ctx.reply.int(ctx.db.db.len() as i64);
    Ok(Done)
}

/// SWAPDB index1 index2
fn swapdb(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let a = number(args.get(1), Some(CmdError::text("ERR invalid first DB index")))?;
    let b = number(args.get(2), Some(CmdError::text("ERR invalid second DB index")))?;
    let (a, b) = (index(a, server.keyspace.count())?, index(b, server.keyspace.count())?);
    if a != b {
        let now_ms = server.turn.now_ms;
        for (db, other) in [(a, b), (b, a)] {
            server.watching.flushing(Some(db), Some(other), &server.keyspace, now_ms, &mut server.clients);
        }
        server.keyspace.swap(a, b);
        server.changes.flush(Some(a));
        server.changes.flush(Some(b));
    }
    server.changes.dirty += 1;
    server.reply(client).ok();
    Ok(Done)
}

/// FLUSHDB [ASYNC | SYNC]
fn flushdb(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let lazily = is_lazy(args, server.config.lazyfree_lazy_user_flush)?;
    let db = server.db_of(client);
    server.watching.flushing(Some(db), None, &server.keyspace, server.turn.now_ms, &mut server.clients);
    flush(&mut server.keyspace, &mut server.changes, &server.turn, Some(db), lazily);
    server.invalidate_everything();
    server.reply(client).ok();
    Ok(Done)
}

/// FLUSHALL [ASYNC | SYNC]
fn flushall(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let lazily = is_lazy(args, server.config.lazyfree_lazy_user_flush)?;
    server.watching.flushing(None, None, &server.keyspace, server.turn.now_ms, &mut server.clients);
    flush(&mut server.keyspace, &mut server.changes, &server.turn, None, lazily);
    server.invalidate_everything();
    // A child that saves what is gone has nothing to do any more, and the file it was to replace is outdated, too.
    server.snapshots.stop_saving();
    let saves = !server.config.save.points().is_empty() && !server.is_replaying();
    if saves && server.scripts.is_running() {
        server.scripts.save_when_over = true;
    } else if saves && server.save().is_ok() {
        server.changes.dirty = 0;
    }
    server.reply(client).ok();
    Ok(Done)
}

/// Whether a flush leaves the freeing to another thread.
fn is_lazy(args: Args, default: bool) -> Result<bool, CmdError> {
    match args.len() {
        1 => Ok(default),
        2 if args.is(1, "SYNC") => Ok(false),
        2 if args.is(1, "ASYNC") => Ok(true),
        _ => Err(CmdError::SYNTAX),
    }
}

/// Empties a database, or all. That goes to replicas even if nothing was there: they may have something.
fn flush(keyspace: &mut Keyspace, changes: &mut Changes, turn: &Turn, db: Option<usize>, lazily: bool) {
    changes.dirty += keyspace.flush(db, lazily, turn.now_ms) as u64;
    changes.flush(db);
    changes.propagate = Propagate::Always;
}

/// MOVE key db
fn move_(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let from = server.db_of(client);
    let to = index(number(args.get(2), None)?, server.keyspace.count())?;
    if from == to {
        return Err(CmdError::SAME_OBJECT);
    }
    let moved = move_key(&mut server.keyspace, &mut server.changes, &server.turn, from, to, args.key());
    server.reply(client).int(i64::from(moved));
    Ok(Done)
}

/// Moves a key, if it is there and not in the other database. Says whether it did.
fn move_key(
    keyspace: &mut Keyspace,
    changes: &mut Changes,
    turn: &Turn,
    from: usize,
    to: usize,
    key: &[u8],
) -> bool {
    if keyspace.view(from, changes, turn).write(key).is_none()
        || keyspace.view(to, changes, turn).write(key).is_some()
    {
        return false;
    }
    let mut entry = keyspace.db_mut(from).remove(key).expect("it was found just now");
    entry.set_lru(turn.stamp.fresh());
    replace(&mut keyspace.view(to, changes, turn), entry);
    keyspace.view(from, changes, turn).changed(key, Class::GENERIC, "move_from");
    changes.touch(to, key);
    changes.event(Class::GENERIC, "move_to", to, key);
    true
}

/// COPY source destination [DB destination-db] [REPLACE]
fn copy(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let from = server.db_of(client);
    let mut to = from;
    let mut replaces = false;
    let mut arguments = args.cursor(3);
    while !arguments.is_done() {
        if arguments.flag("REPLACE") {
            replaces = true;
        } else if arguments.option("DB", 1) {
            to = index(number(arguments.argument()?, None)?, server.keyspace.count())?;
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    let (source, destination) = (args.get(1), args.get(2));
    if from == to && source == destination {
        return Err(CmdError::SAME_OBJECT);
    }
    let places = [(from, source), (to, destination)];
    let copied = copy_key(&mut server.keyspace, &mut server.changes, &server.turn, places, replaces);
    server.reply(client).int(i64::from(copied));
    Ok(Done)
}

/// Copies a key from the first place to the second, if it is there, and the second is free or is to be replaced.
/// Says whether it did.
fn copy_key(
    keyspace: &mut Keyspace,
    changes: &mut Changes,
    turn: &Turn,
    [(from, source), (to, destination)]: [(usize, &[u8]); 2],
    replaces: bool,
) -> bool {
    if keyspace.view(from, changes, turn).read(source).is_none()
        || keyspace.view(to, changes, turn).write(destination).is_some() && !replaces
    {
        return false;
    }
    let mut entry = keyspace.db(from).get(source).expect("it was found just now").duplicate(destination);
    entry.set_lru(turn.stamp.fresh());
    let mut view = keyspace.view(to, changes, turn);
    replace(&mut view, entry);
    view.changed(destination, Class::GENERIC, "copy_to");
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.changes.notify = Class::ALL;
        bench.changes.observed = true;
        bench.keyspace.db_mut(0).set(b"k", Some(i64::MAX), NewValue::Str(b"value"));
        bench.keyspace.db_mut(0).set(b"n", None, NewValue::Str(b"12"));
        bench
    }

    fn events(changes: &Changes) -> Vec<(usize, &str)> {
        changes.events().iter().map(|event| (event.db, event.name)).collect()
    }

    #[test]
    fn a_moved_key_is_gone_from_where_it_was() {
        let mut bench = bench();
        let Bench { keyspace, changes, turn, .. } = &mut bench;
        assert!(move_key(keyspace, changes, turn, 0, 3, b"k"));
        assert_eq!((keyspace.db(0).len(), keyspace.db(3).len()), (1, 1));
        assert_eq!(keyspace.db(3).get(b"k").unwrap().expiry(), Some(i64::MAX));
        assert_eq!(changes.dirty, 1);
        assert_eq!(events(changes), [(0, "move_from"), (3, "move_to")]);
        assert_eq!(changes.touched(), [(0, b"k".to_vec()), (3, b"k".to_vec())]);
        keyspace.db_mut(3).set(b"n", None, NewValue::Int(1));
        assert!(!move_key(keyspace, changes, turn, 0, 3, b"n"));
        assert!(!move_key(keyspace, changes, turn, 0, 3, b"k"));
        keyspace.iter().for_each(|(_, db)| db.verify());
    }

    #[test]
    fn a_key_is_moved_over_one_that_has_expired() {
        let mut bench = bench();
        let Bench { keyspace, changes, turn, .. } = &mut bench;
        keyspace.db_mut(1).set(b"k", Some(1), NewValue::Int(1));
        assert!(move_key(keyspace, changes, turn, 0, 1, b"k"));
        assert_eq!(bench.propagated(), ["1: DEL k"]);
    }

    #[test]
    fn a_copy_has_value_and_expiry_and_overwrites_only_when_asked() {
        let mut bench = bench();
        let Bench { keyspace, changes, turn, .. } = &mut bench;
        assert!(copy_key(keyspace, changes, turn, [(0, b"k"), (1, b"c")], false));
        assert_eq!(events(changes), [(1, "copy_to")]);
        assert!(!copy_key(keyspace, changes, turn, [(0, b"n"), (1, b"c")], false));
        assert!(!copy_key(keyspace, changes, turn, [(0, b"nobody"), (1, b"c")], true));
        assert_eq!(keyspace.db(1).get(b"c").unwrap().expiry(), Some(i64::MAX));
        assert!(copy_key(keyspace, changes, turn, [(0, b"n"), (1, b"c")], true));
        let copy = keyspace.db(1).get(b"c").unwrap();
        assert_eq!((copy.expiry(), copy.encoding()), (None, "int"));
        assert_eq!((keyspace.db(0).len(), changes.dirty), (2, 2));
        keyspace.iter().for_each(|(_, db)| db.verify());
    }

    #[test]
    fn a_flush_is_propagated_even_if_nothing_was_there() {
        let mut bench = bench();
        let Bench { keyspace, changes, turn, .. } = &mut bench;
        flush(keyspace, changes, turn, Some(0), false);
        assert_eq!((changes.dirty, changes.propagate), (2, Propagate::Always));
        assert_eq!(changes.flushed(), [Some(0)]);
        changes.clear();
        flush(keyspace, changes, turn, None, true);
        assert_eq!((changes.dirty, changes.propagate), (0, Propagate::Always));
    }

    #[test]
    fn the_number_of_a_database_is_checked_as_a_c_int() {
        let error = |argument: &[u8]| number(argument, None).unwrap_err();
        assert_eq!(number(b"-15", None), Ok(-15));
        assert_eq!(index(15, 16), Ok(15));
        assert_eq!(index(16, 16), Err(CmdError::DB_INDEX));
        assert_eq!(index(-1, 16), Err(CmdError::DB_INDEX));
        assert_eq!(error(b"x"), CmdError::NOT_INTEGER);
        assert!(error(b"2147483648").as_bytes().ends_with(b"must between -2147483648 and 2147483647"));
        assert_eq!(number(b"2147483648", Some(CmdError::SYNTAX)), Err(CmdError::SYNTAX));
    }
}
