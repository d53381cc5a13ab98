//! A data set as the commands that make it, for bases without a dump (`aof-use-rdb-preamble no`).
//!
//! The commands are those of real servers, so that every one of them from 7.0 on can load the file: SET, RPUSH, SADD, ZADD,
//! HMSET (64 elements at a time), XADD, XSETID, XGROUP, XCLAIM and PEXPIREAT; and for fields that end HPEXPIREAT, which
//! servers know from 7.4 on. This walks the tables and reads nothing but them, like `persistence::dump`: it runs in a
//! forked child.

use std::io::{self, Write};

use crate::keyspace::Keyspace;
use crate::persistence::dump::{Delay, Progress, TELL_EVERY, release};
use crate::protocol::append_bulk;
use crate::protocol::number::format_17_digits;
use crate::structures::listpack::Element;
use crate::structures::quicklist::End;
use crate::structures::stream::{Group, Stream, StreamId};
use crate::types::{Entry, Hash, Kind, List, Set, Zset};

/// Elements of one command.
const AT_ONCE: usize = 64;
/// How much is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// Commands on their way into a file.
pub struct Commands<W: Write> {
    out: W,
    buffer: Vec<u8>,
    flushed: u64,
}

/// What the directives say about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct EncodeOptions {
    /// The unix second that a `#TS:` line at the head tells.
    pub time: Option<i64>,
    /// `rdb-key-save-delay`.
    pub key_save_delay_us: i32,
    /// This is a forked child: pages that it has done with are given back.
    pub release: bool,
}

/// Writes a whole data set. Returns what it was written to, flushed, and what has been written.
pub fn write_commands<W: Write>(
    out: W,
    keyspace: &Keyspace,
    libraries: &[&[u8]],
    options: &EncodeOptions,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<(W, Progress)> {
    let mut commands = Commands { out, buffer: Vec::with_capacity(BUFFER), flushed: 0 };
    let mut delay = Delay::new(options.key_save_delay_us);
    let mut keys = 0;
    if let Some(secs) = options.time {
        super::annotation::push_time(&mut commands.buffer, secs);
    }
    for code in libraries {
        commands.begin(b"FUNCTION", 2).argument(b"LOAD").argument(code);
    }
    for (index, db) in keyspace.iter().filter(|(_, db)| !db.is_empty()) {
        commands.begin(b"SELECT", 1).number(index as i64);
        for entry in db.dict().iter() {
            commands.entry(entry)?;
            if options.release {
                release(entry);
            }
            delay.rest();
            if keys % TELL_EVERY == 0 {
                progress(Progress { keys: keys + 1, bytes: commands.bytes_written() });
            }
            keys += 1;
        }
    }
    commands.flush()?;
    let bytes = commands.bytes_written();
    commands.out.flush()?;
    Ok((commands.out, Progress { keys, bytes }))
}

impl<W: Write> Commands<W> {
    fn bytes_written(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Begins a command with so many arguments.
    fn begin(&mut self, name: &[u8], arguments: usize) -> &mut Self {
        self.buffer.push(b'*');
        self.buffer.extend_from_slice(itoa::Buffer::new().format(arguments + 1).as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
        self.argument(name)
    }

    fn argument(&mut self, argument: &[u8]) -> &mut Self {
        append_bulk(&mut self.buffer, argument);
        self
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.argument(itoa::Buffer::new().format(number).as_bytes())
    }

    fn id(&mut self, id: StreamId) -> &mut Self {
        self.argument(id.to_string().as_bytes())
    }

    fn element(&mut self, element: Element) -> &mut Self {
        self.argument(element.text(&mut itoa::Buffer::new()))
    }

    /// The commands that make a key.
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let key = entry.key();
        match entry.kind() {
            Kind::Int | Kind::Inline | Kind::InlineRaw | Kind::Heap => {
                let value = entry.str().expect("its kind says so");
                self.begin(b"SET", 2).argument(key).argument(value.bytes(&mut itoa::Buffer::new()));
            }
            Kind::List => self.list(key, entry.object().expect("its kind says so"))?,
            Kind::Set => self.set(key, entry.object().expect("its kind says so"))?,
            Kind::Zset => self.zset(key, entry.object().expect("its kind says so"))?,
            Kind::Hash => self.hash(key, entry.object().expect("its kind says so"))?,
            Kind::Stream => self.stream(key, entry.object().expect("its kind says so"))?,
        }
        if let Some(at) = entry.expiry() {
            self.begin(b"PEXPIREAT", 2).argument(key).number(at);
        }
        self.flush_if_full()
    }

    /// Begins a command for the next of `left` elements of a collection, if it is the turn of one.
    fn begin_batch(
        &mut self,
        name: &[u8],
        key: &[u8],
        at: usize,
        len: usize,
        arguments: usize,
    ) -> io::Result<()> {
        if at.is_multiple_of(AT_ONCE) {
            self.flush_if_full()?;
            self.begin(name, 1 + arguments * (len - at).min(AT_ONCE)).argument(key);
        }
        Ok(())
    }

    fn list(&mut self, key: &[u8], list: &List) -> io::Result<()> {
        let (mut elements, len) = (list.iter(End::Front), list.len());
        let mut at = 0;
        while let Some(element) = elements.step() {
            self.begin_batch(b"RPUSH", key, at, len, 1)?;
            self.element(element);
            at += 1;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], set: &Set) -> io::Result<()> {
        for (at, member) in set.iter().enumerate() {
            self.begin_batch(b"SADD", key, at, set.len(), 1)?;
            self.element(member);
        }
        Ok(())
    }

    fn zset(&mut self, key: &[u8], zset: &Zset) -> io::Result<()> {
        for (at, (member, score)) in zset.iter().enumerate() {
            self.begin_batch(b"ZADD", key, at, zset.len(), 2)?;
            self.argument(format_17_digits(score).as_bytes()).element(member);
        }
        Ok(())
    }

    fn hash(&mut self, key: &[u8], hash: &Hash) -> io::Result<()> {
        for (at, (field, value)) in hash.iter_all().enumerate() {
            self.begin_batch(b"HMSET", key, at, hash.len(), 2)?;
            self.element(field).element(value);
        }
        for (field, _, time) in hash.timed().into_iter().flat_map(|timed| timed.iter()) {
            let Some(time) = time else { continue };
            self.begin(b"HPEXPIREAT", 5)
                .argument(key)
                .number(time)
                .argument(b"FIELDS")
                .number(1)
                .element(field);
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) -> io::Result<()> {
        for entry in stream.range(StreamId::MIN, StreamId::MAX) {
            self.begin(b"XADD", 2 + 2 * entry.len()).argument(key).id(entry.id);
            for (field, value) in entry.pairs() {
                self.element(field).element(value);
            }
            self.flush_if_full()?;
        }
        if stream.is_empty() {
            // There is no command for a stream without entries: one is added and trimmed away at once.
            self.begin(b"XADD", 6)
                .argument(key)
                .argument(b"MAXLEN")
                .argument(b"0")
                .argument(b"0-1")
                .argument(b"x")
                .argument(b"y");
        }
        self.begin(b"XSETID", 6).argument(key).id(stream.last_id());
        self.argument(b"ENTRIESADDED").number(stream.entries_added() as i64);
        self.argument(b"MAXDELETEDID").id(stream.max_deleted_id());
        for (name, group) in stream.groups() {
            self.begin(b"XGROUP", 6).argument(b"CREATE").argument(key).argument(name).id(group.last_id);
            // What is not known is -1.
            self.argument(b"ENTRIESREAD").number(group.entries_read.map_or(-1, |read| read as i64));
            self.group(key, name, group)?;
        }
        Ok(())
    }

    /// The consumers of a group, each made by what is pending for it.
    fn group(&mut self, key: &[u8], name: &[u8], group: &Group) -> io::Result<()> {
        for consumer in group.consumers() {
            if consumer.pending_count() == 0 {
                self.begin(b"XGROUP", 4)
                    .argument(b"CREATECONSUMER")
                    .argument(key)
                    .argument(name)
                    .argument(consumer.name());
            }
            for id in consumer.pending(StreamId::MIN..=StreamId::MAX) {
                let pending = group.pending(id).expect("consumers' lists are those of the group");
                self.begin(b"XCLAIM", 11)
                    .argument(key)
                    .argument(name)
                    .argument(consumer.name())
                    .argument(b"0")
                    .id(id);
                self.argument(b"TIME").number(pending.delivery_time_ms);
                self.argument(b"RETRYCOUNT").number(pending.delivery_count as i64);
                self.argument(b"JUSTID").argument(b"FORCE");
                self.flush_if_full()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structures::stream::BlockLimits;
    use crate::types::{NewValue, Thresholds};

    fn text(keyspace: &Keyspace, time: Option<i64>) -> String {
        let options = EncodeOptions { time, ..EncodeOptions::default() };
        let (bytes, progress) = write_commands(Vec::new(), keyspace, &[], &options, &mut |_| ()).unwrap();
        assert_eq!((progress.keys, progress.bytes), (keyspace.keys() as u64, bytes.len() as u64));
        // Arguments only: `*3 $3 SET` and so on are what the loader is tested with.
        let text = String::from_utf8(bytes).unwrap();
        let arguments: Vec<&str> = text.split("\r\n").filter(|argument| !argument.starts_with('$')).collect();
        arguments.join(" ").replace(" *", "\n*")
    }

    #[test]
    fn every_type_is_made_by_the_commands_of_real_servers() {
        let mut keyspace = Keyspace::new(4, 0);
        let limits = Thresholds::default();
        keyspace.db_mut(0).set(b"s", Some(9000), NewValue::Str(b"v"));
        let mut list = List::new();
        list.push(End::Back, b"a");
        list.push(End::Back, b"-7");
        keyspace.db_mut(1).insert(Entry::new(b"l", None, NewValue::Object(list.into())));
        let mut zset = Zset::new(1, 1, &limits);
        zset.insert(b"m", 0.1, &limits);
        zset.insert(b"inf", f64::INFINITY, &limits);
        keyspace.db_mut(2).insert(Entry::new(b"z", None, NewValue::Object(zset.into())));
        let mut hash = Hash::new();
        hash.set(b"f", b"v", &limits);
        hash.set(b"g", 5, &limits);
        hash.make_timed().set_time(b"g", Some(12_345));
        keyspace.db_mut(3).insert(Entry::new(b"h", None, NewValue::Object(hash.into())));
        assert_eq!(
            text(&keyspace, Some(77)),
            "#TS:77\n*2 SELECT 0\n*3 SET s v\n*3 PEXPIREAT s 9000\n\
             *2 SELECT 1\n*4 RPUSH l a -7\n\
             *2 SELECT 2\n*6 ZADD z 0.10000000000000001 m inf inf\n\
             *2 SELECT 3\n*6 HMSET h g 5 f v\n*6 HPEXPIREAT h 12345 FIELDS 1 g "
        );
    }

    #[test]
    fn many_elements_are_several_commands() {
        let mut keyspace = Keyspace::new(1, 0);
        let mut list = List::new();
        (0..130).for_each(|n| list.push(End::Back, format!("e{n}").as_bytes()));
        keyspace.db_mut(0).insert(Entry::new(b"l", None, NewValue::Object(list.into())));
        let text = text(&keyspace, None);
        let heads: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(heads, ["*2", "*66", "*66", "*4"]);
    }

    #[test]
    fn a_stream_comes_with_its_counters_and_groups() {
        let mut keyspace = Keyspace::new(1, 0);
        let limits = BlockLimits { max_bytes: 0, max_entries: 3 };
        let mut stream = Stream::new();
        for n in 1..=2 {
            stream
                .append(StreamId::new(n, 0), [(&b"f"[..], &b"v"[..])].into_iter(), limits)
                .expect("it ascends");
        }
        stream.delete(StreamId::new(2, 0));
        let mut group = Group::new(StreamId::new(1, 0), Some(1));
        let consumer = group.create_consumer(b"c", 700).expect("the first one");
        group.assign(StreamId::new(1, 0), consumer, 600, 5);
        group.create_consumer(b"idle", 700).expect("another one");
        stream.add_group(b"g", group);
        keyspace.db_mut(0).insert(Entry::new(b"x", None, NewValue::Object(stream.into())));
        keyspace.db_mut(0).insert(Entry::new(b"y", None, NewValue::Object(Stream::new().into())));
        let text = text(&keyspace, None);
        for part in [
            "*5 XADD x 1-0 f v\n*7 XSETID x 2-0 ENTRIESADDED 2 MAXDELETEDID 2-0\n\
             *7 XGROUP CREATE x g 1-0 ENTRIESREAD 1\n\
             *12 XCLAIM x g c 0 1-0 TIME 600 RETRYCOUNT 5 JUSTID FORCE\n\
             *5 XGROUP CREATECONSUMER x g idle",
            "*7 XADD y MAXLEN 0 0-1 x y\n*7 XSETID y 0-0 ENTRIESADDED 0 MAXDELETEDID 0-0",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
