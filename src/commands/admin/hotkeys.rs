//! HOTKEYS: which keys cost most, in time or in bytes.

use crate::client::ClientId;
use crate::commands::help;
use crate::env::clock::cpu_us;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Cursor, Done, Group, arg, block, container, server,
    token,
};
use crate::observe::hotkeys::{Measurement, Wanted};
use crate::protocol::Reply;
use crate::protocol::number::parse_int;
use crate::server::Server;

const SPECIAL: &[&str] = &["request_policy:special"];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "hotkeys",
    &[
        server("get", get, 2)
            .of("hotkeys|get")
            .flags(ADMIN | NOSCRIPT)
            .doc(Group::Server, "8.6.0", "O(K) for K keys shown", "Shows what was measured.")
            .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"]),
        server("help", hotkeys_help, 2).of("hotkeys|help").flags(LOADING | STALE).doc(
            Group::Server,
            "8.6.1",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("reset", reset, 2)
            .of("hotkeys|reset")
            .flags(ADMIN | NOSCRIPT)
            .doc(Group::Server, "8.6.0", "O(1)", "Forgets what was measured.")
            .tips(SPECIAL),
        server("start", start, -2)
            .of("hotkeys|start")
            .flags(ADMIN | NOSCRIPT)
            .doc(Group::Server, "8.6.0", "O(1)", "Begins to measure what keys cost.")
            .tips(SPECIAL)
            .args(START),
        server("stop", stop, 2)
            .of("hotkeys|stop")
            .flags(ADMIN | NOSCRIPT)
            .doc(Group::Server, "8.6.0", "O(1)", "Ends the measurement.")
            .tips(SPECIAL),
    ],
)
.doc(Group::Server, "8.6.0", "Depends on subcommand.", "A container for commands on keys that cost much.")];

const START: &[Arg] = &[
    block(
        "metrics",
        &[arg("count", ArgKind::Integer), token("cpu", "CPU").optional(), token("net", "NET").optional()],
    )
    .token("METRICS"),
    arg("k", ArgKind::Integer).token("COUNT").optional(),
    arg("duration", ArgKind::Integer).token("DURATION").optional(),
    arg("ratio", ArgKind::Integer).token("SAMPLE").optional(),
];

/// Keys shown when no number is given, and the most that can be asked for.
const SOME: usize = 10;
const MOST: i64 = 64;
const LONGEST_SECS: i64 = 1_000_000;

/// HOTKEYS START METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio]
fn start(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if server.hotkeys.is_running() {
        return Err(CmdError::text("ERR hotkey tracking session already in progress"));
    }
    let wanted = read_wanted(&mut args.cursor(2))?;
    server.hotkeys.start(wanted, server.clock.unix_ms(), cpu_us());
    server.reply(id).ok();
    Ok(Done)
}

fn read_wanted(arguments: &mut Cursor) -> Result<Wanted, CmdError> {
    if !arguments.option("METRICS", 1) {
        return Err(CmdError::text("ERR METRICS parameter is required"));
    }
    let mut wanted = Wanted { cpu: false, net: false, count: SOME, sample: 1, duration_ms: None };
    let metrics = parse_int(arguments.argument()?).filter(|metrics| (1..=2).contains(metrics));
    let metrics = metrics.ok_or(CmdError::text("ERR METRICS count must be > 0 and <= 2"))?;
    let mut found = 0;
    for _ in 0..metrics {
        let (known, name) = if arguments.flag("CPU") {
            (&mut wanted.cpu, "CPU")
        } else if arguments.flag("NET") {
            (&mut wanted.net, "NET")
        } else {
            break;
        };
        if std::mem::replace(known, true) {
            return Err(CmdError::new(format!("ERR METRICS {name} defined more than once!")));
        }
        found += 1;
    }
    if found == 0 {
        return Err(CmdError::text("ERR METRICS no valid metrics passed. Supported: CPU|NET"));
    }
    let number = |arguments: &mut Cursor| Ok(parse_int(arguments.argument()?).unwrap_or(i64::MIN));
    while !arguments.is_done() {
        if arguments.option("COUNT", 1) {
            let count = number(arguments)?;
            if !(1..=MOST).contains(&count) {
                return Err(CmdError::text("ERR COUNT must be between 1 and 64"));
            }
            wanted.count = count as usize;
        } else if arguments.option("DURATION", 1) {
            let secs = number(arguments)?;
            if !(1..=LONGEST_SECS).contains(&secs) {
                return Err(CmdError::text("ERR DURATION must be between 1 and 1000000"));
            }
            wanted.duration_ms = Some(secs * 1000);
        } else if arguments.option("SAMPLE", 1) {
            let ratio = number(arguments)?;
            if ratio < 1 {
                return Err(CmdError::text("ERR SAMPLE ratio must be positive"));
            }
            wanted.sample = ratio as u64;
        } else if arguments.option("SLOTS", 1) {
            return Err(CmdError::text("ERR SLOTS parameter cannot be used in non-cluster mode"));
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    if found != metrics {
        return Err(CmdError::text("ERR METRICS count does not match number of metric types provided"));
    }
    Ok(wanted)
}

/// HOTKEYS STOP
fn stop(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    match server.hotkeys.stop(server.clock.unix_ms(), cpu_us()) {
        true => server.reply(id).ok(),
        false => server.reply(id).null(),
    }
    Ok(Done)
}

/// HOTKEYS RESET
fn reset(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    if !server.hotkeys.reset() {
        return Err(CmdError::text("ERR hotkey tracking session in progress, stop tracking first"));
    }
    server.reply(id).ok();
    Ok(Done)
}

/// HOTKEYS GET
fn get(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| match server.hotkeys.measurement() {
        Some(measurement) => write(reply, measurement, server.clock.unix_ms()),
        None => reply.null(),
    });
    Ok(Done)
}

fn number(reply: &mut Reply, name: &str, value: impl TryInto<i64>) {
    reply.bulk(name.as_bytes());
    reply.int(value);
}

fn write(reply: &mut Reply, measurement: &Measurement, now_ms: i64) {
    let wanted = &measurement.wanted;
    let (user_us, sys_us) = measurement.cpu_times(cpu_us());
    // A list with one map for each node that answers.
    reply.array(1);
    reply.map(7 + 3 * usize::from(wanted.cpu) + 2 * usize::from(wanted.net));
    number(reply, "tracking-active", i64::from(measurement.is_running()));
    number(reply, "sample-ratio", wanted.sample);
    reply.bulk(b"selected-slots");
    reply.array(1);
    reply.array(2);
    reply.int(0);
    reply.int(16383);
    number(reply, "all-commands-all-slots-us", measurement.all.us);
    number(reply, "net-bytes-all-commands-all-slots", measurement.all.bytes);
    number(reply, "collection-start-time-unix-ms", measurement.started_ms);
    number(reply, "collection-duration-ms", measurement.duration_ms(now_ms));
    if wanted.cpu {
        number(reply, "total-cpu-time-user-ms", user_us / 1000);
        number(reply, "total-cpu-time-sys-ms", sys_us / 1000);
    }
    if wanted.net {
        number(reply, "total-net-bytes", measurement.sampled_bytes());
    }
    for (name, keys) in [
        ("by-cpu-time-us", wanted.cpu.then(|| measurement.by_cpu())),
        ("by-net-bytes", wanted.net.then(|| measurement.by_net())),
    ] {
        let Some(keys) = keys else { continue };
        reply.bulk(name.as_bytes());
        reply.array(2 * keys.len());
        for (key, cost) in keys {
            reply.bulk(key);
            reply.int(cost);
        }
    }
}

/// HOTKEYS HELP
fn hotkeys_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "HOTKEYS",
        &[
            "START METRICS count [CPU] [NET] [COUNT k] [DURATION seconds] [SAMPLE ratio]",
            "    Begin to measure what keys cost: the time of commands (CPU), the bytes of requests",
            "    and replies (NET), or both; for the <k> dearest (default: 10), until STOP or for so",
            "    many <seconds>, of all commands or one in <ratio>.",
            "STOP",
            "    End the measurement.",
            "GET",
            "    What was measured.",
            "RESET",
            "    Forget it.",
        ],
    );
    Ok(Done)
}
