//! LATENCY: what took long, when, how often, and what might be done about it.

use std::fmt::Write;

use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, container, server};
use crate::observe::histogram::Histogram;
use crate::protocol::Reply;
use crate::server::Server;

const FLAGS: u64 = ADMIN | NOSCRIPT | LOADING | STALE;
const SPECIAL: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "latency",
    &[
        server("doctor", doctor, 2)
            .of("latency|doctor")
            .flags(FLAGS)
            .doc(Group::Server, "2.8.13", "O(1)", "Explains what was slow, and gives advice.")
            .tips(SPECIAL),
        server("graph", graph, 3)
            .of("latency|graph")
            .flags(FLAGS)
            .doc(Group::Server, "2.8.13", "O(1)", "Draws the history of an event.")
            .tips(SPECIAL)
            .args(&[arg("event", ArgKind::String)]),
        server("help", latency_help, 2).of("latency|help").flags(LOADING | STALE).doc(
            Group::Server,
            "2.8.13",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("histogram", histogram, -2)
            .of("latency|histogram")
            .flags(FLAGS)
            .doc(
                Group::Server,
                "7.0.0",
                "O(N) where N is the number of commands with latency information being retrieved.",
                "Tells how the times that commands took are distributed.",
            )
            .tips(SPECIAL)
            .args(&[arg("command", ArgKind::String).optional().multiple()]),
        server("history", history, 3)
            .of("latency|history")
            .flags(FLAGS)
            .doc(Group::Server, "2.8.13", "O(1)", "Lists the samples of an event.")
            .tips(SPECIAL)
            .args(&[arg("event", ArgKind::String)]),
        server("latest", latest, 2)
            .of("latency|latest")
            .flags(FLAGS)
            .doc(Group::Server, "2.8.13", "O(1)", "Lists the latest sample of every event.")
            .tips(SPECIAL),
        server("reset", reset, -2)
            .of("latency|reset")
            .flags(FLAGS)
            .doc(Group::Server, "2.8.13", "O(1)", "Forgets the samples of some events, or of all.")
            .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
            .args(&[arg("event", ArgKind::String).optional().multiple()]),
    ],
)
.doc(Group::Server, "2.8.13", "Depends on subcommand.", "A container for commands on what took long.")];

/// LATENCY HISTORY event
fn history(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let Some(event) = server.latency.event(args.get(2)) else { return reply.array(0) };
        reply.array(event.samples().len());
        for sample in event.samples() {
            reply.array(2);
            reply.int(sample.unix_secs);
            reply.int(sample.ms);
        }
    });
    Ok(Done)
}

/// LATENCY LATEST
fn latest(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        reply.array(server.latency.events().len());
        for event in server.latency.events() {
            reply.array(4);
            reply.bulk(event.name.as_bytes());
            reply.int(event.last().unix_secs);
            reply.int(event.last().ms);
            reply.int(event.max_ms);
        }
    });
    Ok(Done)
}

/// LATENCY RESET [event [event ...]]
fn reset(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let forgotten: usize = match args.len() {
        2 => server.latency.reset(None),
        _ => args.from(2).map(|name| server.latency.reset(Some(name))).sum(),
    };
    server.reply(id).int(forgotten as i64);
    Ok(Done)
}

/// LATENCY GRAPH event
fn graph(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let now = server.clock.unix_secs();
    let Some(event) = server.latency.event(args.get(2)) else {
        return Err(CmdError::bytes([b"ERR No samples available for event '", args.get(2), b"'"].concat()));
    };
    let graph = event.graph(now);
    server.reply(id).verbatim("txt", graph.as_bytes());
    Ok(Done)
}

/// LATENCY HISTOGRAM [command [command ...]]
fn histogram(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let map = reply.defer_map();
        let mut shown = 0;
        let mut show = |name: &str, histogram: &Histogram| {
            write_histogram(reply, name, histogram);
            shown += 1;
        };
        let rows = || {
            server.table.rows().filter_map(|(row, stats)| Some((row.full_name, stats.latencies.as_ref()?)))
        };
        if args.len() == 2 {
            rows().for_each(|(name, histogram)| show(name, histogram));
        }
        for wanted in args.from(2) {
            // A container stands for its subcommands; one of these is named with its container.
            let wanted = String::from_utf8_lossy(wanted).to_lowercase();
            let named = |name: &str| {
                name.strip_prefix(wanted.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
            };
            rows().filter(|(name, _)| named(name)).for_each(|(name, histogram)| show(name, histogram));
        }
        reply.close(map, shown);
    });
    Ok(Done)
}

fn write_histogram(reply: &mut Reply, name: &str, histogram: &Histogram) {
    reply.bulk(name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(histogram.total());
    reply.bulk(b"histogram_usec");
    let points = histogram.cumulative();
    reply.map(points.len());
    for (us, calls) in points {
        reply.int(us);
        reply.int(calls);
    }
}

/// LATENCY DOCTOR
fn doctor(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let report = diagnosis(server);
    server.reply(id).verbatim("txt", report.as_bytes());
    Ok(Done)
}

fn diagnosis(server: &Server) -> String {
    let threshold = server.config.latency_monitor_threshold;
    let events = server.latency.events();
    if events.is_empty() && threshold == 0 {
        return "Latency is not being monitored. Say from how many milliseconds on an event is to be noted with \
                CONFIG SET latency-monitor-threshold <milliseconds>.\n"
            .into();
    }
    if events.is_empty() {
        return format!(
            "Nothing took {threshold} milliseconds or longer since the monitor was turned on or reset.\n"
        );
    }
    let mut report = "These events took long:\n\n".to_owned();
    let mut advice: Vec<String> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let analysis = event.analysis(server.clock.unix_secs());
        writeln!(
            report,
            "{}. {}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all time event {}ms.",
            number + 1,
            event.name,
            analysis.samples,
            analysis.mean_ms,
            analysis.mean_deviation_ms,
            analysis.period_secs,
            event.max_ms
        )
        .expect("a string takes everything");
        advise(server, event.name, &mut advice);
    }
    if !advice.is_empty() {
        report.push_str("\nWhat may help:\n\n");
        for line in advice {
            writeln!(report, "- {line}").expect("a string takes everything");
        }
    }
    report
}

/// What is known to help against an event.
fn advise(server: &Server, event: &str, advice: &mut Vec<String>) {
    let threshold_us = server.config.latency_monitor_threshold as i64 * 1000;
    match event {
        "command" => {
            let logged_from = server.config.slowlog_log_slower_than;
            if logged_from < 0 || logged_from > threshold_us {
                advice.push(format!(
                    "The slow log does not show the commands that are noted here: CONFIG SET slowlog-log-slower-than \
                     {threshold_us} makes it."
                ));
            }
            advice.push("Look into the slow log for the commands that take so long.".into());
            advice.push(
                "Deleting, expiring or overwriting a very large value takes long: use UNLINK for DEL, and the \
                 lazyfree directives."
                    .into(),
            );
        }
        "fast-command" => advice.push(
            "Commands that take no time by themselves had to wait for the processor: lower the load of the machine, \
             or give the server one of its own, and measure what the machine takes away with redis-cli \
             --intrinsic-latency 100."
                .into(),
        ),
        "fork" => advice.push(
            "Forking takes the longer the more memory is in use, and longer on some virtual machines than on others; \
             huge pages make what follows worse (see disable-thp)."
                .into(),
        ),
        "expire-cycle" => advice.push(
            "Many keys, or very large ones, end at the same time: spread their times to live, or let another thread \
             free them (lazyfree-lazy-expire)."
                .into(),
        ),
        _ => {}
    }
}

/// LATENCY HELP
fn latency_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "LATENCY",
        &[
            "DOCTOR",
            "    Explain what was slow, and give advice.",
            "GRAPH <event>",
            "    Draw the history of the <event> in characters.",
            "HISTORY <event>",
            "    The samples of the <event>: unix times and milliseconds.",
            "LATEST",
            "    The latest sample of every event, and its worst.",
            "RESET [<event> ...]",
            "    Forget the samples of these events (default: of all).",
            "HISTOGRAM [COMMAND ...]",
            "    How many calls of these commands (default: of all) took less than so many microseconds.",
        ],
    );
    Ok(Done)
}
