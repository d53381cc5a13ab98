//! The `redis` crate, threads and blocking calls: the flows that its users rely on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use redis::streams::{StreamPendingReply, StreamReadOptions, StreamReadReply};
use redis::{
    Client, Commands, Connection, ConnectionLike, ErrorKind, PushKind, RedisResult, ServerErrorKind, Value,
    cmd, pipe,
};

use super::start;
use crate::support::{PATIENCE, Server, wait_until};

const PROTOCOLS: [&str; 2] = ["resp2", "resp3"];

/// A connection to the given database in the given protocol.
#[track_caller]
fn connect(server: &Server, protocol: &str) -> Connection {
    let url = format!("redis://127.0.0.1:{}/0?protocol={protocol}", server.port());
    let connection = Client::open(url).unwrap().get_connection().expect("the server accepts a connection");
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// The code and the text of the error that this must be.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: RedisResult<T>) -> (ErrorKind, String) {
    let error = result.expect_err("the server refuses");
    let text = format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    (error.kind(), text)
}

#[track_caller]
fn wait_blocked(server: &Server, count: usize) {
    wait_until(&format!("{count} wait"), PATIENCE, || {
        server.info_field("clients", "blocked_clients") == count.to_string()
    });
}

#[test]
fn says_hello_in_both_protocols() {
    let server = start(&[]);
    for (protocol, number) in PROTOCOLS.iter().zip(["2", "3"]) {
        let url = format!("redis://127.0.0.1:{}/3?protocol={protocol}", server.port());
        let mut connection = Client::open(url).unwrap().get_connection().unwrap();
        let mine: String = cmd("CLIENT").arg("INFO").query(&mut connection).unwrap();
        for field in ["db=3 ".into(), format!("resp={number} "), "lib-name=redis-rs ".into()] {
            assert!(mine.contains(&field), "{mine}");
        }
        let hello: HashMap<String, Value> = cmd("HELLO").query(&mut connection).unwrap();
        assert_eq!(hello["proto"], Value::Int(number.parse().unwrap()));
    }
}

#[test]
fn needs_the_password() {
    let server = start(&[("requirepass", "sesame")]);
    for protocol in PROTOCOLS {
        let open = |user: &str| {
            let url = format!("redis://{user}127.0.0.1:{}/?protocol={protocol}", server.port());
            Client::open(url).unwrap().get_connection()
        };
        for wrong in [":wrong@", "nobody:sesame@"] {
            // The library knows the refusal of AUTH by name, and hands on that of HELLO.
            let why = open(wrong).err().expect("the server refuses");
            let known = why.kind() == ErrorKind::AuthenticationFailed || why.code() == Some("WRONGPASS");
            assert!(known, "{why}");
        }
        for right in [":sesame@", "default:sesame@"] {
            assert_eq!(open(right).unwrap().set("key", protocol), Ok(()));
        }
    }
    let nobody = Client::open(format!("redis://127.0.0.1:{}/", server.port())).unwrap().get_connection();
    let (_, text) = refused(nobody.and_then(|mut connection| connection.get::<_, String>("key")));
    assert_eq!(text, "NOAUTH Authentication required.");
}

#[test]
fn pipelines_keep_their_order() {
    let server = start(&[]);
    for protocol in PROTOCOLS {
        let mut connection = connect(&server, protocol);
        let mut all = pipe();
        for number in 0..10_000 {
            all.set(number, number).ignore().get(number);
        }
        let numbers: Vec<u32> = all.query(&mut connection).unwrap();
        assert!(numbers.into_iter().eq(0..10_000));
        let mut mixed = pipe();
        mixed.set("text", "a").lpush("text", "b").append("text", "c");
        let replies = mixed.ignore_errors().query::<Vec<RedisResult<Value>>>(&mut connection).unwrap();
        assert_eq!((&replies[0], &replies[2]), (&Ok(Value::Okay), &Ok(Value::Int(2))));
        assert_eq!(replies[1].as_ref().unwrap_err().code(), Some("WRONGTYPE"));
    }
}

#[test]
fn watched_increments_add_up() {
    let server = start(&[]);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut connection = connect(server, PROTOCOLS[number % 2]);
                for _ in 0..25 {
                    let ((), length): ((), u32) =
                        redis::transaction(&mut connection, &["counter"], |connection, pipe| {
                            let value: Option<u32> = connection.get("counter")?;
                            let value = value.unwrap_or(0);
                            pipe.set("counter", value + 1).rpush("log", value).query(connection)
                        })
                        .unwrap();
                    assert!((1..=200).contains(&length));
                }
            });
        }
    });
    let mut connection = connect(&server, "resp3");
    assert_eq!(connection.get("counter"), Ok(200));
    let log: Vec<u32> = connection.lrange("log", 0, -1).unwrap();
    assert!(log.into_iter().eq(0..200));
}

#[test]
fn messages_reach_channels_and_patterns() {
    let server = start(&[]);
    for protocol in PROTOCOLS {
        let (mut client, mut other) = (connect(&server, protocol), connect(&server, protocol));
        let mut subscriber = other.as_pubsub();
        subscriber.set_read_timeout(Some(PATIENCE)).unwrap();
        subscriber.subscribe(&["news.art", "sport"]).unwrap();
        subscriber.psubscribe(&["news.*", "h?llo"]).unwrap();
        assert_eq!(client.publish("news.art", b"\0\r\n"), Ok(2));
        assert_eq!(client.publish("hello", "x"), Ok(1));
        for (pattern, channel, payload) in [
            (None, "news.art", "\0\r\n"),
            (Some("news.*"), "news.art", "\0\r\n"),
            (Some("h?llo"), "hello", "x"),
        ] {
            let message = subscriber.get_message().unwrap();
            assert_eq!(message.get_pattern::<Option<String>>().unwrap().as_deref(), pattern);
            assert_eq!(
                (message.get_channel_name(), message.get_payload_bytes()),
                (channel, payload.as_bytes())
            );
        }
        for number in 0..1000 {
            assert_eq!(client.publish("sport", number), Ok(1));
        }
        for number in 0..1000 {
            assert_eq!(subscriber.get_message().unwrap().get_payload(), Ok(number));
        }
        subscriber.unsubscribe(&["news.art", "sport"]).unwrap();
        subscriber.punsubscribe(&["news.*", "h?llo"]).unwrap();
        assert_eq!(client.publish("sport", "x"), Ok(0));
    }
}

#[test]
fn sharded_messages_arrive() {
    let server = start(&[]);
    let (mut client, mut subscriber) = (connect(&server, "resp2"), connect(&server, "resp3"));
    let (sender, pushed) = channel();
    subscriber.set_push_sender(sender);
    cmd("SSUBSCRIBE").arg("orders").arg("{orders}:late").set_no_response(true).exec(&mut subscriber).unwrap();
    wait_until("the subscription", PATIENCE, || {
        let channels: Vec<String> = cmd("PUBSUB").arg("SHARDCHANNELS").query(&mut client).unwrap();
        channels.len() == 2
    });
    assert_eq!(client.spublish("orders", "1"), Ok(1));
    assert_eq!(client.publish("orders", "not sharded"), Ok(0));
    assert_eq!(client.spublish("{orders}:late", "2"), Ok(1));
    // A subscriber of the newer protocol goes on with other commands; what was pushed stands before their replies.
    assert_eq!(cmd("PING").query(&mut subscriber), Ok("PONG".to_string()));
    let got: Vec<_> = pushed.try_iter().collect();
    let kinds: Vec<_> = got.iter().map(|push| push.kind.clone()).collect();
    assert_eq!(kinds, [PushKind::SSubscribe, PushKind::SSubscribe, PushKind::SMessage, PushKind::SMessage]);
    let bulk = |text: &str| Value::BulkString(text.into());
    assert_eq!(got[0].data, [bulk("orders"), Value::Int(1)]);
    assert_eq!(got[2].data, [bulk("orders"), bulk("1")]);
    assert_eq!(got[3].data, [bulk("{orders}:late"), bulk("2")]);
}

#[test]
fn a_hundred_consumers_share_a_queue() {
    const CONSUMERS: usize = 100;
    const ROUNDS: usize = 10;
    const RUSH: usize = 3000;
    let server = start(&[]);
    let got: Vec<Mutex<Vec<usize>>> = (0..CONSUMERS).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        for (number, items) in got.iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let mut connection = connect(server, PROTOCOLS[number % 2]);
                loop {
                    let [_, item]: [String; 2] = connection.blpop(&["urgent", "queue"], 0.0).unwrap();
                    let Ok(item) = item.parse() else { break };
                    items.lock().unwrap().push(item);
                }
            });
        }
        // As many items as there are waiting consumers: each gets exactly one, a round after the other.
        let mut client = connect(&server, "resp3");
        for round in 0..ROUNDS {
            wait_blocked(&server, CONSUMERS);
            for number in 0..CONSUMERS {
                let queue = if number % 2 == 0 { "queue" } else { "urgent" };
                let _: () = client.rpush(queue, round * CONSUMERS + number).unwrap();
            }
        }
        wait_blocked(&server, CONSUMERS);
        wait_until("each has one item of each round", PATIENCE, || {
            got.iter().all(|items| items.lock().unwrap().len() == ROUNDS)
        });
        // And in a rush nothing is lost or given twice.
        let begin = CONSUMERS * ROUNDS;
        for first in (begin..begin + RUSH).step_by(100) {
            let _: () = client.rpush("queue", (first..first + 100).collect::<Vec<_>>()).unwrap();
        }
        let _: () = client.rpush("queue", vec!["end"; CONSUMERS]).unwrap();
    });
    let mut all: Vec<usize> = got.into_iter().flat_map(|items| items.into_inner().unwrap()).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..CONSUMERS * ROUNDS + RUSH));
    assert_eq!(server.query::<usize>(&["EXISTS", "queue", "urgent"]), 0);
}

#[test]
fn cached_reads_are_invalidated() {
    let server = start(&[]);
    let (mut reader, mut writer) = (connect(&server, "resp3"), connect(&server, "resp2"));
    let (sender, pushed) = channel();
    reader.set_push_sender(sender);
    let _: () = writer.mset(&[("one", 1), ("two", 2)]).unwrap();
    let _: () = cmd("CLIENT").arg(&["TRACKING", "ON"]).query(&mut reader).unwrap();
    assert_eq!(reader.get("one"), Ok(1));
    let _: () = writer.set("two", 3).unwrap();
    let _: () = writer.set("one", 2).unwrap();
    let _: () = writer.set("one", 3).unwrap();
    assert_eq!(reader.get("one"), Ok(3));
    let _: () = writer.flushall().unwrap();
    assert_eq!(cmd("PING").query(&mut reader), Ok("PONG".to_string()));
    let got: Vec<_> = pushed.try_iter().map(|push| (push.kind, push.data)).collect();
    let one = Value::Array(vec![Value::BulkString("one".into())]);
    assert_eq!(got, [(PushKind::Invalidate, vec![one]), (PushKind::Invalidate, vec![Value::Nil])]);
}

#[test]
fn iterators_return_every_element() {
    let server = start(&[]);
    let (mut client, mut other) = (connect(&server, "resp3"), connect(&server, "resp2"));
    let wanted: BTreeSet<String> = (0..2000).map(|number| format!("lasting:{number}")).collect();
    let pairs: Vec<(&String, u8)> = wanted.iter().map(|name| (name, 1)).collect();
    let passing: Vec<(String, u8)> = (0..300).map(|number| (format!("passing:{number}"), 1)).collect();
    let names: Vec<&String> = passing.iter().map(|(name, _)| name).collect();
    let mut disturb = |step: usize| {
        if step.is_multiple_of(100) {
            let _: () = other.mset(&passing).unwrap();
            let _: () = other.sadd("lasting-set", &names).unwrap();
            let _: () = other.del(&names).unwrap();
            let _: () = other.srem("lasting-set", &names).unwrap();
        }
    };
    let _: () = client.mset(&pairs).unwrap();
    let _: () = client.hset_multiple("lasting-hash", &pairs).unwrap();
    let _: () = client.sadd("lasting-set", wanted.iter().collect::<Vec<_>>()).unwrap();
    let _: () = client
        .zadd_multiple("lasting-zset", &pairs.iter().map(|(name, _)| (1.5, name)).collect::<Vec<_>>())
        .unwrap();
    let mut found = BTreeSet::new();
    for (step, key) in client.scan_match::<_, String>("lasting:*").unwrap().enumerate() {
        disturb(step);
        found.insert(key.unwrap());
    }
    assert_eq!(found, wanted);
    found.clear();
    for (step, member) in client.sscan::<_, String>("lasting-set").unwrap().enumerate() {
        disturb(step);
        found.insert(member.unwrap());
    }
    found.retain(|member| member.starts_with("lasting:"));
    assert_eq!(found, wanted);
    let fields: RedisResult<BTreeSet<String>> =
        client.hscan::<_, (String, u8)>("lasting-hash").unwrap().map(|pair| Ok(pair?.0)).collect();
    assert_eq!(fields.unwrap(), wanted);
    let members: RedisResult<BTreeSet<String>> =
        client.zscan::<_, (String, f64)>("lasting-zset").unwrap().map(|pair| Ok(pair?.0)).collect();
    assert_eq!(members.unwrap(), wanted);
}

#[test]
fn stream_groups_deliver_every_entry_once() {
    let server = start(&[]);
    let mut client = connect(&server, "resp3");
    let _: () = client.xgroup_create_mkstream("jobs", "workers", "$").unwrap();
    let (_, why) = refused(client.xgroup_create::<_, _, _, ()>("jobs", "workers", "$"));
    assert_eq!(why, "BUSYGROUP Consumer Group name already exists");
    let got = Mutex::new(Vec::new());
    let mut ids = std::thread::scope(|scope| {
        for number in 0..8 {
            let (server, got) = (&server, &got);
            scope.spawn(move || {
                let mut connection = connect(server, PROTOCOLS[number % 2]);
                let group = StreamReadOptions::default().group("workers", format!("worker-{number}"));
                let options = group.count(4).block(100);
                while got.lock().unwrap().len() < 300 {
                    let reply: Option<StreamReadReply> =
                        connection.xread_options(&["jobs"], &[">"], &options).unwrap();
                    for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
                        assert_eq!(connection.xack("jobs", "workers", &[&entry.id]), Ok(1));
                        got.lock().unwrap().push(entry.id);
                    }
                }
            });
        }
        let add = |number: u32| client.xadd("jobs", "*", &[("number", number)]).unwrap();
        (0..300).map(add).collect::<Vec<String>>()
    });
    let mut got = got.into_inner().unwrap();
    got.sort();
    ids.sort();
    assert_eq!(got, ids);
    let pending: StreamPendingReply = client.xpending("jobs", "workers").unwrap();
    assert_eq!(pending.count(), 0);
    assert_eq!(client.xlen("jobs"), Ok(300));
}

#[test]
fn comes_back_after_a_restart() {
    let mut server = start(&[]);
    for protocol in PROTOCOLS {
        let mut client = connect(&server, protocol);
        let _: () = client.set("kept", "value").unwrap();
        let _: () = cmd("SAVE").query(&mut client).unwrap();
        let mut consumer = connect(&server, protocol);
        let waiter = std::thread::spawn(move || (consumer.blpop::<_, Value>("queue", 0.0), consumer));
        wait_blocked(&server, 1);
        server.restart();
        let (popped, consumer) = waiter.join().unwrap();
        assert!(popped.unwrap_err().is_connection_dropped());
        assert!(client.get::<_, String>("kept").unwrap_err().is_unrecoverable_error());
        assert!(!client.is_open() && !consumer.is_open());
        let mut client = connect(&server, protocol);
        assert_eq!(client.get("kept"), Ok("value".to_string()));
    }
}

#[test]
fn big_values_stay_whole() {
    let server = start(&[]);
    let value: Vec<u8> = (0..20_000_003_u32).map(|number| (number * 31 % 251) as u8).collect();
    for protocol in PROTOCOLS {
        let mut client = connect(&server, protocol);
        let _: () = client.set("big", &value).unwrap();
        assert!(client.get::<_, Vec<u8>>("big").unwrap() == value);
        assert_eq!(client.append("big", "tail"), Ok(value.len() + 4));
        assert_eq!(client.getrange("big", -4, -1), Ok("tail".to_string()));
        let mut sizes = pipe();
        for size in (30_000..40_000).step_by(97) {
            sizes.set(size, &value[..size]).ignore().get(size);
        }
        let got: Vec<Vec<u8>> = sizes.query(&mut client).unwrap();
        for (got, size) in got.iter().zip((30_000..40_000).step_by(97)) {
            assert!(got == &value[..size], "{size}");
        }
    }
}

#[test]
fn any_byte_is_data() {
    let server = start(&[]);
    let every: Vec<u8> = (0..=255).collect();
    for protocol in PROTOCOLS {
        let mut client = connect(&server, protocol);
        for data in [&every[..], b"", b"\r\n", b"_\r\n", b"$-1\r\n", &[0; 100], "größe €".as_bytes()] {
            let _: () = client.set(data, data).unwrap();
            assert_eq!(client.get(data), Ok(data.to_vec()));
            let _: () = client.hset("hash", data, data).unwrap();
            assert_eq!(client.hget("hash", data), Ok(data.to_vec()));
            let _: () = client.sadd("set", data).unwrap();
            assert_eq!(client.sismember("set", data), Ok(true));
            assert_eq!(cmd("ECHO").arg(data).query(&mut client), Ok(data.to_vec()));
        }
        assert_eq!(client.smembers::<_, BTreeSet<Vec<u8>>>("set").unwrap().len(), 7);
        let copy: Vec<u8> = cmd("DUMP").arg(&every).query(&mut client).unwrap();
        let _: () = cmd("RESTORE").arg("copy").arg(0).arg(copy).arg("REPLACE").query(&mut client).unwrap();
        assert_eq!(client.get("copy"), Ok(every.clone()));
    }
}

#[test]
fn errors_have_their_kinds() {
    let server = start(&[]);
    let replica = start(&[("replicaof", &format!("127.0.0.1 {}", server.port()))]);
    replica.wait_linked();
    let general = ErrorKind::Server(ServerErrorKind::ResponseError);
    for protocol in PROTOCOLS {
        let mut client = connect(&server, protocol);
        let _: () = client.set("text", "x").unwrap();
        let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(refused(client.lpush::<_, _, ()>("text", "y")), (ErrorKind::Extension, wrong_type.into()));
        let not_a_number = "ERR value is not an integer or out of range";
        assert_eq!(refused(client.incr::<_, _, ()>("text", 1)), (general, not_a_number.into()));
        let unknown = "ERR unknown command 'NOSUCH', with args beginning with: 'a' ";
        assert_eq!(refused(cmd("NOSUCH").arg("a").query::<()>(&mut client)), (general, unknown.into()));
        let aborted = pipe().atomic().set("a", 1).cmd("NOSUCH").query::<Value>(&mut client);
        assert_eq!(aborted.unwrap_err().kind(), ErrorKind::Server(ServerErrorKind::ExecAbort));
        let mut client = connect(&replica, protocol);
        let read_only = "READONLY You can't write against a read only replica.";
        let kind = ErrorKind::Server(ServerErrorKind::ReadOnly);
        assert_eq!(refused(client.set::<_, _, ()>("x", "y")), (kind, read_only.into()));
    }
}

#[test]
fn replicas_answer_reads() {
    let server = start(&[]);
    let replica = start(&[("replicaof", &format!("127.0.0.1 {}", server.port()))]);
    replica.wait_linked();
    let (mut client, mut reader) = (connect(&server, "resp3"), connect(&replica, "resp3"));
    let mut all = pipe();
    for number in 0..1000 {
        all.set(number, number);
    }
    all.exec(&mut client).unwrap();
    assert_eq!(cmd("WAIT").arg(1).arg(20_000).query(&mut client), Ok(1));
    let got: Vec<u32> = reader.mget((0..1000).collect::<Vec<_>>()).unwrap();
    assert!(got.into_iter().eq(0..1000));
    let mut subscriber = reader.as_pubsub();
    subscriber.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    subscriber.subscribe("news").unwrap();
    let _: () = client.publish("news", "from the master").unwrap();
    assert_eq!(subscriber.get_message().unwrap().get_payload_bytes(), b"from the master");
}

#[test]
fn replies_have_their_types() {
    let server = start(&[]);
    let mut client = connect(&server, "resp3");
    let mut said = |kind: &str| cmd("DEBUG").arg("PROTOCOL").arg(kind).query::<Value>(&mut client).unwrap();
    let bulk = |text: &str| Value::BulkString(text.into());
    assert_eq!(said("string"), bulk("Hello World"));
    assert_eq!(said("integer"), Value::Int(12345));
    assert_eq!(said("double"), Value::Double("3.141".parse().unwrap()));
    assert_eq!(said("null"), Value::Nil);
    assert_eq!((said("true"), said("false")), (Value::Boolean(true), Value::Boolean(false)));
    assert_eq!(said("set"), Value::Set((0..3).map(Value::Int).collect()));
    let pair = |number| (Value::Int(number), Value::Boolean(number == 1));
    assert_eq!(said("map"), Value::Map((0..3).map(pair).collect()));
    assert!(
        matches!(said("verbatim"), Value::VerbatimString { text, .. } if text == "This is a verbatim\nstring")
    );
    assert!(
        matches!(said("bignum"), Value::BigNumber(number) if number.to_string().starts_with("1234567999999"))
    );
    assert!(matches!(said("attrib"), Value::Attribute { .. }));
    for protocol in PROTOCOLS {
        let mut client = connect(&server, protocol);
        let _: () = client.hset_multiple("hash", &[("a", 1), ("b", 2)]).unwrap();
        let hash: HashMap<String, u8> = client.hgetall("hash").unwrap();
        assert_eq!(hash, HashMap::from([("a".into(), 1), ("b".into(), 2)]));
        let _: () = client.zadd_multiple("zset", &[(1.0, "low"), (2.5, "high")]).unwrap();
        assert_eq!(client.zscore("zset", "high"), Ok(2.5));
        let pairs: Vec<(String, f64)> = client.zrange_withscores("zset", 0, -1).unwrap();
        assert_eq!(pairs, [("low".into(), 1.0), ("high".into(), 2.5)]);
        let _: () = client.sadd("set", &[1, 2]).unwrap();
        assert_eq!(client.smembers("set"), Ok(BTreeSet::from([1, 2])));
        assert_eq!(client.smismember("set", &[1, 3]), Ok(vec![true, false]));
        assert_eq!(client.expire("hash", 100), Ok(true));
        assert_eq!(client.get::<_, Option<String>>("nothing"), Ok(None));
    }
}
