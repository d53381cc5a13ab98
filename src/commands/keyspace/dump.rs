//! DUMP and RESTORE: a value on its way from one server to another.

use crate::client::ClientId;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, KeySpec, acl, arg, data,
    flags::*, key, key_flags as kf, server, token,
};
use crate::keyspace::{Class, Expired, access};
use crate::observe::log;
use crate::persistence::dump::dump_value;
use crate::persistence::load::{BadValue, LoadError, value_from_raw};
use crate::persistence::rdb::{Checks, DumpError, WriterOptions, decode_dump};
use crate::server::Server;
use crate::types::Entry;

const RESTORED: &[KeySpec] = &[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1)];
const RESTORE_COST: &str = "O(N*M) for N elements of M bytes on average; O(N*M*log(N)) for sorted sets";
const RESTORE_HISTORY: &[(&str, &str)] = &[
    ("3.0.0", "Takes the word `REPLACE`."),
    ("5.0.0", "Takes the word `ABSTTL`."),
    ("5.0.0", "Takes the options `IDLETIME` and `FREQ`."),
];
const RESTORE_ARGS: &[Arg] = &[
    key("key", 0),
    arg("ttl", ArgKind::Integer),
    arg("serialized-value", ArgKind::String),
    token("replace", "REPLACE").optional().since("3.0.0"),
    token("absttl", "ABSTTL").optional().since("5.0.0"),
    arg("seconds", ArgKind::Integer).token("IDLETIME").optional().since("5.0.0"),
    arg("frequency", ArgKind::Integer).token("FREQ").optional().since("5.0.0"),
];

pub const COMMANDS: &[Command<Server>] = &[
    server("dump", dump, 2)
        .flags(READONLY)
        .acl(acl::KEYSPACE)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::Generic,
            "2.6.0",
            "O(N*M) for N elements of M bytes on average",
            "Gives a value in the form that RESTORE takes.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0)]),
    data("restore", restore, -4)
        .flags(WRITE | DENYOOM)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .keys(RESTORED)
        .doc(Group::Generic, "2.6.0", RESTORE_COST, "Makes a key of a value that DUMP gave.")
        .history(RESTORE_HISTORY)
        .args(RESTORE_ARGS),
    data("restore-asking", restore, -4)
        .flags(WRITE | DENYOOM | ASKING)
        .acl(acl::KEYSPACE | acl::DANGEROUS)
        .keys(RESTORED)
        .doc(Group::Server, "3.0.0", RESTORE_COST, "Takes a key over while its slot moves between servers.")
        .syscmd()
        .history(RESTORE_HISTORY)
        .args(RESTORE_ARGS),
];

/// DUMP key
fn dump(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let options = WriterOptions { compress: server.config.rdbcompression, ..WriterOptions::default() };
    let db = server.db_of(client);
    let mut view = server.keyspace.view(db, &mut server.changes, &server.turn);
    let payload = view.read(args.key()).map(|entry| dump_value(entry, options));
    server.reply(client).bulk_or_null(payload.as_deref());
    Ok(Done)
}

/// What may stand behind the value.
#[derive(Default)]
struct Options {
    replace: bool,
    /// The time to live is a Unix time.
    absolute: bool,
    idle_secs: Option<i64>,
    frequency: Option<i64>,
}

impl Options {
    fn parse(mut arguments: Cursor) -> Result<Options, CmdError> {
        let mut options = Options::default();
        while !arguments.is_done() {
            if arguments.flag("REPLACE") {
                options.replace = true;
            } else if arguments.flag("ABSTTL") {
                options.absolute = true;
            } else if options.frequency.is_none() && arguments.option("IDLETIME", 1) {
                let secs = arguments.int()?;
                if secs < 0 {
                    return Err(CmdError::text("ERR Invalid IDLETIME value, must be >= 0"));
                }
                options.idle_secs = Some(secs);
            } else if options.idle_secs.is_none() && arguments.option("FREQ", 1) {
                let error = CmdError::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                let frequency = arguments.int()?;
                options.frequency = Some(frequency).filter(|n| (0..=255).contains(n));
                options.frequency.ok_or(error)?;
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// The error for a payload that is none. Why, the log tells; whoever sent it hears less.
fn refused(error: &DumpError) -> CmdError {
    if let DumpError::Format(why) = error {
        log::verbose!("{}", LoadError::corrupt(why.offset, &why.reason));
    }
    CmdError::new(format!("ERR {error}"))
}

/// As `refused`, for what is no value though it was read.
fn bad_value(why: &BadValue) -> CmdError {
    match why {
        BadValue::Corrupt(why) => log::verbose!("{}", LoadError::corrupt(0, why)),
        // An empty value is a common mistake of old servers, and not worth a line.
        BadValue::Empty | BadValue::Unsupported(_) => {}
    }
    CmdError::text("ERR Bad data format")
}

/// RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
fn restore(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let options = Options::parse(ctx.args.cursor(4))?;
    if !options.replace && ctx.db.write(key).is_some() {
        return Err(CmdError::text("BUSYKEY Target key name already exists."));
    }
    let ttl = ctx.args.int(2)?;
    if ttl < 0 {
        return Err(CmdError::text("ERR Invalid TTL value, must be >= 0"));
    }
    let expiry = match ttl {
        0 => None,
        at if options.absolute => Some(at),
        ttl => Some(ctx.now_ms().saturating_add(ttl)),
    };
    let checks = Checks { checksum: !ctx.limits.skip_checksums, version: !ctx.limits.newer_dumps };
    let payload = decode_dump(ctx.args.get(3), checks);
    let mut raw = payload.map_err(|error| refused(&error))?;
    let value = value_from_raw(&mut raw, ctx.limits).map_err(|why| bad_value(&why))?;
    let mut entry = Entry::new(key, expiry, value);
    let db = &mut ctx.db;
    let lazily = db.turn.lazy_server_del;
    let old = db.db.remove(key);
    let replaced = old.is_some();
    if let Some(old) = old {
        db.freer.free(old, lazily);
    }
    if expiry.is_some_and(|at| at <= db.turn.now_ms) && db.turn.expired == Expired::Delete {
        // It has expired on its way: what is left to do is the deletion.
        if replaced {
            let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
            db.changes.propagate(db.index, [verb, key]);
            db.changed(key, Class::GENERIC, "del");
        }
        ctx.reply.ok();
        return Ok(Done);
    }
    let now_secs = db.turn.now_ms / 1000;
    entry.set_lru(match (db.turn.stamp.lfu_decay_minutes(), options.frequency, options.idle_secs) {
        (Some(_), Some(frequency), _) => access::frequency_bits(frequency as u8, now_secs),
        (None, _, Some(secs)) => access::idle_bits(secs as u64, now_secs),
        _ => db.turn.stamp.fresh(),
    });
    db.insert(entry);
    if let Some(at) = expiry
        && !options.absolute
    {
        let mut digits = itoa::Buffer::new();
        let mut arguments: Vec<&[u8]> = ctx.args.iter().collect();
        arguments[2] = digits.format(at).as_bytes();
        arguments.push(b"ABSTTL");
        db.changes.propagate(db.index, arguments);
    }
    db.changed(key, Class::GENERIC, "restore");
    ctx.reply.ok();
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::persistence::rdb::{RDB_VERSION, crc64};
    use crate::types::NewValue;

    fn payload(value: &[u8]) -> Vec<u8> {
        dump_value(&Entry::new(b"k", None, NewValue::Str(value)), WriterOptions::default())
    }

    /// `RESTORE k` with the given time to live and options.
    fn restore(bench: &mut Bench<Server>, ttl: &str, payload: &[u8], options: &str) -> String {
        let mut arguments: Vec<&[u8]> = vec![b"RESTORE", b"k", ttl.as_bytes(), payload];
        arguments.extend(options.split_ascii_whitespace().map(str::as_bytes));
        bench.run_arguments(&arguments)
    }

    #[test]
    fn what_was_dumped_is_restored() {
        for value in [&b"value"[..], b"12", b"-70000", &[b'x'; 5000], b"12345678901234567890"] {
            let mut bench = Bench::new(&[COMMANDS]);
            assert_eq!(restore(&mut bench, "0", &payload(value), ""), "+OK\r\n");
            let text = bench.keyspace.db(0).get(b"k").unwrap().str().unwrap().text().into_owned();
            assert_eq!(text, value);
        }
    }

    #[test]
    fn the_time_to_live_is_propagated_as_a_point_in_time() {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.turn.now_ms = 5000;
        assert_eq!(restore(&mut bench, "70", &payload(b"v"), "IDLETIME 3"), "+OK\r\n");
        let entry = bench.keyspace.db(0).get(b"k").unwrap();
        assert_eq!((entry.expiry(), entry.lru()), (Some(5070), 2));
        let propagated = &bench.propagated()[0];
        assert!(propagated.starts_with("0: RESTORE k 5070 "), "{propagated}");
        assert!(propagated.ends_with(" IDLETIME 3 ABSTTL"), "{propagated}");
        assert_eq!(restore(&mut bench, "4000", &payload(b"v"), "REPLACE ABSTTL"), "+OK\r\n");
        assert_eq!(bench.propagated(), ["0: DEL k"]);
        assert_eq!(bench.keyspace.db(0).len(), 0);
        assert_eq!(restore(&mut bench, "4000", &payload(b"v"), "ABSTTL"), "+OK\r\n");
        assert!(bench.changes.is_empty());
    }

    #[test]
    fn a_text_that_claims_to_be_longer_than_the_payload_is_refused() {
        // A sorted set of the oldest form: one member, "a", and a score of so many digits.
        let mut body = b"\x03\x01\x01a\xf0".to_vec();
        body.extend_from_slice(&RDB_VERSION.to_le_bytes());
        let checksum = crc64(&body);
        body.extend_from_slice(&checksum.to_le_bytes());
        let mut bench = Bench::new(&[COMMANDS]);
        assert_eq!(restore(&mut bench, "0", &body, ""), "-ERR Bad data format\r\n");
    }

    #[test]
    fn a_type_that_the_version_does_not_have_is_refused() {
        // A hash whose only field has ended: as of 7.4 nothing is left of it, as of 7.2 there is no such type.
        let payload = |version: u16| {
            let mut body =
                b"\x17\x15\x15\x00\x00\x00\x06\x00\x00\x01\x00\x01\x01\x01\x82_1\x03\x02\x01\x02\x01\xff"
                    .to_vec();
            body.extend_from_slice(&version.to_le_bytes());
            let checksum = crc64(&body);
            body.extend_from_slice(&checksum.to_le_bytes());
            body
        };
        let mut bench = Bench::new(&[COMMANDS]);
        assert_eq!(restore(&mut bench, "0", &payload(11), ""), "-ERR Bad data format\r\n");
        assert_eq!(restore(&mut bench, "0", &payload(12), ""), "+OK\r\n");
    }

    #[test]
    fn what_cannot_be_restored_changes_nothing() {
        let mut bench = Bench::new(&[COMMANDS]);
        let good = payload(b"v");
        let mut bad = good.clone();
        bad[1] ^= 1;
        for (ttl, payload, options, error) in [
            ("-1", &good, "", "-ERR Invalid TTL value, must be >= 0\r\n"),
            ("x", &good, "", "-ERR value is not an integer or out of range\r\n"),
            ("0", &bad, "", "-ERR DUMP payload version or checksum are wrong\r\n"),
            ("0", &good, "IDLETIME 1 FREQ 1", "-ERR syntax error\r\n"),
            ("0", &good, "FREQ 256", "-ERR Invalid FREQ value, must be >= 0 and <= 255\r\n"),
            ("0", &good, "IDLETIME -1", "-ERR Invalid IDLETIME value, must be >= 0\r\n"),
            ("0", &good, "IDLETIME", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(restore(&mut bench, ttl, payload, options), error);
        }
        assert_eq!(restore(&mut bench, "0", &good, ""), "+OK\r\n");
        let busy = "-BUSYKEY Target key name already exists.\r\n";
        assert_eq!(restore(&mut bench, "x", &bad, ""), busy);
    }
}
