//! What the servers are given to hold, and how it is compared.

use std::collections::BTreeMap;

use redis::Value;

use crate::support::{LONG, Server, wait_until};

/// Far enough that nothing ends during a test.
const LATER_MS: &str = "4000000000000";

fn run(conn: &mut redis::Connection, line: &str) -> Result<Value, redis::RedisError> {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.query(conn)
}

#[track_caller]
fn must(conn: &mut redis::Connection, line: &str) {
    if let Err(why) = run(conn, line) {
        panic!("{line}: {why}");
    }
}

/// Writes something of every type and encoding, in two databases. A second time, it is more of the same.
#[track_caller]
pub fn fill(server: &Server, field_times: bool) {
    let mut conn = server.client();
    for line in [
        "SET str:int 12345",
        "SET str:short value",
        "SETRANGE str:bits 200 x",
        "SET str:ends value PXAT 4000000000000",
        "INCRBYFLOAT str:float 1.5",
        "APPEND str:grows more",
        "PFADD hll a b c d",
        "RPUSH list:small a 1 b 22 c 333",
        "LPOP list:small",
        "SADD set:ints 1 2 3 70000",
        "SADD set:small a b 1",
        "ZADD zset:small 1 a 2.5 b -inf c",
        "HSET hash:small a 1 b two",
        "HINCRBYFLOAT hash:float f 0.5",
        "HINCRBY hash:count f 2",
        "GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
        "SETBIT bits 77 1",
        "XADD stream * field value n 1",
        "XADD stream * other fields here 2",
        "XADD stream MAXLEN ~ 1000 * field value n 3",
        "EXPIRE set:small 100000",
        "PEXPIREAT zset:small 4000000000001",
    ] {
        must(&mut conn, line);
    }
    let long = "x".repeat(200);
    for n in 0..300 {
        let member = format!("member:{n}:{}", n % 7);
        for (command, key) in [("RPUSH", "list:large"), ("SADD", "set:large")] {
            redis::cmd(command).arg(key).arg(&member).exec(&mut conn).unwrap();
        }
        redis::cmd("ZADD").arg("zset:large").arg(n).arg(&member).exec(&mut conn).unwrap();
        redis::cmd("HSET").arg("hash:large").arg(&member).arg(&long).exec(&mut conn).unwrap();
        redis::cmd("XADD").arg("stream:large").arg("*").arg("n").arg(n).exec(&mut conn).unwrap();
    }
    let _ = run(&mut conn, "XGROUP CREATE stream readers 0");
    let _ = run(&mut conn, "XGROUP CREATE stream others $");
    must(&mut conn, "XREADGROUP GROUP readers one COUNT 2 STREAMS stream >");
    must(&mut conn, "XREADGROUP GROUP readers two COUNT 1 STREAMS stream >");
    must(&mut conn, "MULTI");
    must(&mut conn, "SELECT 3");
    must(&mut conn, "SET elsewhere 1");
    must(&mut conn, "INCR elsewhere");
    must(&mut conn, "EXEC");
    must(&mut conn, "SELECT 0");
    if field_times {
        for key in ["hash:small", "hash:large"] {
            must(&mut conn, &format!("HSET {key} ends 1 stays 2"));
            must(&mut conn, &format!("HPEXPIREAT {key} {LATER_MS} FIELDS 1 ends"));
        }
        must(&mut conn, "HSET hash:brief a 1 b 2");
        must(&mut conn, "HPEXPIRE hash:brief 60 FIELDS 1 a");
    }
}

/// Commands that came after 7.2, in either line. Nobody takes all of them.
pub const NEWER: &[&str] = &[
    "HSET n:h a 1 b 2 c 3 d 4 e 5 f 6",
    "HEXPIRE n:h 100000 FIELDS 2 a b",
    "HPEXPIRE n:h 100000000 NX FIELDS 1 c",
    "HEXPIREAT n:h 4000000000 GT FIELDS 1 a",
    "HPEXPIREAT n:h 4000000000000 FIELDS 1 d",
    "HPERSIST n:h FIELDS 1 b",
    "HINCRBY n:h a 5",
    "HINCRBYFLOAT n:h d 0.25",
    "HSETEX n:h PX 100000000 FIELDS 2 g 1 i 2",
    "HSETEX n:h KEEPTTL FIELDS 1 a 7",
    "HSETEX n:h FNX EX 5000 FIELDS 1 j 1",
    "HSETEX n:h FXX FIELDS 1 j 2",
    "HGETEX n:h EX 100000 FIELDS 2 a b",
    "HGETEX n:h PERSIST FIELDS 1 a",
    "HGETDEL n:h FIELDS 2 e missing",
    "SET n:s one",
    "SET n:s two IFEQ one",
    "SET n:s three IFEQ two EX 100000",
    "SET n:s four IFNE other GET",
    "SET n:s five IFDEQ 0000000000000000",
    "DELEX n:s IFEQ nothing",
    "SET n:gone 1",
    "DELEX n:gone IFEQ 1",
    "SET n:gone 1",
    "DELIFEQ n:gone 1",
    "MSETEX 2 n:m1 1 n:m2 2 EX 100000",
    "MSETEX 2 n:m1 1 n:m3 2 NX",
    "MSETEX 1 n:m4 1 KEEPTTL",
    "SETBIT n:b1 3 1",
    "SETBIT n:b2 5 1",
    "BITOP DIFF n:diff n:b1 n:b2",
    "BITOP DIFF1 n:diff1 n:b1 n:b2",
    "BITOP ANDOR n:andor n:b1 n:b2",
    "BITOP ONE n:one n:b1 n:b2",
    "DEL n:x",
    "XADD n:x KEEPREF 1-1 f v",
    "XADD n:x DELREF MAXLEN = 100 2-1 f v",
    "XADD n:x 3-1 f v",
    "XADD n:x 4-1 f v",
    "XADD n:x 5-1 f v",
    "XGROUP CREATE n:x g 0",
    "XGROUP CREATE n:x h 0",
    "XREADGROUP GROUP g c COUNT 4 STREAMS n:x >",
    "XREADGROUP GROUP h c COUNT 3 STREAMS n:x >",
    "XACKDEL n:x g KEEPREF IDS 1 1-1",
    "XACKDEL n:x g ACKED IDS 1 2-1",
    "XACKDEL n:x h DELREF IDS 1 3-1",
    "XDELEX n:x ACKED IDS 2 2-1 5-1",
    "XADD n:x ACKED MAXLEN = 3 6-1 f v",
    "XTRIM n:x MAXLEN = 2 DELREF",
    "XTRIM n:x MAXLEN ~ 1 ACKED",
    "XREADGROUP GROUP g d CLAIM 0 COUNT 2 STREAMS n:x >",
    "XADD n:x IDMP producer 1 * f v",
    "XADD n:x IDMP producer 1 * f v",
    "XADD n:x IDMPAUTO producer * f v",
    "XCFGSET n:x IDMP-MAXSIZE 50",
    "XADD n:x IDMP producer 1 * f v",
    // Redis 8.8 and 8.10, and polygons of Valkey 9: propagated in words that everybody knows.
    "INCREX n:counter BYINT 5",
    "INCREX n:counter BYINT 5 UBOUND 7 SATURATE",
    "INCREX n:float BYFLOAT 1.5",
    "RPUSH n:list 1 2 3 4 5 6",
    "LMOVEM n:list n:moved LEFT LEFT COUNT 3 OBO",
    "LMOVEM n:list n:moved RIGHT RIGHT EXACTLY 2 BULK",
    "LMOVEM n:moved n:moved LEFT LEFT EXACTLY 2 OBO",
    "XADD n:refused 1-1 f v",
    "XADD n:refused 2-1 f v",
    "XGROUP CREATE n:refused g 0",
    "XREADGROUP GROUP g c MAXCOUNT 2 STREAMS n:refused >",
    "XNACK n:refused g FATAL IDS 1 1-1",
    "GEOADD n:geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "GEOSEARCHSTORE n:inside n:geo BYPOLYGON 4 12 37 12 39 14 39 14 37",
];

/// Says all of them; how many were taken of those that 7.2 does not know.
pub fn newer(server: &Server) -> usize {
    const OLD: [&str; 14] = [
        "GEOADD",
        "RPUSH",
        "HSET",
        "HINCRBY",
        "HINCRBYFLOAT",
        "SET",
        "SETBIT",
        "DEL",
        "XGROUP",
        "XREADGROUP",
        "XADD",
        "XTRIM",
        "BITOP",
        "MULTI",
    ];
    const OPTIONS: [&str; 14] = [
        "IFEQ", "IFNE", "IFDEQ", "KEEPREF", "DELREF", "ACKED", "CLAIM", "IDMP", "IDMPAUTO", "DIFF", "DIFF1",
        "ANDOR", "ONE", "FNX",
    ];
    let mut conn = server.client();
    let is_newer = |line: &&&str| {
        let mut words = line.split(' ');
        !OLD.contains(&words.next().unwrap()) || words.any(|word| OPTIONS.contains(&word))
    };
    NEWER.iter().filter(|line| run(&mut conn, line).is_ok()).filter(is_newer).count()
}

/// What is asked about a key of a type. What a server does not know is not compared.
fn questions(kind: &str, field_times: bool) -> &'static [&'static str] {
    match kind {
        "string" => &["GET"],
        "list" => &["LRANGE * 0 -1"],
        "set" => &["SMEMBERS"],
        "zset" => &["ZRANGE * 0 -1 WITHSCORES"],
        "hash" if field_times => &["HGETALL", "times"],
        "hash" => &["HGETALL"],
        "stream" => &["XRANGE * - +", "groups"],
        other => panic!("a key of type {other}"),
    }
}

/// The times of a hash's fields.
fn field_times(conn: &mut redis::Connection, key: &[u8]) -> Vec<String> {
    let fields: Vec<Vec<u8>> = redis::cmd("HKEYS").arg(key).query(conn).unwrap();
    if fields.is_empty() {
        return Vec::new();
    }
    let mut ask = redis::cmd("HPEXPIRETIME");
    ask.arg(key).arg("FIELDS").arg(fields.len()).arg(&fields);
    let times: Vec<i64> = ask.query(conn).unwrap();
    let timed =
        fields.iter().zip(times).map(|(field, time)| format!("{} {time}", String::from_utf8_lossy(field)));
    let mut timed: Vec<String> = timed.collect();
    timed.sort();
    timed
}

/// The groups of a stream: where each stands, its consumers, and what is pending for whom.
fn groups(conn: &mut redis::Connection, key: &[u8]) -> Vec<String> {
    let groups: Vec<BTreeMap<String, Value>> =
        redis::cmd("XINFO").arg("GROUPS").arg(key).query(conn).unwrap();
    let mut all = Vec::new();
    for group in groups {
        let name: String = redis::from_redis_value(group["name"].clone()).unwrap();
        all.push(format!("{name} at {:?} of {:?}", group["last-delivered-id"], group["consumers"]));
        let pending: Value =
            redis::cmd("XPENDING").arg(key).arg(&name).arg("-").arg("+").arg(1000).query(conn).unwrap();
        let Value::Array(entries) = pending else { panic!("{pending:?}") };
        for entry in entries {
            let Value::Array(parts) = entry else { panic!("{entry:?}") };
            // How long it has been idle is a matter of when one asks.
            all.push(format!("{:?} {:?} {:?}", parts[0], parts[1], parts[3]));
        }
    }
    all
}

/// Everything that a server holds, by database and key.
fn everything(server: &Server, times: bool) -> BTreeMap<(usize, String), Vec<String>> {
    let mut conn = server.client();
    let mut all = BTreeMap::new();
    for db in [0, 3] {
        redis::cmd("SELECT").arg(db).exec(&mut conn).unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut conn).unwrap();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query(&mut conn).unwrap();
            if kind == "none" {
                continue;
            }
            let ends: i64 = redis::cmd("PTTL").arg(&key).query(&mut conn).unwrap();
            let mut about = vec![kind.clone(), (ends >= 0).to_string()];
            for question in questions(&kind, times) {
                match *question {
                    "times" => about.extend(field_times(&mut conn, &key)),
                    "groups" => about.extend(groups(&mut conn, &key)),
                    line => {
                        let mut words = line.split(' ');
                        let mut command = redis::cmd(words.next().unwrap());
                        command.arg(&key);
                        command.arg(words.skip(1).collect::<Vec<_>>());
                        let value: Value = command.query(&mut conn).unwrap();
                        about.push(in_order(&kind, value));
                    }
                }
            }
            all.insert((db, String::from_utf8_lossy(&key).into_owned()), about);
        }
    }
    all
}

/// A value as text; where its order says nothing, in a fixed one.
fn in_order(kind: &str, value: Value) -> String {
    match (kind, value) {
        ("set", Value::Array(items) | Value::Set(items)) => {
            let mut items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
            items.sort();
            items.join(" ")
        }
        ("hash", Value::Array(items)) => {
            let mut pairs: Vec<String> = items.chunks(2).map(|pair| format!("{pair:?}")).collect();
            pairs.sort();
            pairs.join(" ")
        }
        (_, value) => format!("{value:?}"),
    }
}

/// The replica stands where its master stands, and holds the same. Fields that end meanwhile may do so in between.
#[track_caller]
pub fn same(replica: &Server, master: &Server, times: bool) {
    replica.follows(master);
    let mut difference = String::new();
    let is_same = || {
        let (theirs, ours) = (everything(master, times), everything(replica, times));
        let odd: Vec<_> = theirs
            .keys()
            .chain(ours.keys())
            .filter(|key| theirs.get(*key) != ours.get(*key))
            .take(3)
            .map(|key| (key.clone(), theirs.get(key).cloned(), ours.get(key).cloned()))
            .collect();
        difference = odd
            .iter()
            .map(|(key, theirs, ours)| {
                format!("{key:?}\n  at the master:  {theirs:?}\n  at the replica: {ours:?}\n")
            })
            .collect();
        odd.is_empty()
    };
    let mut is_same = is_same;
    let begin = std::time::Instant::now();
    while !is_same() {
        assert!(begin.elapsed().as_secs() < 3, "the data differ:\n{difference}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    wait_until("the link is up", LONG, || replica.is_linked());
}
