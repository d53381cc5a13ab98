//! TIME, MEMORY and LOLWUT: small questions to the server.

use crate::client::ClientId;
use crate::commands::help;
use crate::config::REDIS_VERSION;
use crate::env::{alloc, clock};
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, arg, container, data, key,
    key_flags, server,
};
use crate::server::{MemoryAccount, Server};

const ALL_SHARDS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const MEMORY_USAGE_ARGS: &[Arg] =
    &[key("key", 0), arg("count", ArgKind::Integer).token("SAMPLES").optional()];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("lolwut", lolwut, -1)
        .flags(READONLY | FAST)
        .doc(Group::Server, "5.0.0", "", "Draws a picture, and tells the version.")
        .args(&[arg("version", ArgKind::Integer).token("VERSION").optional()]),
    container(
        "memory",
        &[
            server("doctor", doctor, 2)
                .of("memory|doctor")
                .doc(Group::Server, "4.0.0", "O(1)", "Looks for problems with memory.")
                .tips(ALL_SHARDS),
            server("help", memory_help, 2).of("memory|help").flags(LOADING | STALE).doc(
                Group::Server,
                "4.0.0",
                "O(1)",
                "Describes the subcommands.",
            ),
            server("malloc-stats", malloc_stats, 2)
                .of("memory|malloc-stats")
                .doc(
                    Group::Server,
                    "4.0.0",
                    "Depends on how much memory is allocated, could be slow",
                    "Shows the allocator's own account.",
                )
                .tips(ALL_SHARDS),
            server("purge", purge, 2)
                .of("memory|purge")
                .doc(
                    Group::Server,
                    "4.0.0",
                    "Depends on how much memory is allocated, could be slow",
                    "Gives free pages back to the system.",
                )
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            server("stats", stats, 2)
                .of("memory|stats")
                .doc(Group::Server, "4.0.0", "O(1)", "Tells where the memory goes.")
                .tips(ALL_SHARDS),
            data("usage", usage, -3)
                .of("memory|usage")
                .flags(READONLY)
                .keys(&[KeySpec::range(key_flags::RO, 2, 2, 1)])
                .doc(
                    Group::Server,
                    "4.0.0",
                    "O(N) where N is the number of samples.",
                    "Tells how much memory a key takes.",
                )
                .args(MEMORY_USAGE_ARGS),
        ],
    )
    .doc(Group::Server, "4.0.0", "Depends on subcommand.", "A container for commands on memory."),
    data("time", time, 1)
        .flags(LOADING | STALE | FAST)
        .doc(Group::Server, "2.6.0", "O(1)", "Tells the server's time.")
        .tips(&["nondeterministic_output"]),
];

/// TIME
fn time(ctx: &mut Ctx) -> CmdResult {
    // To a script no time passes.
    let us = if ctx.session.in_script { ctx.now_ms() * 1000 } else { clock::unix_us() };
    ctx.reply.array(2);
    ctx.reply.bulk_int(us / 1_000_000);
    ctx.reply.bulk_int(us % 1_000_000);
    Ok(Done)
}

/// Elements of a value that are looked at when no number is given.
const SAMPLES: i64 = 5;
/// What a key costs in the table: its share of a cache line of seven pointers, most of which are in use.
const SHARE_OF_TABLE: usize = 11;

/// MEMORY USAGE key [SAMPLES count]
fn usage(ctx: &mut Ctx) -> CmdResult {
    let mut samples = SAMPLES;
    let mut options = ctx.args.cursor(3);
    while !options.is_done() {
        if !options.option("SAMPLES", 1) {
            return Err(CmdError::SYNTAX);
        }
        samples = options.int()?;
        if samples < 0 {
            return Err(CmdError::SYNTAX);
        }
    }
    let samples = if samples == 0 { usize::MAX } else { samples as usize };
    // Whether its time has come does not matter: as long as it is there, it takes memory.
    match ctx.db.db.get(ctx.args.get(2)) {
        Some(entry) => ctx.reply.int((entry.memory(samples) + SHARE_OF_TABLE) as i64),
        None => ctx.reply.null(),
    }
    Ok(Done)
}

/// MEMORY STATS
fn stats(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let account = server.memory_account();
    let mut reply = server.reply(id);
    let fragmentation = account.allocator_fragmentation();
    let allocator_rss = account.allocator_resident();
    let rss = account.resident_overhead();
    let total = account.fragmentation();
    reply.map(27 + account.databases.len());
    let mut bytes = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    bytes("peak.allocated", account.peak as i64);
    bytes("total.allocated", account.used as i64);
    bytes("startup.allocated", account.startup as i64);
    bytes("replication.backlog", account.backlog as i64);
    bytes("clients.slaves", account.replicas as i64);
    bytes("clients.normal", account.normal_clients as i64);
    // What is not built takes nothing.
    bytes("cluster.links", 0);
    bytes("aof.buffer", account.aof_buffer as i64);
    bytes("lua.caches", account.scripts as i64);
    bytes("functions.caches", account.functions as i64);
    for db in &account.databases {
        reply.bulk(format!("db.{}", db.index).as_bytes());
        reply.map(3);
        for (name, value) in [("main", db.main), ("expires", db.expires), ("slot-to-keys", 0)] {
            reply.bulk(format!("overhead.hashtable.{name}").as_bytes());
            reply.int(value as i64);
        }
    }
    let mut bytes = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    bytes("overhead.total", account.overhead as i64);
    bytes("keys.count", account.keys as i64);
    bytes("keys.bytes-per-key", account.bytes_per_key() as i64);
    bytes("dataset.bytes", account.dataset as i64);
    for (name, value) in
        [("dataset.percentage", account.dataset_percentage()), ("peak.percentage", account.peak_percentage())]
    {
        reply.bulk(name.as_bytes());
        reply.double(value);
    }
    let mut bytes = |name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.int(value);
    };
    bytes("allocator.allocated", account.alloc.allocated as i64);
    bytes("allocator.active", account.alloc.active as i64);
    bytes("allocator.resident", account.alloc.resident as i64);
    for (ratio, bytes, share) in [
        ("allocator-fragmentation.ratio", "allocator-fragmentation.bytes", fragmentation),
        ("allocator-rss.ratio", "allocator-rss.bytes", allocator_rss),
        ("rss-overhead.ratio", "rss-overhead.bytes", rss),
        ("fragmentation", "fragmentation.bytes", total),
    ] {
        reply.bulk(ratio.as_bytes());
        reply.double(share.ratio);
        reply.bulk(bytes.as_bytes());
        reply.int(share.bytes);
    }
    Ok(Done)
}

/// MEMORY DOCTOR
fn doctor(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let account = server.memory_account();
    let replicas = server.replication.replicas.attached().count();
    let clients = (server.clients.len() - replicas).max(1);
    let report = diagnosis(&account, clients, replicas);
    server.reply(id).verbatim("txt", report.as_bytes());
    Ok(Done)
}

/// What is worth a word about the memory.
fn diagnosis(account: &MemoryAccount, clients: usize, replicas: usize) -> String {
    const MIB: usize = 1 << 20;
    if account.used < 5 * MIB {
        return "There is next to nothing in memory: nothing can be said of it yet.\n".into();
    }
    let much = |share: crate::server::Share, ratio| share.ratio > ratio && share.bytes > 10 * MIB as i64;
    let findings = [
        (
            account.peak as f64 / account.used as f64 > 1.5,
            "Peak: once more than 150% of what is in use now was in use. Pages that became free since may still \
             count as resident, and will be used first when more is stored; MEMORY PURGE gives back those that are \
             wholly free.",
        ),
        (
            much(account.fragmentation(), 1.4),
            "Resident memory: the process holds more than 1.4 times the memory that is in use. A peak in the past \
             explains it (see above, if it is named there); else the allocations are scattered.",
        ),
        (
            much(account.allocator_fragmentation(), 1.1),
            "Fragmentation: the allocator's pages are less than nine tenths full.",
        ),
        (
            much(account.allocator_resident(), 1.1),
            "Free pages: the allocator holds many that it does not use; MEMORY PURGE gives them back.",
        ),
        (
            much(account.resident_overhead(), 1.1),
            "Other memory: the process holds much that is not the allocator's.",
        ),
        (
            replicas > 0 && account.replicas > 10 * MIB,
            "Replicas: a replica lies far behind, and the writes that it has not taken yet are kept for it. INFO \
             replication shows who it is.",
        ),
        (
            account.normal_clients / clients > 200 * 1024,
            "Clients: on average they keep more than 200 KiB in buffers, because they read slowly or ask for very \
             much at once. CLIENT LIST shows who they are.",
        ),
    ];
    let found: Vec<&str> = findings.iter().filter(|(found, _)| *found).map(|(_, text)| *text).collect();
    match found.is_empty() {
        true => "No problem with memory was found.\n".into(),
        false => format!("What was found:\n\n * {}\n", found.join("\n\n * ")),
    }
}

/// MEMORY MALLOC-STATS
fn malloc_stats(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let report = alloc::report();
    server.reply(id).verbatim("txt", &report);
    Ok(Done)
}

/// MEMORY PURGE
fn purge(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    alloc::purge();
    server.reply(id).ok();
    Ok(Done)
}

/// MEMORY HELP
fn memory_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "MEMORY",
        &[
            "DOCTOR",
            "    Look for problems with memory.",
            "MALLOC-STATS",
            "    The allocator's own account.",
            "PURGE",
            "    Give free pages back to the system.",
            "STATS",
            "    Where the memory goes.",
            "USAGE <key> [SAMPLES <count>]",
            "    How many bytes <key> takes with its value. Of a value of many elements <count> are",
            "    looked at (default: 5, 0 for all).",
        ],
    );
    Ok(Done)
}

/// LOLWUT [VERSION version] [columns [rows]]
fn lolwut(ctx: &mut Ctx) -> CmdResult {
    let mut arguments = ctx.args.cursor(1);
    // Whatever version is asked for, there is one picture; but those whose picture has a size look at what they are
    // told, and the others at nothing.
    let is_sized = arguments.option("VERSION", 1) && matches!(arguments.int()?, 4..=6);
    let mut size = [64, 20];
    for (size, most) in size.iter_mut().zip([160, 60]) {
        if arguments.is_done() {
            break;
        }
        match arguments.int() {
            Ok(number) => *size = number.clamp(1, most),
            Err(error) if is_sized => return Err(error),
            Err(_) => {}
        }
    }
    let mut picture = mandelbrot(size[0] as usize, size[1] as usize);
    picture.push_str(&format!("\nRedis ver. {REDIS_VERSION} (redis-rs {})\n", env!("CARGO_PKG_VERSION")));
    ctx.reply.verbatim("txt", picture.as_bytes());
    Ok(Done)
}

/// The Mandelbrot set, in characters.
fn mandelbrot(columns: usize, rows: usize) -> String {
    const SHADES: &[u8] = b" .:-=+*%#@";
    let mut picture = String::with_capacity((columns + 1) * rows);
    for row in 0..rows {
        for column in 0..columns {
            let x = -2.2 + 3.2 * column as f64 / columns as f64;
            let y = -1.2 + 2.4 * row as f64 / rows as f64;
            let (mut re, mut im, mut steps) = (0.0, 0.0, 0);
            while re * re + im * im <= 4.0 && steps < 40 {
                (re, im) = (re * re - im * im + x, 2.0 * re * im + y);
                steps += 1;
            }
            picture.push(char::from(SHADES[steps * (SHADES.len() - 1) / 40]));
        }
        picture.truncate(picture.trim_end_matches(' ').len());
        picture.push('\n');
    }
    picture
}
