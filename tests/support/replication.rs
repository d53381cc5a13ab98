//! What tests of replication ask of servers, ours or real ones alike: who follows whom, how far, and whether the data
//! is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PATIENCE, Server, wait_until};

/// How long a server that is busy with a dump may take.
pub const LONG: Duration = Duration::from_secs(60);

/// Every key with its value and the time of its end (-1: none), by database.
pub type Dataset = BTreeMap<(usize, Vec<u8>), (Vec<Vec<u8>>, i64)>;

/// ROLE, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Master { offset: i64, replicas: usize },
    Replica { link: String, offset: i64 },
}

impl Server {
    /// Starts one of ours that follows `master`.
    #[track_caller]
    pub fn replica_of(master: u16, config: &[(&str, &str)]) -> Server {
        let address = format!("127.0.0.1 {master}");
        let mut all = vec![("replicaof", address.as_str())];
        all.extend(config);
        Server::start(&all)
    }

    #[track_caller]
    pub fn role(&self) -> Role {
        role_from(redis::cmd("ROLE").query(&mut self.client()).expect("ROLE is answered"))
    }

    /// ROLE, or nothing while the server loads.
    pub fn try_role(&self) -> Option<Role> {
        redis::cmd("ROLE").query(&mut self.client()).ok().map(role_from)
    }

    pub fn is_linked(&self) -> bool {
        matches!(self.try_role(), Some(Role::Replica { link, .. }) if link == "connected")
    }

    /// How far the stream has come here.
    #[track_caller]
    pub fn offset(&self) -> i64 {
        match self.role() {
            Role::Master { offset, .. } | Role::Replica { offset, .. } => offset,
        }
    }

    /// Waits until this replica follows its master, and stands where `master` stands.
    #[track_caller]
    pub fn follows(&self, master: &Server) {
        wait_until("the replica stands where its master stands", LONG, || {
            self.is_linked() && self.offset() == master.offset()
        });
    }

    /// How often a text stands in the log.
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Children that the server has forked for snapshots.
    pub fn snapshots(&self) -> usize {
        self.logged("Background saving started by pid")
            + self.logged("Background RDB transfer started by pid")
    }

    /// Of these, those that were begun for replicas.
    pub fn snapshots_for_replicas(&self) -> usize {
        self.logged("Starting BGSAVE for SYNC")
    }

    /// Replicas that were let go on where they were.
    pub fn partial_syncs(&self) -> usize {
        self.logged("accepted. Sending")
    }

    #[track_caller]
    pub fn dataset(&self) -> Dataset {
        let mut all = Dataset::new();
        let mut conn = self.client();
        for db in 0..16 {
            redis::cmd("SELECT").arg(db).exec(&mut conn).unwrap();
            let mut cursor = 0u64;
            loop {
                let (next, keys): (u64, Vec<Vec<u8>>) =
                    redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(1000).query(&mut conn).unwrap();
                let mut pipe = redis::pipe();
                for key in &keys {
                    pipe.cmd("TYPE").arg(key).cmd("PEXPIRETIME").arg(key);
                }
                let about: Vec<(String, i64)> =
                    if keys.is_empty() { vec![] } else { pipe.query(&mut conn).unwrap() };
                let mut pipe = redis::pipe();
                for (key, (kind, _)) in keys.iter().zip(&about) {
                    match kind.as_str() {
                        "string" => pipe.cmd("GET").arg(key),
                        "list" => pipe.cmd("LRANGE").arg(key).arg(0).arg(-1),
                        "set" => pipe.cmd("SMEMBERS").arg(key),
                        "hash" => pipe.cmd("HGETALL").arg(key),
                        "zset" => pipe.cmd("ZRANGE").arg(key).arg(0).arg(-1).arg("WITHSCORES"),
                        "stream" => pipe.cmd("XRANGE").arg(key).arg("-").arg("+"),
                        // It has ended since.
                        _ => pipe.cmd("GET").arg(key),
                    };
                }
                let values: Vec<redis::Value> =
                    if keys.is_empty() { vec![] } else { pipe.query(&mut conn).unwrap() };
                for ((key, (kind, end)), value) in keys.into_iter().zip(about).zip(values) {
                    let mut flat = Vec::new();
                    flatten(value, &mut flat);
                    match kind.as_str() {
                        "none" => continue,
                        "set" => flat.sort(),
                        "hash" => {
                            let mut pairs: Vec<_> = flat.chunks(2).map(<[_]>::to_vec).collect();
                            pairs.sort();
                            flat = pairs.concat();
                        }
                        _ => {}
                    }
                    all.insert((db, key), (flat, end));
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        all
    }

    /// This replica has caught up with `master` and holds the same keys, values and times.
    #[track_caller]
    pub fn same_as(&self, master: &Server) {
        self.follows(master);
        self.holds_the_same_as(master);
    }

    /// Two servers hold the same keys, values and times.
    #[track_caller]
    pub fn holds_the_same_as(&self, master: &Server) {
        let (theirs, ours) = (master.dataset(), self.dataset());
        let missing: Vec<_> =
            theirs.iter().filter(|(key, value)| ours.get(*key) != Some(value)).take(5).collect();
        let extra: Vec<_> = ours.iter().filter(|(key, _)| !theirs.contains_key(*key)).take(5).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "of {} keys of the master and {} of the replica differ, at the master: {:.2000}, at the replica: {:.2000}, there: {:.2000}",
            theirs.len(),
            ours.len(),
            format!("{missing:?}"),
            format!("{extra:?}"),
            format!("{:?}", missing.iter().map(|(key, _)| ours.get(*key)).collect::<Vec<_>>())
        );
        let digest = |server: &Server| server.query::<String>(&["DEBUG", "DIGEST"]);
        assert_eq!(digest(self), digest(master), "the digests differ where the data does not");
    }

    /// Fills the database with so many keys of so many bytes, every other with a TTL.
    #[track_caller]
    pub fn fill(&self, keys: usize, bytes: usize) {
        let mut conn = self.client();
        let value = "x".repeat(bytes);
        for from in (0..keys).step_by(1000) {
            let mut pipe = redis::pipe();
            for n in from..keys.min(from + 1000) {
                let command = pipe.cmd("SET").arg(format!("fill:{n}")).arg(format!("{n}:{value}"));
                if n % 2 == 1 {
                    command.arg("EX").arg(100_000 + n);
                }
                command.ignore();
            }
            pipe.exec(&mut conn).unwrap();
        }
    }

    /// Waits until a key has a value here.
    #[track_caller]
    pub fn wait_value(&self, key: &str, value: &str) {
        wait_until(&format!("{key} is {value:?}"), PATIENCE, || {
            let got: Option<Option<String>> = redis::cmd("GET").arg(key).query(&mut self.client()).ok();
            got.flatten().as_deref() == Some(value)
        });
    }

    /// The error that a command ends with, as sent.
    #[track_caller]
    pub fn error_of(&self, words: &[&str]) -> String {
        let mut raw = self.raw();
        raw.command(words);
        let line = raw.line();
        assert!(line.starts_with('-'), "{words:?} is answered by {line:?}");
        line
    }
}

#[track_caller]
fn role_from(reply: redis::Value) -> Role {
    let redis::Value::Array(items) = reply else { panic!("ROLE is answered by {reply:?}") };
    let text = |at: usize| redis::from_redis_value::<String>(items[at].clone()).unwrap();
    let int = |at: usize| redis::from_redis_value::<i64>(items[at].clone()).unwrap();
    match text(0).as_str() {
        "master" => {
            let redis::Value::Array(replicas) = &items[2] else { panic!("ROLE lists no replicas") };
            Role::Master { offset: int(1), replicas: replicas.len() }
        }
        _ => Role::Replica { link: text(3), offset: int(4) },
    }
}

fn flatten(value: redis::Value, into: &mut Vec<Vec<u8>>) {
    match value {
        redis::Value::Array(items) => items.into_iter().for_each(|item| flatten(item, into)),
        redis::Value::BulkString(bytes) => into.push(bytes),
        redis::Value::Nil => {}
        other => into.push(format!("{other:?}").into_bytes()),
    }
}
