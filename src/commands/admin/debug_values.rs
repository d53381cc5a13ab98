//! DEBUG's looks inside: what values and tables are made of.
//!
//! Nothing here changes data, and nothing but the lookups that go by expiry (as OBJECT's do) can: a key that is
//! looked at is not used by that.

use std::io::Write;

use crate::client::{Client, ClientId};
use crate::commands::admin::debug::done;
use crate::env::alloc;
use crate::exec::{Args, CmdError, CmdResult, Done};
use crate::keyspace::{Keyspace, access};
use crate::persistence::dump::dump_value;
use crate::persistence::rdb::{RDB_VERSION, WriterOptions};
use crate::server::Server;
use crate::structures::dict;
use crate::structures::listpack::Listpack;
use crate::structures::quicklist::{NodeRef, Quicklist};
use crate::structures::sorted_set::SortedSet;
use crate::types::{Digest, Either, Entry, Hash, Kind, List, Set, StrRef, TimedForm, View, Zset};

/// Looks a key up as OBJECT does: what has expired is not there, and nothing counts as a use.
fn look<T>(
    server: &mut Server,
    id: ClientId,
    key: &[u8],
    read: impl FnOnce(&Entry) -> T,
) -> Result<T, CmdError> {
    let db = server.db_of(id);
    let mut view = server.keyspace.view(db, &mut server.changes, &server.turn);
    view.peek(key).map(read).ok_or(CmdError::NO_SUCH_KEY)
}

/// DEBUG OBJECT key
pub(in crate::commands) fn object(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let options = WriterOptions {
        version: RDB_VERSION,
        compress: server.config.rdbcompression,
        ..WriterOptions::default()
    };
    let now = server.clock.unix_secs();
    let entry = server.keyspace.db(server.db_of(id)).get(args.get(2)).ok_or(CmdError::NO_SUCH_KEY)?;
    // The payload of DUMP is the value between a byte for its type and ten bytes of version and checksum.
    let length = dump_value(entry, options).len() - 11;
    let quicklist = entry.object::<List>().and_then(List::as_quicklist);
    let nodes = quicklist.map_or_else(String::new, describe_quicklist);
    let line = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{length} lru:{} lru_seconds_idle:{}{nodes}",
        entry.address(),
        entry.encoding(),
        entry.lru(),
        access::idle_ms(entry.lru(), now) / 1000
    );
    server.reply(id).simple(&line);
    Ok(Done)
}

fn describe_quicklist(list: &Quicklist) -> String {
    let (stats, shape) = (list.stats(), list.shape());
    format!(
        " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
        stats.nodes,
        list.len() as f64 / stats.nodes as f64,
        shape.fill.number(),
        u8::from(shape.depth > 0),
        stats.bytes
    )
}

/// DEBUG SDSLEN key
pub(in crate::commands) fn sdslen(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let entry = server.keyspace.db(server.db_of(id)).get(args.get(2)).ok_or(CmdError::NO_SUCH_KEY)?;
    // Key, and value if it is short, stand in one allocation, which is counted with the key.
    let (length, spare, memory) = match entry.str() {
        Some(StrRef::Inline { bytes, .. }) => (bytes.len(), 0, 0),
        Some(StrRef::Heap(text)) => {
            (text.len(), text.capacity() - text.len(), entry.memory(0) - entry.own_memory())
        }
        Some(StrRef::Int(_)) | None => return Err(CmdError::text("ERR Not an sds encoded string.")),
    };
    let line = format!(
        "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{length}, val_sds_avail:{spare}, \
         val_zmalloc: {memory}",
        entry.key().len(),
        entry.own_memory()
    );
    server.reply(id).simple(&line);
    Ok(Done)
}

/// DEBUG STRUCTSIZE
pub(in crate::commands) fn structsize(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let sizes = [
        ("bits", usize::BITS as usize),
        ("client", size_of::<Client>()),
        ("hash", size_of::<Hash>()),
        ("list", size_of::<List>()),
        ("set", size_of::<Set>()),
        ("zset", size_of::<Zset>()),
        ("quicklist", size_of::<Quicklist>()),
        ("sorted_set", size_of::<SortedSet>()),
    ];
    let text: String = sizes.iter().map(|(name, size)| format!("{name}:{size} ")).collect();
    server.reply(id).bulk(text.as_bytes());
    Ok(Done)
}

/// DEBUG LISTPACK key
pub(in crate::commands) fn listpack(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let text = look(server, id, args.get(2), |entry| listpack_of(entry).map(describe_listpack))?;
    print(&text.ok_or(CmdError::text("ERR Not a listpack encoded object."))?);
    server.reply(id).simple("Listpack structure printed on stdout");
    Ok(Done)
}

/// DEBUG QUICKLIST key [0|1]
pub(in crate::commands) fn quicklist(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let full = args.len() > 3 && crate::commands::admin::debug::is_on(args.get(3));
    let text = look(server, id, args.get(2), |entry| {
        let list = entry.object::<List>().and_then(List::as_quicklist)?;
        Some(describe_nodes(list, full))
    })?;
    print(&text.ok_or(CmdError::text("ERR Not a quicklist encoded object."))?);
    server.reply(id).simple("Quicklist structure printed on stdout");
    Ok(Done)
}

/// Writes to the standard output, if there is one.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed it does not want to read this.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The listpack that a value is, if it is one.
fn listpack_of(entry: &Entry) -> Option<&Listpack> {
    match entry.kind() {
        Kind::List => match entry.object::<List>()?.view() {
            Either::Packed(pack) => Some(pack),
            Either::Large(_) => None,
        },
        Kind::Hash => match entry.object::<Hash>()?.view() {
            View::Packed(pack) => Some(pack),
            View::Table(_) => None,
            View::Rare(timed) => match timed.form() {
                TimedForm::Packed(pack) => Some(pack),
                TimedForm::Table(_) => None,
            },
        },
        Kind::Set => match entry.object()? {
            Set::Packed(pack) => Some(pack),
            Set::Ints(_) | Set::Table(_) => None,
        },
        Kind::Zset => match entry.object::<Zset>()?.view() {
            Either::Packed(pack) => Some(pack),
            Either::Large(_) => None,
        },
        _ => None,
    }
}

fn describe_listpack(pack: &Listpack) -> String {
    let mut text = format!("{{total bytes {}}} {{num entries {}}}\n", pack.bytes(), pack.len());
    for (index, element) in pack.iter().enumerate() {
        let kind = if element.int().is_some() { "int" } else { "str" };
        let bytes = element.to_vec();
        let more = if bytes.len() > 40 { "..." } else { "" };
        let shown = bytes[..bytes.len().min(40)].escape_ascii();
        text += &format!("{{index: {index:2}, length: {:2}, [{kind}]{shown}{more}}}\n", bytes.len());
    }
    text + "{end}\n\n"
}

fn describe_nodes(list: &Quicklist, full: bool) -> String {
    let shape = list.shape();
    let mut text = format!(
        "{{count : {}}}\n{{len : {}}}\n{{fill : {}}}\n{{compress : {}}}\n",
        list.len(),
        list.node_count(),
        shape.fill.number(),
        shape.depth
    );
    for (index, node) in list.nodes().enumerate() {
        let (plain, lzf, size) = match node {
            NodeRef::Packed(pack) => (false, false, pack.bytes()),
            NodeRef::Plain(bytes) => (true, false, bytes.len()),
            NodeRef::Compressed { plain, len, .. } => (plain, true, len),
        };
        let container = if plain { "PLAIN" } else { "PACKED" };
        let encoding = if lzf { "LZF" } else { "RAW" };
        text += &format!(
            "{{quicklist node({index})\n{{container : {container}, encoding: {encoding}, size: {size}}}\n"
        );
        match node {
            NodeRef::Packed(pack) if full => {
                text += &format!("{{ listpack:\n{}}}\n", describe_listpack(pack));
            }
            NodeRef::Plain(bytes) if full => text += &format!("{{ entry : {} }}\n", bytes.escape_ascii()),
            _ => {}
        }
        text += "}\n";
    }
    text
}

/// DEBUG HTSTATS dbid [full]
pub(in crate::commands) fn htstats(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let index = args.int(2)?;
    let index = usize::try_from(index).ok().filter(|&index| index < server.keyspace.count());
    let db = server.keyspace.db(index.ok_or(CmdError::text("ERR Out of range database"))?);
    let mut text = format!("[Dictionary HT]\n{}", describe_table(&db.dict().stats(), is_full(args)));
    // Times to live stand on a wheel, which has no chains.
    text += "[Expires HT]\nHash table 0 stats (main hash table):\n";
    text += &match db.volatile() {
        0 => "No stats available for empty dictionaries\n".to_owned(),
        keys => format!(" number of elements: {keys}\n wheel bytes: {}\n", db.overhead().1),
    };
    server.reply(id).verbatim("txt", text.as_bytes());
    Ok(Done)
}

/// DEBUG HTSTATS-KEY key [full]
pub(in crate::commands) fn htstats_key(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let stats = look(server, id, args.get(2), table_of)?.ok_or(CmdError::text(
        "ERR The value stored at the specified key is not represented using an hash table",
    ))?;
    let text = describe_table(&stats, is_full(args));
    server.reply(id).verbatim("txt", text.as_bytes());
    Ok(Done)
}

fn is_full(args: Args) -> bool {
    args.len() > 3 && args.is(3, "full")
}

/// The shape of the hash table that a value is kept in, if there is one.
fn table_of(entry: &Entry) -> Option<dict::Stats> {
    match entry.kind() {
        Kind::Hash => match entry.object::<Hash>()?.view() {
            View::Packed(_) => None,
            View::Table(table) => Some(table.stats()),
            View::Rare(timed) => match timed.form() {
                TimedForm::Packed(_) => None,
                TimedForm::Table(table) => Some(table.dict.stats()),
            },
        },
        Kind::Set => match entry.object()? {
            Set::Table(table) => Some(table.stats()),
            Set::Ints(_) | Set::Packed(_) => None,
        },
        Kind::Zset => match entry.object::<Zset>()?.view() {
            Either::Large(sorted) => Some(sorted.table_stats()),
            Either::Packed(_) => None,
        },
        _ => None,
    }
}

/// The shape of a table in the words that tools look for. A slot is a bucket here, of seven places and what overflows.
fn describe_table(stats: &dict::Stats, full: bool) -> String {
    let mut text = "Hash table 0 stats (main hash table):\n".to_owned();
    if stats.items == 0 {
        return text + "No stats available for empty dictionaries\n";
    }
    text += &format!(" table size: {}\n number of elements: {}\n", stats.buckets, stats.items);
    if !full {
        return text;
    }
    let by_length = &stats.buckets_by_length;
    let slots: usize = by_length.iter().skip(1).sum();
    let longest = by_length.len() - 1;
    let counted: usize = by_length.iter().enumerate().map(|(length, buckets)| length * buckets).sum();
    text += &format!(" different slots: {slots}\n max chain length: {longest}\n");
    text += &format!(" avg chain length (counted): {:.2}\n", counted as f64 / slots as f64);
    text += &format!(" avg chain length (computed): {:.2}\n", stats.items as f64 / slots as f64);
    text += &format!(" table bytes: {} (overflow nodes: {})\n", stats.memory, stats.overflow_bytes);
    text += " Chain length distribution:\n";
    for (length, &buckets) in by_length.iter().enumerate().filter(|&(_, &buckets)| buckets > 0) {
        let share = 100.0 * buckets as f64 / stats.buckets as f64;
        text += &format!("   {length}: {buckets} ({share:.2}%)\n");
    }
    text
}

/// The digest of all databases.
fn digest_of(keyspace: &Keyspace) -> Digest {
    let mut all = Digest::default();
    for (index, db) in keyspace.iter().filter(|(_, db)| !db.is_empty()) {
        all.mix(&(index as u32).to_be_bytes());
        for entry in db.dict().iter() {
            let mut digest = Digest::default();
            digest.mix(entry.key());
            entry.digest(&mut digest);
            all.add_digest(&digest);
        }
    }
    all
}

/// DEBUG DIGEST
pub(in crate::commands) fn digest(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let digest = digest_of(&server.keyspace).hex();
    server.reply(id).simple(&digest);
    Ok(Done)
}

/// DEBUG DIGEST-VALUE key [key ...]
pub(in crate::commands) fn digest_value(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let db = server.db_of(id);
    server.reply_with(id, |server, reply| {
        reply.array(args.len() - 2);
        for key in args.from(2) {
            let mut digest = Digest::default();
            if let Some(entry) = server.keyspace.db(db).get(key) {
                entry.digest(&mut digest);
            }
            reply.simple(&digest.hex());
        }
    });
    Ok(Done)
}

/// DEBUG MALLCTL name [value]
pub(in crate::commands) fn mallctl(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let value = if args.len() > 3 { Some(args.int(3)?) } else { None };
    match alloc::control_number(args.get(2), value).map_err(allocator_error)? {
        Some(before) => server.reply(id).int(before),
        None => return done(server, id),
    }
    Ok(Done)
}

/// DEBUG MALLCTL-STR name [value]
pub(in crate::commands) fn mallctl_str(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let value = (args.len() > 3).then(|| args.get(3));
    match alloc::control_text(args.get(2), value).map_err(allocator_error)? {
        Some(before) => server.reply(id).bulk(&before),
        None => return done(server, id),
    }
    Ok(Done)
}

fn allocator_error(why: std::io::Error) -> CmdError {
    CmdError::new(format!("ERR {}", crate::env::process::strerror(&why)))
}
