//! DEBUG: looks inside, and does on purpose what should not happen. For tests, and only where
//! `enable-debug-command` allows it.

use std::time::Duration;

use super::debug_values as values;
use crate::client::ClientId;
use crate::commands::help;
use crate::config;
use crate::env::clock;
use crate::exec::flags::*;
use crate::exec::{Args, CmdError, CmdResult, Command, Done, Group, server};
use crate::observe::log::{self, Logged};
use crate::protocol::{Reply, encode_command};
use crate::server::Server;
use crate::structures::glob::Pattern;
use crate::structures::quicklist::Shape;
use crate::types::NewValue;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[server("debug", debug, -2)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE | PROTECTED_DEBUG)
    .doc(Group::Server, "1.0.0", "Depends on subcommand.", "A container for commands that debug the server.")
    .syscmd()];

/// One thing that DEBUG does: its name, how many arguments may follow it, and what it does with the request.
struct Tool {
    name: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    run: fn(&mut Server, ClientId, Args) -> CmdResult,
    help: &'static [&'static str],
}

const MANY: usize = usize::MAX;

const TOOLS: &[Tool] = &[
    Tool {
        name: "aof-flush-sleep",
        arguments: 1..=1,
        run: aof_flush_sleep,
        help: &["AOF-FLUSH-SLEEP <microsec>", "    Sleep before each write to the append-only file."],
    },
    Tool {
        name: "assert",
        arguments: 0..=MANY,
        run: assert,
        help: &["ASSERT", "    Crash as by an assertion that fails."],
    },
    Tool {
        name: "change-repl-id",
        arguments: 0..=0,
        run: change_repl_id,
        help: &[
            "CHANGE-REPL-ID",
            "    Begin a replication stream of another name: replicas have to start over.",
        ],
    },
    Tool {
        name: "config-rewrite-force-all",
        arguments: 0..=0,
        run: config_rewrite_force_all,
        help: &["CONFIG-REWRITE-FORCE-ALL", "    As CONFIG REWRITE, with a line for every directive."],
    },
    Tool {
        name: "crash-and-recover",
        arguments: 0..=1,
        run: crash_and_recover,
        help: &[
            "CRASH-AND-RECOVER [<milliseconds>]",
            "    Leave without saving, and start again after a while.",
        ],
    },
    Tool {
        name: "digest",
        arguments: 0..=0,
        run: values::digest,
        help: &["DIGEST", "    A hash of all data: equal for equal data, here and on other servers."],
    },
    Tool {
        name: "digest-value",
        arguments: 0..=MANY,
        run: values::digest_value,
        help: &["DIGEST-VALUE <key> [<key> ...]", "    The same of the values of some keys."],
    },
    Tool {
        name: "error",
        arguments: 1..=1,
        run: error,
        help: &["ERROR <string>", "    Reply with an error that says <string>."],
    },
    Tool {
        name: "htstats",
        arguments: 1..=MANY,
        run: values::htstats,
        help: &["HTSTATS <dbid> [full]", "    The shape of a database's hash table."],
    },
    Tool {
        name: "htstats-key",
        arguments: 1..=MANY,
        run: values::htstats_key,
        help: &["HTSTATS-KEY <key> [full]", "    The shape of the hash table that <key>'s value is kept in."],
    },
    Tool {
        name: "leak",
        arguments: 1..=1,
        run: leak,
        help: &["LEAK <string>", "    Lose the memory of a copy of <string> for ever."],
    },
    Tool {
        name: "listpack",
        arguments: 1..=1,
        run: values::listpack,
        help: &["LISTPACK <key>", "    Write the listpack that <key>'s value is to the standard output."],
    },
    Tool {
        name: "loadaof",
        arguments: 0..=0,
        run: loadaof,
        help: &["LOADAOF", "    Write what is left to the append-only file, and load the data set from it."],
    },
    Tool {
        name: "log",
        arguments: 1..=1,
        run: log_line,
        help: &["LOG <message>", "    Write a line to the log."],
    },
    Tool {
        name: "mallctl",
        arguments: 1..=MANY,
        run: values::mallctl,
        help: &[
            "MALLCTL <name> [<value>]",
            "    A number of the allocator's, and a new value for those that may be set.",
        ],
    },
    Tool {
        name: "mallctl-str",
        arguments: 1..=MANY,
        run: values::mallctl_str,
        help: &[
            "MALLCTL-STR <name> [VOID]",
            "    A text of the allocator's; with VOID, what it does when told so (thread.tcache.flush).",
        ],
    },
    Tool {
        name: "object",
        arguments: 1..=1,
        run: values::object,
        help: &["OBJECT <key>", "    How the value of <key> is stored."],
    },
    Tool {
        name: "oom",
        arguments: 0..=MANY,
        run: oom,
        help: &["OOM", "    Crash as when memory has run out."],
    },
    Tool { name: "panic", arguments: 0..=MANY, run: panic, help: &["PANIC", "    Crash by a panic."] },
    Tool {
        name: "pause-cron",
        arguments: 1..=1,
        run: pause_cron,
        help: &["PAUSE-CRON <0|1>", "    Stop what is done from time to time, or go on with it."],
    },
    Tool {
        name: "populate",
        arguments: 1..=3,
        run: populate,
        help: &[
            "POPULATE <count> [<prefix>] [<size>]",
            "    Create <count> strings named <prefix>:<number> (default: key), where there are none.",
            "    Replicas hear nothing of it.",
        ],
    },
    Tool {
        name: "protocol",
        arguments: 1..=1,
        run: protocol,
        help: &[
            "PROTOCOL <type>",
            "    Reply with an example of a type: string, integer, double, bignum, null, array, set,",
            "    map, attrib, push, verbatim, true or false.",
        ],
    },
    Tool {
        name: "quicklist",
        arguments: 1..=2,
        run: values::quicklist,
        help: &[
            "QUICKLIST <key> [<0|1>]",
            "    Write the nodes of the quicklist that <key>'s value is to the standard output; with 1",
            "    what they hold as well.",
        ],
    },
    Tool {
        name: "quicklist-packed-threshold",
        arguments: 1..=1,
        run: quicklist_packed_threshold,
        help: &[
            "QUICKLIST-PACKED-THRESHOLD <size>",
            "    Elements of lists from that size on get nodes of their own; 0 stands for 1gb again.",
        ],
    },
    Tool {
        name: "reload",
        arguments: 0..=MANY,
        run: reload,
        help: &[
            "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
            "    Save the data set, empty it and load it again. NOSAVE loads the dump file that is there,",
            "    NOFLUSH keeps the keys, and MERGE lets those of the dump take the place of equal ones.",
        ],
    },
    Tool {
        name: "replicate",
        arguments: 1..=MANY,
        run: replicate,
        help: &["REPLICATE <word> [<word> ...]", "    Send a command to replicas without running it."],
    },
    Tool {
        name: "restart",
        arguments: 0..=1,
        run: restart,
        help: &[
            "RESTART [<milliseconds>]",
            "    Write the configuration file, save, and start again after a while.",
        ],
    },
    Tool {
        name: "sdslen",
        arguments: 1..=1,
        run: values::sdslen,
        help: &["SDSLEN <key>", "    Lengths of <key> and its value, and the memory that they take."],
    },
    Tool {
        name: "segfault",
        arguments: 0..=MANY,
        run: segfault,
        help: &["SEGFAULT", "    Crash by SIGSEGV."],
    },
    Tool {
        name: "set-active-expire",
        arguments: 1..=1,
        run: set_active_expire,
        help: &[
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Whether keys end when their time comes, or only when looked at.",
        ],
    },
    Tool {
        name: "set-disable-deny-scripts",
        arguments: 1..=1,
        run: set_disable_deny_scripts,
        help: &["SET-DISABLE-DENY-SCRIPTS <0|1>", "    Whether scripts may call what is not for them."],
    },
    Tool {
        name: "set-skip-checksum-validation",
        arguments: 1..=1,
        run: set_skip_checksum_validation,
        help: &[
            "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
            "    Whether dump files and the payloads of RESTORE are taken with a wrong checksum.",
        ],
    },
    Tool {
        name: "sleep",
        arguments: 1..=1,
        run: sleep,
        help: &["SLEEP <seconds>", "    Do nothing at all for a while. Takes decimals."],
    },
    Tool {
        name: "stringmatch-test",
        arguments: 0..=0,
        run: stringmatch_test,
        help: &["STRINGMATCH-TEST", "    Match random texts against random patterns."],
    },
    Tool {
        name: "structsize",
        arguments: 0..=0,
        run: values::structsize,
        help: &["STRUCTSIZE", "    The sizes of some structures of which there are many."],
    },
];

/// DEBUG subcommand [arg ...]
fn debug(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let name = args.get(1);
    if name.eq_ignore_ascii_case(b"help") && args.len() == 2 {
        let lines: Vec<&str> = TOOLS.iter().flat_map(|tool| tool.help).copied().collect();
        help::write(&mut server.reply(id), "DEBUG", &lines);
        return Ok(Done);
    }
    let fits = |tool: &&Tool| {
        name.eq_ignore_ascii_case(tool.name.as_bytes()) && tool.arguments.contains(&(args.len() - 2))
    };
    match TOOLS.iter().find(fits) {
        Some(tool) => (tool.run)(server, id, args),
        None => Err(CmdError::subcommand("debug", name)),
    }
}

/// An argument that turns something on or off, read as C reads numbers: what is none is 0.
pub(in crate::commands) fn is_on(argument: &[u8]) -> bool {
    std::str::from_utf8(argument)
        .ok()
        .and_then(|argument| argument.trim().parse::<i64>().ok())
        .is_some_and(|number| number != 0)
}

pub(in crate::commands) fn done(server: &mut Server, id: ClientId) -> CmdResult {
    server.reply(id).ok();
    Ok(Done)
}

/// DEBUG SLEEP seconds
fn sleep(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let seconds =
        std::str::from_utf8(args.get(2)).ok().and_then(|argument| argument.trim().parse::<f64>().ok());
    // What is no time at all, or none that can be waited for, is no reason for an error either.
    server.clock.pause(Duration::try_from_secs_f64(seconds.unwrap_or(0.0)).unwrap_or_default());
    done(server, id)
}

/// DEBUG QUICKLIST-PACKED-THRESHOLD size
fn quicklist_packed_threshold(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    const MOST: u64 = (1 << 32) - (1 << 20);
    let size = config::memory(args.get(2)).filter(|&size| size <= MOST);
    let error = CmdError::text("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    server.limits.list.plain_from = match size.ok_or(error)? as u32 {
        0 => Shape::PLAIN_FROM,
        size => size,
    };
    done(server, id)
}

/// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]
fn reload(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (mut save, mut flush, mut merge) = (true, true, false);
    for option in args.from(2) {
        match option.to_ascii_uppercase().as_slice() {
            b"MERGE" => merge = true,
            b"NOFLUSH" => flush = false,
            b"NOSAVE" => save = false,
            _ => {
                return Err(CmdError::text(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    if save {
        server.save().map_err(|Logged| CmdError::text("ERR"))?;
    }
    if flush {
        server.watching.flushing(None, None, &server.keyspace, server.turn.now_ms, &mut server.clients);
        server.keyspace.flush(None, false, server.turn.now_ms);
        server.changes.flush(None);
        server.invalidate_everything();
    }
    server
        .load_at_once(flush, merge)
        .map_err(|Logged| CmdError::text("ERR Error trying to load the RDB dump, check server logs."))?;
    log::notice!("DB reloaded by DEBUG RELOAD");
    done(server, id)
}

/// DEBUG POPULATE count [prefix] [size]
fn populate(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let positive = |at: usize| match args.int(at)? {
        number if number >= 0 => Ok(number as usize),
        _ => Err(CmdError::NOT_POSITIVE),
    };
    let count = positive(2)?;
    let prefix = if args.len() > 3 { args.get(3) } else { b"key" };
    let size = if args.len() > 4 { positive(4)? } else { 0 };
    let db = server.db_of(id);
    let mut view = server.keyspace.view(db, &mut server.changes, &server.turn);
    for number in 0..count {
        let key = [prefix, format!(":{number}").as_bytes()].concat();
        if view.exists(&key) {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        view.add(&key, None, NewValue::Text(&value));
        view.changes.touch(db, &key);
    }
    done(server, id)
}

/// DEBUG PROTOCOL type
fn protocol(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let mut reply = server.reply(id);
    match args.get(2).to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.int(12345),
        b"double" => reply.double(3141.0 / 1000.0),
        b"bignum" => reply.big_number("1234567999999999999999999999999999999"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        b"map" => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.bool(number == 1);
            }
        }
        b"attrib" => {
            if reply.is_resp3() {
                reply.raw(b"|1\r\n");
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => push(&mut reply)?,
        b"true" => reply.bool(true),
        b"false" => reply.bool(false),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => {
            return Err(CmdError::text(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(Done)
}

fn push(reply: &mut Reply) -> Result<(), CmdError> {
    if !reply.is_resp3() {
        return Err(CmdError::text("ERR RESP2 is not supported by this command"));
    }
    // A push is no reply: whoever waits for one gets this. What is pushed during a command goes out behind its reply.
    reply.bulk(b"Some real reply following the push reply");
    reply.push(2);
    reply.bulk(b"server-cpu-usage");
    reply.int(42);
    Ok(())
}

/// DEBUG ERROR string
fn error(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.reply(id).error(args.get(2));
    Ok(Done)
}

/// DEBUG AOF-FLUSH-SLEEP microseconds
fn aof_flush_sleep(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let us = args.int(2)?;
    server.aof.set_flush_sleep(us.max(0) as u64);
    done(server, id)
}

/// DEBUG LOADAOF
fn loadaof(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.watching.flushing(None, None, &server.keyspace, server.turn.now_ms, &mut server.clients);
    let loaded = server.reload_aof();
    server.changes.flush(None);
    server.invalidate_everything();
    loaded.map_err(|Logged| CmdError::text("ERR Error trying to load the AOF files, check server logs."))?;
    done(server, id)
}

/// DEBUG LOG message
fn log_line(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    log::warning!("DEBUG LOG: {}", String::from_utf8_lossy(args.get(2)));
    done(server, id)
}

/// DEBUG SET-ACTIVE-EXPIRE 0|1
fn set_active_expire(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.life.active_expiry = is_on(args.get(2));
    done(server, id)
}

/// DEBUG SET-DISABLE-DENY-SCRIPTS 0|1
fn set_disable_deny_scripts(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.scripts.allow_all = is_on(args.get(2));
    done(server, id)
}

/// DEBUG SET-SKIP-CHECKSUM-VALIDATION 0|1
fn set_skip_checksum_validation(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.limits.skip_checksums = is_on(args.get(2));
    done(server, id)
}

/// DEBUG LEAK string
fn leak(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    std::mem::forget(args.get(2).to_vec());
    done(server, id)
}

/// DEBUG PAUSE-CRON 0|1
fn pause_cron(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.life.cron.paused = is_on(args.get(2));
    done(server, id)
}

/// DEBUG CHANGE-REPL-ID
fn change_repl_id(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    log::notice!("Changing replication IDs after receiving DEBUG change-repl-id");
    server.replication.history.renew(&mut server.secrets);
    done(server, id)
}

/// DEBUG REPLICATE argument [argument ...]
fn replicate(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    // A replica's stream is its master's, and nothing of ours.
    if !server.is_replica() {
        let mut command = Vec::new();
        encode_command(&mut command, args.from(2));
        server.journal.append_verbatim(&command);
    }
    done(server, id)
}

/// DEBUG CONFIG-REWRITE-FORCE-ALL
fn config_rewrite_force_all(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.config.rewrite_all(server.user_lines()).map_err(|why| CmdError::new(why.to_string()))?;
    done(server, id)
}

/// DEBUG STRINGMATCH-TEST
fn stringmatch_test(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    const ROUNDS: usize = 100_000;
    let until = server.clock.moment_us() + 1_000_000;
    for _ in 0..ROUNDS {
        // Few different bytes, so that patterns match now and then.
        let mut random = || {
            let length = server.rng.next_u64() % 32;
            (0..length).map(|_| b"ab*?[]^-\\c"[(server.rng.next_u64() % 10) as usize]).collect::<Vec<u8>>()
        };
        let (pattern, text) = (random(), random());
        std::hint::black_box(Pattern::new(&pattern).matches(&text));
        if server.clock.moment_us() > until {
            break;
        }
    }
    server.reply(id).simple("Apparently Redis did not crash: test passed");
    Ok(Done)
}

/// DEBUG PANIC
fn panic(_: &mut Server, _: ClientId, _: Args) -> CmdResult {
    panic!("DEBUG PANIC called at Unix time {}", clock::unix_us() / 1_000_000);
}

/// DEBUG ASSERT
fn assert(_: &mut Server, _: ClientId, _: Args) -> CmdResult {
    log::warning!("=== ASSERTION FAILED ===");
    panic!("DEBUG ASSERT called");
}

/// DEBUG OOM
fn oom(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    // The largest size that can be asked for, and more than any machine has.
    std::hint::black_box(Vec::<u8>::with_capacity(isize::MAX as usize));
    done(server, id)
}

/// DEBUG SEGFAULT
fn segfault(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSEGV).expect("a process may signal itself");
    done(server, id)
}

fn delay(args: Args) -> Result<Duration, CmdError> {
    let ms = if args.len() > 2 { args.int(2)? } else { 0 };
    Ok(Duration::from_millis(ms.max(0) as u64))
}

/// DEBUG RESTART [milliseconds]
fn restart(server: &mut Server, _: ClientId, args: Args) -> CmdResult {
    server.restart(true, delay(args)?);
    Err(CmdError::text("ERR failed to restart the server. Check server logs."))
}

/// DEBUG CRASH-AND-RECOVER [milliseconds]
fn crash_and_recover(server: &mut Server, _: ClientId, args: Args) -> CmdResult {
    server.restart(false, delay(args)?);
    Err(CmdError::text("ERR failed to restart the server. Check server logs."))
}
