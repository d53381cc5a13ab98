//! Client side caching: who is told that a key has changed, in which form, and when. And WAITAOF, with a replica that
//! says what its append-only file holds.

use std::io::Read;
use std::time::Duration;

use crate::support::{PATIENCE, Raw, Server, wait_until};

const A_WHILE: Duration = Duration::from_millis(80);

/// Sends a line and expects exactly this reply.
#[track_caller]
fn says(client: &mut Raw, line: &str, reply: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    client.command(&words);
    client.expect(reply);
}

/// A line that is answered by OK.
#[track_caller]
fn ok(client: &mut Raw, line: &str) {
    says(client, line, "+OK\r\n");
}

/// A client that speaks RESP3.
#[track_caller]
fn three(server: &Server) -> Raw {
    let mut client = server.raw();
    client.command(&["HELLO", "3"]);
    while client.line() != "*0" {}
    client
}

/// A client of RESP2 that listens for what another cannot be told, and its number.
#[track_caller]
fn listener(server: &Server) -> (Raw, String) {
    let mut client = server.raw();
    client.command(&["CLIENT", "ID"]);
    let id = client.line().split_off(1);
    says(
        &mut client,
        "SUBSCRIBE __redis__:invalidate",
        "*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n",
    );
    (client, id)
}

fn bulk(word: &str) -> String {
    format!("${}\r\n{word}\r\n", word.len())
}

fn keys(words: &str) -> String {
    let words: Vec<_> = words.split_ascii_whitespace().collect();
    format!("*{}\r\n{}", words.len(), words.iter().map(|word| bulk(word)).collect::<String>())
}

/// The push that tells of these keys.
fn push(words: &str) -> String {
    format!(">2\r\n{}{}", bulk("invalidate"), keys(words))
}

/// The message that does so in a channel.
fn message(words: &str) -> String {
    format!("*3\r\n{}{}{}", bulk("message"), bulk("__redis__:invalidate"), keys(words))
}

const ALL: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// The fields of INFO about tracking: clients, keys, items, prefixes.
fn counts(server: &Server) -> [u32; 4] {
    let clients = server.info_field("clients", "tracking_clients");
    let stats = server.info("stats");
    let stat = |name: &str| stats[&format!("tracking_total_{name}")].clone();
    [clients, stat("keys"), stat("items"), stat("prefixes")].map(|count| count.parse().unwrap())
}

#[test]
fn who_has_read_a_key_is_told_once_that_it_changed() {
    let server = Server::start(&[]);
    let (mut reader, mut writer) = (three(&server), server.raw());
    ok(&mut reader, "CLIENT TRACKING ON");
    says(&mut reader, "GET a", "_\r\n");
    says(&mut reader, "MGET b c", "*2\r\n_\r\n_\r\n");
    assert_eq!(counts(&server), [1, 3, 3, 0]);
    ok(&mut writer, "MSET a 1 unread 1 b 2");
    reader.expect(push("a"));
    reader.expect(push("b"));
    ok(&mut writer, "SET a 2");
    reader.expect_silence(A_WHILE);
    says(&mut reader, "GET a", "$1\r\n2\r\n");
    // The keys of all databases are one to it.
    ok(&mut writer, "SELECT 3");
    ok(&mut writer, "SET a 3");
    reader.expect(push("a"));
    // What writes is no reader, although it looks at its key.
    says(&mut reader, "GETDEL b", "$1\r\n2\r\n");
    assert_eq!(counts(&server), [1, 1, 1, 0]);
    ok(&mut reader, "CLIENT TRACKING OFF");
    ok(&mut writer, "SET c 1");
    reader.expect_silence(A_WHILE);
    assert_eq!(counts(&server), [0, 0, 0, 0]);
}

#[test]
fn one_hears_of_what_one_changes_oneself_behind_the_reply() {
    let server = Server::start(&[("notify-keyspace-events", "K$")]);
    let mut client = three(&server);
    ok(&mut client, "CLIENT TRACKING ON");
    let subscribed = format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk("__keyspace@0__:a"));
    says(&mut client, "SUBSCRIBE __keyspace@0__:a", &subscribed);
    says(&mut client, "GET a", "_\r\n");
    let event = format!(">3\r\n{}{}{}", bulk("message"), bulk("__keyspace@0__:a"), bulk("set"));
    says(&mut client, "SET a 1", &format!("+OK\r\n{event}{}", push("a")));
    // Of a transaction one hears when it is over, and what it read before it wrote is read no more.
    ok(&mut client, "MULTI");
    for line in ["MGET b c", "INCR b", "FLUSHDB", "GET c", "INCR c"] {
        says(&mut client, line, "+QUEUED\r\n");
    }
    let replies = format!("*5\r\n*2\r\n_\r\n_\r\n:1\r\n+OK\r\n_\r\n:1\r\n{}{ALL}{}", push("b"), push("c"));
    says(&mut client, "EXEC", &replies);
    // Of what it did before it ceased to track one hears, too, wherever it is to be heard.
    let (mut listener, id) = listener(&server);
    ok(&mut client, &format!("CLIENT TRACKING ON REDIRECT {id}"));
    ok(&mut client, "MULTI");
    for line in ["FLUSHALL", "CLIENT TRACKING OFF", "SET a 1"] {
        says(&mut client, line, "+QUEUED\r\n");
    }
    says(&mut client, "EXEC", &format!("*3\r\n+OK\r\n+OK\r\n+OK\r\n{event}"));
    listener.expect(format!("*3\r\n{}{}_\r\n", bulk("message"), bulk("__redis__:invalidate")));
    ok(&mut client, "CLIENT TRACKING ON NOLOOP");
    says(&mut client, "GET d", "_\r\n");
    ok(&mut client, "SET d 1");
    client.expect_silence(A_WHILE);
    says(&mut client, "GET d", "$1\r\n1\r\n");
    ok(&mut server.raw(), "SET d 2");
    client.expect(push("d"));
    // That a client wants no replies does not mean that it wants to hear nothing.
    says(&mut client, "GET d", "$1\r\n2\r\n");
    client.command(&["CLIENT", "REPLY", "OFF"]);
    client.command(&["SET", "d", "3"]);
    ok(&mut server.raw(), "SET d 4");
    client.expect_silence(A_WHILE);
    client.command(&["GET", "d"]);
    wait_until("the key is remembered", PATIENCE, || counts(&server)[1] == 1);
    ok(&mut server.raw(), "SET d 5");
    client.expect(push("d"));
}

#[test]
fn a_client_of_resp2_has_another_told() {
    let server = Server::start(&[]);
    let (mut listener, id) = listener(&server);
    let (mut reader, mut writer) = (server.raw(), server.raw());
    // By itself it has no place for such news.
    ok(&mut reader, "CLIENT TRACKING ON");
    says(&mut reader, "CLIENT GETREDIR", ":0\r\n");
    says(&mut reader, "GET a", "$-1\r\n");
    ok(&mut writer, "SET a 1");
    reader.expect_silence(A_WHILE);
    ok(&mut reader, &format!("CLIENT TRACKING ON REDIRECT {id}"));
    says(&mut reader, "CLIENT GETREDIR", &format!(":{id}\r\n"));
    says(&mut reader, "GET a", "$1\r\n1\r\n");
    ok(&mut writer, "SET a 2");
    listener.expect(message("a"));
    says(&mut reader, "GET a", "$1\r\n2\r\n");
    ok(&mut writer, "FLUSHALL");
    listener.expect(format!("*3\r\n{}{}$-1\r\n", bulk("message"), bulk("__redis__:invalidate")));
    // Who is not in the mode for messages cannot be told either.
    says(
        &mut listener,
        "UNSUBSCRIBE",
        &format!("*3\r\n{}{}:0\r\n", bulk("unsubscribe"), bulk("__redis__:invalidate")),
    );
    says(&mut reader, "GET a", "$-1\r\n");
    ok(&mut writer, "SET a 3");
    listener.expect_silence(A_WHILE);
    says(
        &mut reader,
        "CLIENT TRACKING ON REDIRECT 9999",
        "-ERR The client ID you want redirect to does not exist\r\n",
    );
}

#[test]
fn that_the_other_is_gone_is_told_and_shown() {
    let server = Server::start(&[]);
    let (listener, id) = listener(&server);
    let mut reader = three(&server);
    reader.command(&["CLIENT", "ID"]);
    let own = reader.line().split_off(1);
    let shown = |field: &str| {
        let line: String = server.query(&["CLIENT", "LIST", "ID", &own]);
        line.split(' ').find_map(|word| word.strip_prefix(field).map(str::to_owned)).unwrap()
    };
    assert_eq!((shown("flags="), shown("redir=")), ("N".into(), "-1".into()));
    ok(&mut reader, &format!("CLIENT TRACKING ON REDIRECT {id} BCAST"));
    assert_eq!((shown("flags="), shown("redir=")), ("tB".into(), id.clone()));
    drop(listener);
    wait_until("the listener is gone", PATIENCE, || {
        server.query::<String>(&["CLIENT", "LIST", "ID", &id]).is_empty()
    });
    ok(&mut server.raw(), "SET a 1");
    reader.expect(format!(">2\r\n{}:{id}\r\n", bulk("tracking-redir-broken")));
    assert_eq!(shown("flags="), "tRB");
    let info = format!(
        "%3\r\n{}~3\r\n{}{}{}{}:{id}\r\n{}*1\r\n$0\r\n\r\n",
        bulk("flags"),
        bulk("on"),
        bulk("bcast"),
        bulk("broken_redirect"),
        bulk("redirect"),
        bulk("prefixes")
    );
    says(&mut reader, "CLIENT TRACKINGINFO", &info);
    ok(&mut reader, "CLIENT TRACKING ON BCAST");
    assert_eq!((shown("flags="), shown("redir=")), ("tB".into(), "0".into()));
    says(&mut reader, "RESET", "+RESET\r\n");
    assert_eq!(shown("flags="), "N");
    says(
        &mut reader,
        "CLIENT TRACKINGINFO",
        &format!(
            "*6\r\n{}*1\r\n{}{}:-1\r\n{}*0\r\n",
            bulk("flags"),
            bulk("off"),
            bulk("redirect"),
            bulk("prefixes")
        ),
    );
    assert_eq!(counts(&server), [0, 0, 0, 0]);
}

#[test]
fn opting_in_and_out_is_for_the_next_command_or_transaction() {
    let server = Server::start(&[]);
    let (mut reader, mut writer) = (three(&server), server.raw());
    ok(&mut reader, "CLIENT TRACKING ON OPTIN");
    says(&mut reader, "GET a", "_\r\n");
    ok(&mut reader, "CLIENT CACHING YES");
    // Other words of CLIENT do not use it up, whatever else does.
    reader.command(&["CLIENT", "TRACKINGINFO"]);
    reader.expect(format!("%3\r\n{}~3\r\n", bulk("flags")));
    reader.expect([bulk("on"), bulk("optin"), bulk("caching-yes"), bulk("redirect")].concat());
    reader.expect(format!(":0\r\n{}*0\r\n", bulk("prefixes")));
    says(&mut reader, "GET b", "_\r\n");
    says(&mut reader, "GET c", "_\r\n");
    ok(&mut reader, "CLIENT CACHING YES");
    says(&mut reader, "NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    says(&mut reader, "GET d", "_\r\n");
    ok(&mut reader, "CLIENT CACHING YES");
    ok(&mut reader, "MULTI");
    says(&mut reader, "GET e", "+QUEUED\r\n");
    says(&mut reader, "GET f", "+QUEUED\r\n");
    says(&mut reader, "EXEC", "*2\r\n_\r\n_\r\n");
    says(&mut reader, "GET g", "_\r\n");
    ok(&mut writer, "MSET a 1 b 1 c 1 d 1 e 1 f 1 g 1");
    reader.expect([push("b"), push("e"), push("f")].concat());
    reader.expect_silence(A_WHILE);
    let no_switch = "-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                     re-enabling it with a different mode.\r\n";
    says(&mut reader, "CLIENT TRACKING ON OPTOUT", no_switch);
    let no = "-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n";
    says(&mut reader, "CLIENT CACHING NO", no);
    says(&mut reader, "CLIENT CACHING MAYBE", "-ERR syntax error\r\n");
    ok(&mut reader, "CLIENT TRACKING OFF");
    let off = "-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode \
               enabled\r\n";
    says(&mut reader, "CLIENT CACHING NO", off);
    ok(&mut reader, "CLIENT TRACKING ON OPTOUT");
    ok(&mut reader, "CLIENT CACHING NO");
    says(&mut reader, "GET a", "$1\r\n1\r\n");
    says(&mut reader, "GET b", "$1\r\n1\r\n");
    ok(&mut writer, "MSET a 2 b 2");
    reader.expect(push("b"));
    reader.expect_silence(A_WHILE);
}

#[test]
fn who_names_prefixes_hears_of_all_keys_with_them_once_a_turn() {
    let server = Server::start(&[]);
    let (mut all, mut some, mut writer) = (three(&server), three(&server), server.raw());
    ok(&mut all, "CLIENT TRACKING ON BCAST");
    ok(&mut some, "CLIENT TRACKING ON BCAST PREFIX a: PREFIX b: NOLOOP");
    assert_eq!(counts(&server), [2, 0, 0, 3]);
    ok(&mut writer, "MSET b:1 x c:1 x a:2 x a:1 x a:1 y");
    all.expect(push("a:1 a:2 b:1 c:1"));
    some.expect(push("a:1 a:2"));
    some.expect(push("b:1"));
    ok(&mut some, "MSET a:1 x c:1 x");
    all.expect(push("a:1 c:1"));
    some.expect_silence(A_WHILE);
    // More prefixes are added to those that are there already.
    ok(&mut some, "CLIENT TRACKING ON BCAST PREFIX c:");
    assert_eq!(counts(&server), [2, 0, 0, 4]);
    says(&mut some, "DEL a:1", ":1\r\n");
    some.expect(push("a:1"));
    all.expect(push("a:1"));
    some.command(&["CLIENT", "ID"]);
    let own = some.line().split_off(1);
    for (line, error) in [
        (
            "ON BCAST PREFIX a:1",
            "Prefix 'a:1' overlaps with an existing prefix 'a:'. Prefixes for a single client must not overlap.",
        ),
        (
            "ON BCAST PREFIX x PREFIX yx PREFIX y",
            "Prefix 'yx' overlaps with another provided prefix 'y'. Prefixes for a single client must not overlap.",
        ),
        ("ON PREFIX a", "PREFIX option requires BCAST mode to be enabled"),
        (
            "ON",
            "You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
        ),
        ("ON BCAST OPTIN", "OPTIN and OPTOUT are not compatible with BCAST"),
        ("ON OPTIN OPTOUT BCAST REDIRECT x", "value is not an integer or out of range"),
        ("ON REDIRECT SELF REDIRECT SELF", "A client can only redirect to a single other client"),
        ("ON PREFIX", "syntax error"),
        ("MAYBE", "syntax error"),
    ] {
        let line = line.replace("SELF", &own);
        says(&mut some, &format!("CLIENT TRACKING {line}"), &format!("-ERR {error}\r\n"));
    }
    ok(&mut writer, "FLUSHALL");
    all.expect(ALL);
    some.expect(ALL);
    drop(some);
    wait_until("its prefixes are gone", PATIENCE, || counts(&server) == [1, 0, 0, 1]);
    // What is big is sent to all of them by reference.
    let long = "k".repeat(40_000);
    ok(&mut writer, &format!("SET {long} 1"));
    all.expect(push(&long));
}

#[test]
fn a_key_that_ends_or_is_dropped_from_the_table_is_told() {
    let server = Server::start(&[("tracking-table-max-keys", "2")]);
    let (mut reader, mut writer) = (three(&server), server.raw());
    ok(&mut reader, "CLIENT TRACKING ON NOLOOP");
    ok(&mut writer, "SET a 1 PX 600");
    says(&mut reader, "GET a", "$1\r\n1\r\n");
    reader.expect(push("a"));
    // Who finds a key ended that nobody has deleted yet is told before it is remembered as having read it.
    ok(&mut writer, "DEBUG SET-ACTIVE-EXPIRE 0");
    ok(&mut reader, "CLIENT TRACKING ON");
    ok(&mut writer, "SET a 1 PX 600");
    says(&mut reader, "GET a", "$1\r\n1\r\n");
    std::thread::sleep(Duration::from_millis(650));
    says(&mut reader, "GET a", &format!("_\r\n{}", push("a")));
    assert_eq!(counts(&server), [1, 1, 1, 0]);
    says(&mut reader, "MGET b c", "*2\r\n_\r\n_\r\n");
    // One of the three is dropped before the next command: which, is left to chance.
    says(&mut writer, "PING", "+PONG\r\n");
    reader.expect(format!(">2\r\n{}*1\r\n$1\r\n", bulk("invalidate")));
    assert!(["a", "b", "c"].contains(&reader.line().as_str()));
    reader.expect_silence(A_WHILE);
    assert_eq!(counts(&server), [1, 2, 2, 0]);
    // A limit that is set later is kept even if nobody says anything.
    ok(&mut writer, "CONFIG SET tracking-table-max-keys 1");
    reader.expect(format!(">2\r\n{}*1\r\n$1\r\n", bulk("invalidate")));
}

#[test]
fn a_replica_tells_its_readers_what_its_master_does() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.wait_linked();
    let (mut reader, mut broadcast) = (three(&replica), three(&replica));
    ok(&mut reader, "CLIENT TRACKING ON");
    ok(&mut broadcast, "CLIENT TRACKING ON BCAST");
    says(&mut reader, "MGET a b", "*2\r\n_\r\n_\r\n");
    master.query::<()>(&["SET", "b", "1"]);
    reader.expect(push("b"));
    broadcast.expect(push("b"));
    says(&mut reader, "GET b", "$1\r\n1\r\n");
    let other = Server::start(&[("repl-diskless-sync-delay", "0")]);
    // Another master's data: nothing that was cached counts.
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    reader.expect(ALL);
    broadcast.expect(ALL);
}

/// Reads the master's stream up to where it asks how far its replica is.
#[track_caller]
fn wait_getack(replica: &mut Raw) {
    let mut read = Vec::new();
    while !read.ends_with(b"$6\r\nGETACK\r\n$1\r\n*\r\n") {
        let mut byte = [0];
        replica.stream().read_exact(&mut byte).expect("the master asks its replica");
        read.push(byte[0]);
    }
}

#[test]
fn waitaof_counts_the_files_of_replicas() {
    let server = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let mut client = server.raw();
    for (line, error) in [
        ("WAITAOF 2 0 0", "value is out of range, value must between 0 and 1"),
        ("WAITAOF x 0 0", "value is not an integer or out of range"),
        ("WAITAOF 0 -1 0", "value is out of range, must be positive"),
        ("WAITAOF 0 0 -1", "timeout is negative"),
        ("WAITAOF 0 0 x", "timeout is not an integer or out of range"),
        ("WAITAOF 1 0 0", "WAITAOF cannot be used when numlocal is set but appendonly is disabled."),
    ] {
        says(&mut client, line, &format!("-ERR {error}\r\n"));
    }
    says(&mut client, "WAITAOF 0 0 0", "*2\r\n:0\r\n:0\r\n");
    says(&mut client, "WAITAOF 0 1 10", "*2\r\n:0\r\n:0\r\n");
    let mut replica = server.raw();
    replica.send("SYNC\r\n");
    let header = replica.line();
    let len = header.trim_start().strip_prefix('$').and_then(|len| len.parse().ok());
    let mut dump = vec![0; len.unwrap_or_else(|| panic!("{header:?} is no header of a dump"))];
    replica.stream().read_exact(&mut dump).unwrap();
    ok(&mut client, "SET k v");
    let offset = server.offset();
    client.command(&["WAITAOF", "0", "1", "0"]);
    wait_getack(&mut replica);
    // That it has applied the stream says nothing of its file.
    replica.command(&["REPLCONF", "ACK", "1000000"]);
    client.expect_silence(A_WHILE);
    replica.command(&["REPLCONF", "ACK", "1000000", "FACK", &(offset - 1).to_string()]);
    client.expect_silence(A_WHILE);
    replica.command(&["REPLCONF", "ACK", "1000000", "FACK", &offset.to_string()]);
    client.expect("*2\r\n:0\r\n:1\r\n");
    // In a transaction nobody waits, and who is let go is told how far it has come.
    ok(&mut client, "SET k w");
    ok(&mut client, "MULTI");
    says(&mut client, "WAITAOF 0 1 0", "+QUEUED\r\n");
    says(&mut client, "EXEC", "*1\r\n*2\r\n:0\r\n:0\r\n");
    client.command(&["CLIENT", "ID"]);
    let id = client.line().split_off(1);
    client.command(&["WAITAOF", "0", "1", "0"]);
    wait_until("it waits", PATIENCE, || server.info_field("clients", "blocked_clients") == "1");
    assert_eq!(server.query::<i64>(&["CLIENT", "UNBLOCK", &id]), 1);
    client.expect("*2\r\n:0\r\n:0\r\n");
    client.command(&["WAITAOF", "0", "1", "0"]);
    wait_until("it waits", PATIENCE, || server.info_field("clients", "blocked_clients") == "1");
    server.query::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    client.expect(
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
    );
    says(
        &mut server.raw(),
        "WAITAOF 0 0 0",
        "-ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local \
         and are not propagated.\r\n",
    );
}
