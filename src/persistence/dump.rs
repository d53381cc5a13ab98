//! The databases on their way into a dump, in the order of a real one.
//!
//! This walks the tables and reads nothing but them: whoever calls says what the dump tells of its origin, and hears
//! how far it has come. It runs in the server itself (SAVE) as in a forked child, so it takes no lock, writes to no
//! entry and needs no memory that grows with the data.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::config::MaxmemoryPolicy;
use crate::env::clock;
use crate::env::random::Rng;
use crate::keyspace::{Keyspace, access};
use crate::persistence::rdb::{
    NODE_PACKED, NODE_PLAIN, RDB_VERSION, RDB_VERSION_FIELD_TTL, RDB_VERSION_VALKEY, SavingAux, ValueType,
    Writer, WriterOptions, encode_dump,
};
use crate::structures::listpack::{Element, Listpack};
use crate::structures::quicklist::{End, NodeRef};
use crate::structures::stream::{Group, Stream, StreamId};
use crate::types::{Either, Entry, Hash, Kind, List, Set, StrRef, Timed, TimedForm, View, Zset};

/// Progress is told after so many keys, beginning with the first.
pub(super) const TELL_EVERY: u64 = 1024;

/// The versions from which on values may be written as the listpacks that they are.
const LISTPACKS_SINCE: u16 = 10;
const SET_LISTPACK_SINCE: u16 = 11;
/// The version since which scores are binary.
const BINARY_SCORES_SINCE: u16 = 8;
/// The versions since which there are streams, their counters beside the entries, and the active time of consumers.
const STREAMS_SINCE: u16 = 9;
const STREAM_COUNTERS_SINCE: u16 = 10;
const STREAM_ACTIVE_TIME_SINCE: u16 = 11;

/// The version from which on a field can have a time. What readers of older ones get is a hash whose fields live for
/// ever: they have no word for anything else.
const FIELD_TIMES_SINCE: u16 = 12;

/// Values from this size on are worth a system call to release.
const RELEASE_FROM: usize = 64 << 10;

/// What the directives say about every dump.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    pub writer: WriterOptions,
    pub usage: Usage,
    /// `rdb-key-save-delay`, a test's aid: microseconds to rest after each key; if negative, a microsecond after one
    /// key in so many.
    pub key_save_delay_us: i32,
    /// This is a forked child: pages that it has done with are given back, so that the parent, which is then their
    /// only owner, need not copy them when it writes.
    pub release: bool,
}

/// What is said about the use of each key. Only a server that evicts by use writes anything, as its reader could
/// make nothing of it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Unsaid,
    Idle,
    Frequency { decay_minutes: u32 },
}

impl Usage {
    /// What `maxmemory-policy` asks for; the minutes are `lfu-decay-time`.
    pub fn of(policy: MaxmemoryPolicy, decay_minutes: u32) -> Usage {
        use MaxmemoryPolicy::*;
        match policy {
            AllkeysLru | VolatileLru => Usage::Idle,
            AllkeysLfu | VolatileLfu => Usage::Frequency { decay_minutes },
            AllkeysRandom | VolatileRandom | VolatileTtl | NoEviction => Usage::Unsaid,
        }
    }
}

/// How far a dump has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub keys: u64,
    pub bytes: u64,
}

/// A dump of nothing but what it tells about its origin.
pub fn dataset_without_data(aux: &SavingAux, options: WriterOptions) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), options);
    writer.header()?;
    writer.saving_aux(aux)?;
    writer.finish()
}

/// Writes a whole dump. Returns what it was written to, flushed, and what has been written.
pub fn write_dataset<W: Write>(
    out: W,
    keyspace: &Keyspace,
    aux: &SavingAux,
    options: &DumpOptions,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<(W, Progress)> {
    let mut writer = Writer::new(out, options.writer);
    let now_secs = clock::unix_ms() / 1000;
    let mut delay = Delay::new(options.key_save_delay_us);
    let mut keys = 0;
    writer.header()?;
    writer.saving_aux(aux)?;
    for (index, db) in keyspace.iter().filter(|(_, db)| !db.is_empty()) {
        writer.select_db(index as u64)?;
        writer.resize_db(db.len() as u64, db.volatile() as u64)?;
        for entry in db.dict().iter() {
            if let Some(at) = entry.expiry() {
                writer.expire_at_ms(at)?;
            }
            match options.usage {
                Usage::Unsaid => {}
                Usage::Idle => writer.idle(access::idle_ms(entry.lru(), now_secs) / 1000)?,
                Usage::Frequency { decay_minutes } => {
                    writer.freq(access::frequency(entry.lru(), now_secs, decay_minutes) as u8)?;
                }
            }
            write_entry(&mut writer, entry)?;
            if options.release {
                release(entry);
            }
            delay.rest();
            if keys % TELL_EVERY == 0 {
                progress(Progress { keys: keys + 1, bytes: writer.bytes_written() });
            }
            keys += 1;
        }
    }
    // The end mark and the checksum are nine bytes.
    let bytes = writer.bytes_written() + 9;
    Ok((writer.finish()?, Progress { keys, bytes }))
}

/// The type, the key and the value of an entry.
pub fn write_entry<W: Write>(writer: &mut Writer<W>, entry: &Entry) -> io::Result<()> {
    writer.entry(value_type(entry, writer.version()), entry.key())?;
    write_value(writer, entry)
}

/// The version in which a data set is best written: the usual one, unless fields of a hash end.
pub fn version_for(keyspace: &Keyspace) -> u16 {
    if keyspace.iter().any(|(_, db)| db.timed() > 0) { RDB_VERSION_FIELD_TTL } else { RDB_VERSION }
}

/// The version in which a data set of ours is written, of which `wanted` (`rdb-version`; 0: no wish) says it. The error
/// is why it cannot be.
pub fn own_version(keyspace: &Keyspace, wanted: u16) -> Result<u16, String> {
    let needed = version_for(keyspace);
    match wanted {
        0 => Ok(needed),
        _ if wanted < FIELD_TIMES_SINCE && needed >= FIELD_TIMES_SINCE => Err(format!(
            "rdb-version is {wanted}, and dumps of that version cannot hold hash fields with a time to live"
        )),
        _ => Ok(wanted),
    }
}

/// The payload of DUMP: the value of an entry, without its key and expiry. It has the usual version, unless fields of
/// it end.
pub fn dump_value(entry: &Entry, options: WriterOptions) -> Vec<u8> {
    let timed = entry.object().and_then(Hash::timed).is_some_and(|timed| timed.nearest().is_some());
    let version = if timed { RDB_VERSION_FIELD_TTL } else { options.version };
    let options = WriterOptions { version, ..options };
    let payload = encode_dump(options, |writer| {
        writer.write_type(value_type(entry, writer.version()))?;
        write_value(writer, entry)
    });
    payload.expect("writing to memory does not fail")
}

/// The form in which a value is written: the one that is nearest to memory among those that readers of this version
/// of dumps know.
fn value_type(entry: &Entry, version: u16) -> ValueType {
    match entry.kind() {
        Kind::Int | Kind::Inline | Kind::InlineRaw | Kind::Heap => ValueType::String,
        Kind::List if version < LISTPACKS_SINCE => ValueType::List,
        Kind::List => ValueType::ListQuicklist2,
        Kind::Hash => match entry.object().map(Hash::view) {
            Some(View::Packed(_)) if version >= LISTPACKS_SINCE => ValueType::HashListpack,
            Some(View::Rare(timed)) => match timed.form() {
                // The one form that Valkey has, whose number means another in dumps of Redis.
                _ if has_times(timed, version) && version == RDB_VERSION_VALKEY => ValueType::HashTimesPreGa,
                TimedForm::Packed(_) if has_times(timed, version) => ValueType::HashListpackTimes,
                TimedForm::Table(_) if has_times(timed, version) => ValueType::HashTimes,
                TimedForm::Packed(_) if version >= LISTPACKS_SINCE => ValueType::HashListpack,
                _ => ValueType::Hash,
            },
            _ => ValueType::Hash,
        },
        Kind::Set => match entry.object() {
            Some(Set::Ints(_)) => ValueType::SetIntset,
            Some(Set::Packed(_)) if version >= SET_LISTPACK_SINCE => ValueType::SetListpack,
            _ => ValueType::Set,
        },
        Kind::Zset => match entry.object().map(Zset::view) {
            Some(Either::Packed(_)) if version >= LISTPACKS_SINCE => ValueType::ZsetListpack,
            _ if version < BINARY_SCORES_SINCE => ValueType::Zset,
            _ => ValueType::Zset2,
        },
        Kind::Stream => match version {
            STREAM_ACTIVE_TIME_SINCE.. => ValueType::StreamListpacks3,
            STREAM_COUNTERS_SINCE.. => ValueType::StreamListpacks2,
            _ => ValueType::StreamListpacks,
        },
    }
}

fn write_value<W: Write>(writer: &mut Writer<W>, entry: &Entry) -> io::Result<()> {
    match entry.kind() {
        Kind::Int | Kind::Inline | Kind::InlineRaw | Kind::Heap => match entry.str() {
            Some(StrRef::Int(n)) => writer.write_int(n),
            Some(StrRef::Inline { bytes, .. }) => writer.write_string(bytes),
            Some(StrRef::Heap(bytes)) => writer.write_string(bytes),
            None => unreachable!("these are the kinds of strings"),
        },
        Kind::List => write_list(writer, entry.object().expect("its kind says so")),
        Kind::Hash => write_hash(writer, entry.object().expect("its kind says so")),
        Kind::Set => write_set(writer, entry.object().expect("its kind says so")),
        Kind::Zset => write_zset(writer, entry.object().expect("its kind says so")),
        Kind::Stream => write_stream(writer, entry.object().expect("its kind says so")),
    }
}

fn write_list<W: Write>(writer: &mut Writer<W>, list: &List) -> io::Result<()> {
    if writer.version() < LISTPACKS_SINCE {
        writer.write_len(list.len() as u64)?;
        let mut elements = list.iter(End::Front);
        while let Some(element) = elements.step() {
            writer.write_string(element.text(&mut itoa::Buffer::new()))?;
        }
        return Ok(());
    }
    match list.view() {
        Either::Packed(pack) => {
            writer.write_len(1)?;
            write_node(writer, NodeRef::Packed(pack))
        }
        Either::Large(list) => {
            writer.write_len(list.node_count() as u64)?;
            list.nodes().try_for_each(|node| write_node(writer, node))
        }
    }
}

fn write_zset<W: Write>(writer: &mut Writer<W>, zset: &Zset) -> io::Result<()> {
    if let Either::Packed(pack) = zset.view()
        && writer.version() >= LISTPACKS_SINCE
    {
        return writer.write_listpack(pack.view());
    }
    writer.write_len(zset.len() as u64)?;
    // From the highest to the lowest, as real servers do, since that is how they insert fastest.
    for (member, score) in zset.iter().rev() {
        writer.write_string(member.text(&mut itoa::Buffer::new()))?;
        match writer.version() {
            BINARY_SCORES_SINCE.. => writer.write_double(score)?,
            _ => writer.write_text_double(score)?,
        }
    }
    Ok(())
}

fn write_node<W: Write>(writer: &mut Writer<W>, node: NodeRef) -> io::Result<()> {
    let plain = matches!(node, NodeRef::Plain(_) | NodeRef::Compressed { plain: true, .. });
    writer.write_len(if plain { NODE_PLAIN } else { NODE_PACKED })?;
    match node {
        NodeRef::Plain(bytes) => writer.write_string(bytes),
        NodeRef::Packed(pack) => writer.write_listpack(pack.view()),
        NodeRef::Compressed { len, lzf, .. } => writer.write_compressed(lzf, len as u64),
    }
}

/// Whether the times of the fields are written. Where none is left, the hash is like any other.
fn has_times(timed: &Timed, version: u16) -> bool {
    version >= FIELD_TIMES_SINCE && timed.nearest().is_some()
}

fn write_hash<W: Write>(writer: &mut Writer<W>, hash: &Hash) -> io::Result<()> {
    match hash.view() {
        View::Packed(listpack) if writer.version() >= LISTPACKS_SINCE => {
            return writer.write_listpack(listpack.view());
        }
        View::Rare(timed) => {
            if let Some(nearest) = timed.nearest().filter(|_| writer.version() >= FIELD_TIMES_SINCE) {
                return write_timed(writer, timed, nearest);
            }
            if let TimedForm::Packed(_) = timed.form()
                && writer.version() >= LISTPACKS_SINCE
            {
                let pairs: Listpack = hash.iter_all().flat_map(|(field, value)| [field, value]).collect();
                return writer.write_listpack(pairs.view());
            }
        }
        View::Packed(_) | View::Table(_) => {}
    }
    writer.write_len(hash.len() as u64)?;
    for (field, value) in hash.iter_all() {
        write_element(writer, field)?;
        write_element(writer, value)?;
    }
    Ok(())
}

/// A hash some of whose fields end, the first of them at that time.
fn write_timed<W: Write>(writer: &mut Writer<W>, timed: &Timed, nearest: i64) -> io::Result<()> {
    if writer.version() == RDB_VERSION_VALKEY {
        writer.write_len(timed.len() as u64)?;
        return timed.iter().try_for_each(|(field, value, time)| {
            write_element(writer, field)?;
            write_element(writer, value)?;
            writer.write_ms(time.unwrap_or(-1))
        });
    }
    writer.write_ms(nearest)?;
    if let TimedForm::Packed(triples) = timed.form() {
        return writer.write_listpack(triples.view());
    }
    writer.write_len(timed.len() as u64)?;
    for (field, value, time) in timed.iter() {
        writer.write_len(time.map_or(0, |at| (at - nearest) as u64 + 1))?;
        write_element(writer, field)?;
        write_element(writer, value)?;
    }
    Ok(())
}

fn write_set<W: Write>(writer: &mut Writer<W>, set: &Set) -> io::Result<()> {
    match set {
        Set::Ints(intset) => writer.write_string(intset.as_bytes()),
        Set::Packed(listpack) if writer.version() >= SET_LISTPACK_SINCE => {
            writer.write_listpack(listpack.view())
        }
        set => {
            writer.write_len(set.len() as u64)?;
            set.iter().try_for_each(|member| write_element(writer, member))
        }
    }
}

fn write_element<W: Write>(writer: &mut Writer<W>, element: Element) -> io::Result<()> {
    match element {
        Element::Int(n) => writer.write_int(n),
        Element::Str(bytes) => writer.write_string(bytes),
    }
}

fn write_stream<W: Write>(writer: &mut Writer<W>, stream: &Stream) -> io::Result<()> {
    if writer.version() < STREAMS_SINCE {
        // Whoever reads such a version would take it for rubbish and stop, which is worse than not to begin.
        let text = format!("dumps of version {} cannot hold streams", writer.version());
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    writer.write_len(stream.blocks().len() as u64)?;
    for (master, block) in stream.blocks() {
        writer.write_string(&master.to_bytes())?;
        writer.write_listpack(block)?;
    }
    writer.write_len(stream.len())?;
    write_id(writer, stream.last_id())?;
    if writer.version() >= STREAM_COUNTERS_SINCE {
        write_id(writer, stream.first_id())?;
        write_id(writer, stream.max_deleted_id())?;
        writer.write_len(stream.entries_added())?;
    }
    writer.write_len(stream.groups().len() as u64)?;
    for (name, group) in stream.groups() {
        writer.write_string(name)?;
        write_group(writer, group)?;
    }
    Ok(())
}

fn write_group<W: Write>(writer: &mut Writer<W>, group: &Group) -> io::Result<()> {
    let all = StreamId::MIN..=StreamId::MAX;
    write_id(writer, group.last_id)?;
    if writer.version() >= STREAM_COUNTERS_SINCE {
        // All ones, which is -1, says that it is not known.
        writer.write_len(group.entries_read.unwrap_or(u64::MAX))?;
    }
    writer.write_len(group.pending_count() as u64)?;
    for (id, pending) in group.pending_range(all.clone()) {
        writer.write_raw(&id.to_bytes())?;
        writer.write_ms(pending.delivery_time_ms)?;
        writer.write_len(pending.delivery_count)?;
    }
    writer.write_len(group.consumer_count() as u64)?;
    for consumer in group.consumers() {
        writer.write_string(consumer.name())?;
        writer.write_ms(consumer.seen_time_ms)?;
        if writer.version() >= STREAM_ACTIVE_TIME_SINCE {
            writer.write_ms(consumer.active_time_ms)?;
        }
        writer.write_len(consumer.pending_count() as u64)?;
        consumer.pending(all.clone()).try_for_each(|id| writer.write_raw(&id.to_bytes()))?;
    }
    Ok(())
}

fn write_id<W: Write>(writer: &mut Writer<W>, id: StreamId) -> io::Result<()> {
    writer.write_len(id.ms)?;
    writer.write_len(id.seq)
}

/// Gives back the pages of a large value, in this process only. Small ones share their pages with others.
pub(super) fn release(entry: &Entry) {
    let Some(StrRef::Heap(value)) = entry.str() else { return };
    // A value that two keys share would be written as zeros the second time.
    if value.len() < RELEASE_FROM || Arc::strong_count(value) > 1 {
        return;
    }
    let page =
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as usize;
    let start = (value.as_ptr() as usize).next_multiple_of(page);
    let end = (value.as_ptr() as usize + value.len()) / page * page;
    // SAFETY: the pages lie wholly within the value's bytes, which stay readable (as zeros), and this process does not
    // look at them again. A refusal changes nothing.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

/// The rest that a test asks for between keys. Sleeping is at least a change of context, so shorter rests than that
/// are made by sleeping now and then.
pub(super) struct Delay {
    us: i32,
    rng: Rng,
}

impl Delay {
    pub(super) fn new(us: i32) -> Delay {
        Delay { us, rng: Rng::seeded(clock::monotonic_ns()) }
    }

    pub(super) fn is_none(&self) -> bool {
        self.us == 0
    }

    pub(super) fn rest(&mut self) {
        let us = match self.us {
            0 => return,
            us if us > 0 => us as u64,
            us => u64::from(self.rng.one_in(u64::from(us.unsigned_abs()))),
        };
        if us > 0 {
            std::thread::sleep(Duration::from_micros(us));
        }
    }
}
