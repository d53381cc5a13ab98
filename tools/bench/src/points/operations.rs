//! CPU time per operation: every command on small things, numbers of clients, sizes of values, random keys of a large
//! database, and collections of a million members.

use super::Bench;
use crate::Result;
use crate::load::Template;
use crate::measure::{Plan, Point, Receivers, measure};
use crate::report::{Goal, Row};
use crate::resp::{request, request_line};
use crate::server::{Server, Who};

/// A kind of operation; it becomes a point for every pipeline.
struct Operation {
    name: &'static str,
    /// See `Template`.
    text: String,
    /// What the server holds before.
    data: fn(&Server, &Plan) -> Result<()>,
    before: fn(&Server, u64) -> Result<()>,
    receivers: Receivers,
}

impl Operation {
    fn new(name: &'static str, text: &str) -> Operation {
        Operation {
            name,
            text: text.to_owned(),
            data: |_, _| Ok(()),
            before: |_, _| Ok(()),
            receivers: Receivers::Nobody,
        }
    }

    fn data(self, data: fn(&Server, &Plan) -> Result<()>) -> Operation {
        Operation { data, ..self }
    }

    fn before(self, before: fn(&Server, u64) -> Result<()>) -> Operation {
        Operation { before, ..self }
    }
}

const KEYS: u64 = 100_000;

fn commands() -> Vec<Operation> {
    let ten_keys = " key:{100000} {x16}".repeat(10);
    let ten_sets = "SET key:{100000} {x16};".repeat(10);
    let published = |name, count| Operation {
        receivers: Receivers::Subscribers(count, 16),
        ..Operation::new(name, "PUBLISH channel {x16}")
    };
    vec![
        Operation::new("PING", "PING"),
        Operation::new("SET", "SET key:{100000} {x16}"),
        Operation::new("GET", "GET key:{100000}").data(|server, _| strings(server, KEYS)),
        Operation::new("INCR", "INCR key:{100000}"),
        Operation::new("MSET of ten keys", &format!("MSET{ten_keys}")),
        Operation::new("LPUSH", "LPUSH list {x16}").before(|server, _| delete(server, "list")),
        Operation::new("LPOP", "LPOP list").before(|server, operations| {
            delete(server, "list")?;
            hundreds(server, "RPUSH", "list", operations + 100)
        }),
        Operation::new("LRANGE of 100", "LRANGE list 0 99")
            .data(|server, _| hundreds(server, "RPUSH", "list", 600)),
        Operation::new("LRANGE of 600", "LRANGE list 0 599")
            .data(|server, _| hundreds(server, "RPUSH", "list", 600)),
        Operation::new("SADD", "SADD set:{10000} member:{20}"),
        Operation::new("SPOP", "SPOP set").before(|server, operations| {
            delete(server, "set")?;
            hundreds(server, "SADD", "set", operations + 100)
        }),
        Operation::new("HSET", "HSET hash:{10000} field:{10} {x16}"),
        Operation::new("HGETALL of 5 fields", "HGETALL hash:{10000}").data(|server, _| {
            server.fill(10_000, |index, out| {
                request_line(out, &format!("HSET hash:{index:012} f0 val0 f1 val1 f2 val2 f3 val3 f4 val4"));
            })
        }),
        Operation::new("ZADD", "ZADD zset:{10000} {1000} member:{20}"),
        Operation::new("ZRANGE of 10", "ZRANGE zset:{10000} 0 9").data(sorted_sets),
        Operation::new("ZRANK", "ZRANK zset:{10000} member:{20}").data(sorted_sets),
        Operation::new("XADD", "XADD stream * field {x16}").before(|server, _| delete(server, "stream")),
        Operation::new("XRANGE of 10", "XRANGE stream - + COUNT 10").data(|server, _| {
            server
                .fill(100, |index, out| request_line(out, &format!("XADD stream * field value:{index:010}")))
        }),
        published("PUBLISH to 1", 1),
        published("PUBLISH to 100", 100),
        Operation::new("MULTI of ten SET", &format!("MULTI;{ten_sets}EXEC")),
    ]
}

pub(super) fn strings(server: &Server, count: u64) -> Result<()> {
    // Many keys in a command: filling is not what is measured.
    server.fill(count / 20, |index, out| {
        let keys: Vec<String> = (index * 20..(index + 1) * 20).map(|key| format!("key:{key:012}")).collect();
        let mut words: Vec<&[u8]> = vec![b"MSET"];
        keys.iter().for_each(|key| words.extend([key.as_bytes(), b"value:0123456789"]));
        request(out, &words);
    })
}

pub(super) fn sorted_sets(server: &Server, _: &Plan) -> Result<()> {
    server.fill(10_000, |index, out| {
        let members: String =
            (0..20).map(|member| format!(" {} member:{member:012}", member * 37 % 20)).collect();
        request_line(out, &format!("ZADD zset:{index:012}{members}"));
    })
}

fn delete(server: &Server, key: &str) -> Result<()> {
    server.order(&format!("DEL {key}")).map(drop)
}

/// A collection of at least so many members, a hundred in a command.
fn hundreds(server: &Server, command: &str, key: &str, count: u64) -> Result<()> {
    server.fill(count.div_ceil(100), |index, out| {
        let members: String = (index * 100..(index + 1) * 100).map(|n| format!(" element:{n:012}")).collect();
        request_line(out, &format!("{command} {key}{members}"));
    })
}

/// How a group runs its operations.
struct Shape {
    group: &'static str,
    pipelines: &'static [usize],
    clients: usize,
    /// The goal of every point; without it that of the point's pipeline.
    goal: Option<Goal>,
    /// How a point is named beside its operation.
    suffix: String,
}

/// Every command, on small things.
pub fn small(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation, 50 clients, small things";
    let shape = |pipelines| Shape { group, pipelines, clients: 50, goal: None, suffix: String::new() };
    run(bench, &[(shape(&[1, 16, 100]), commands())])
}

/// A limiter of rates with ten calls, as programs have it.
const LIMITER: &str = "local c=redis.call local k=KEYS[1] c('HSETNX',k,'tokens',100) c('HSETNX',k,'at',0) \
    local t=c('TIME') local n=tonumber(c('HGET',k,'tokens')) local at=c('HGET',k,'at') c('HINCRBY',k,'seen',1) \
    if n<1 then c('HSET',k,'tokens',100) else c('HINCRBY',k,'tokens',-1) end c('HSET',k,'at',t[1]) \
    c('EXPIRE',k,3600) c('HLEN',k) return n";

/// Scripts and functions.
pub fn scripts(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation of scripts, 50 clients";
    let shape = Shape { group, pipelines: &[1, 16], clients: 50, goal: None, suffix: String::new() };
    // Words end at blanks, and a comment parts those of Lua as well.
    let limiter = LIMITER.replace(' ', "--[[]]");
    let operations = vec![
        Operation::new("EVAL of return 1", "EVAL return--[[]]1 0"),
        Operation::new("EVAL of a GET", "EVAL return(redis.call('GET',KEYS[1])) 1 key:{100000}")
            .data(|server, _| strings(server, KEYS)),
        Operation::new("EVAL of a limiter", &format!("EVAL {limiter} 1 bucket:{{10000}}")),
        Operation::new("FCALL of a limiter", "FCALL limiter 1 bucket:{10000}").data(|server, _| {
            let body = LIMITER.replace("KEYS[1]", "keys[1]");
            let code = format!(
                "#!lua name=limiter\nredis.register_function('limiter', function(keys, args) {body} end)"
            );
            server.fill(1, |_, out| request(out, &[b"FUNCTION", b"LOAD", b"REPLACE", code.as_bytes()]))
        }),
    ];
    run(bench, &[(shape, operations)])
}

/// Few and many clients.
pub fn clients(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation by number of clients";
    let both = || {
        vec![
            Operation::new("SET", "SET key:{100000} {x16}"),
            Operation::new("GET", "GET key:{100000}").data(|server, _| strings(server, KEYS)),
        ]
    };
    let shape = |clients| Shape {
        group,
        pipelines: &[1, 16],
        clients,
        goal: None,
        suffix: format!(", {clients} client{}", if clients == 1 { "" } else { "s" }),
    };
    run(bench, &[1, 50, 1000].map(|count| (shape(count), both())))
}

/// Values from three bytes to sixty-four kilobytes.
pub fn values(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation by size of the value, 20 clients";
    let mut shapes = Vec::new();
    for (name, size) in [("3 B", 3), ("100 B", 100), ("1 KiB", 1024), ("8 KiB", 8192), ("64 KiB", 65_536)] {
        let suffix = format!(", {name}");
        let shape = Shape { group, pipelines: &[1, 16], clients: 20, goal: None, suffix };
        // Few enough keys that the largest values fit any machine.
        let set = Operation::new("SET", &format!("SET key:{{1000}} {{x{size}}}"));
        let data: fn(&Server, &Plan) -> Result<()> = match size {
            3 => |server, _| thousand(server, 3),
            100 => |server, _| thousand(server, 100),
            1024 => |server, _| thousand(server, 1024),
            8192 => |server, _| thousand(server, 8192),
            _ => |server, _| thousand(server, 65_536),
        };
        shapes.push((shape, vec![set, Operation::new("GET", "GET key:{1000}").data(data)]));
    }
    run(bench, &shapes)
}

fn thousand(server: &Server, size: usize) -> Result<()> {
    let value = vec![b'x'; size];
    server.fill(1000, |index, out| request(out, &[b"SET", format!("key:{index:012}").as_bytes(), &value]))
}

/// Random keys of a database that no cache holds.
pub fn random_keys(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation, random keys, 50 clients";
    for (label, count) in [("1 M", 1_000_000), ("10 M", 10_000_000)] {
        let shape = Shape {
            group,
            pipelines: &[16],
            clients: 50,
            goal: Some(Goal::RandomKeys),
            suffix: format!(", {label} keys"),
        };
        let operations = vec![
            Operation::new("GET", &format!("GET key:{{{count}}}")),
            Operation::new("SET", &format!("SET key:{{{count}}} {{x16}}")),
        ];
        let names: Vec<String> = operations.iter().map(|operation| shape.point_name(operation, 16)).collect();
        if !names.iter().any(|name| bench.wants(group, name)) {
            continue;
        }
        // Both servers at once need some 230 bytes for each key.
        let reason = if bench.plan.quick && count > 1_000_000 {
            Some("left to the full run".to_owned())
        } else if crate::machine::available_memory() < count * 250 + (1 << 30) {
            Some(format!("too little memory, {} MB are needed", (count * 250 + (1 << 30)) >> 20))
        } else {
            None
        };
        if let Some(reason) = reason {
            for name in names {
                let mut row = Row::new(group, &name, "ns/op", shape.goal);
                row.absent = Some(reason.clone());
                bench.report(row);
            }
            continue;
        }
        let servers = bench.start_all()?;
        for server in servers.iter().filter(|server| server.who != Who::Floor) {
            strings(server, count)?;
        }
        for operation in &operations {
            points(bench, &servers, &shape, operation);
        }
    }
    Ok(())
}

const MEMBERS: u64 = 1_000_000;

/// The key `big`.
pub(super) fn sorted_set_of_a_million(server: &Server) -> Result<()> {
    server.fill(MEMBERS / 100, |index, out| {
        let members: String = (index * 100..(index + 1) * 100)
            .map(|member| format!(" {} member:{member:012}", member * 7919 % MEMBERS))
            .collect();
        request_line(out, &format!("ZADD big{members}"));
    })
}

/// Collections of a million members.
pub fn big_collections(bench: &mut Bench) -> Result<()> {
    let group = "CPU per operation, one collection of 1 M members, 50 clients";
    let shape = Shape {
        group,
        pipelines: &[16],
        clients: 50,
        goal: Some(Goal::BigCollections),
        suffix: String::new(),
    };
    let sorted: fn(&Server, &Plan) -> Result<()> = |server, _| sorted_set_of_a_million(server);
    let hash: fn(&Server, &Plan) -> Result<()> = |server, _| {
        server.fill(MEMBERS / 100, |index, out| {
            let fields: String = (index * 100..(index + 1) * 100)
                .map(|field| format!(" field:{field:012} value:0123456789"))
                .collect();
            request_line(out, &format!("HSET big{fields}"));
        })
    };
    let set: fn(&Server, &Plan) -> Result<()> = |server, _| hundreds(server, "SADD", "big", MEMBERS);
    let operations = vec![
        Operation::new("ZADD", "ZADD big {1000000} member:{1000000}").data(sorted),
        Operation::new("ZRANK", "ZRANK big member:{1000000}").data(sorted),
        Operation::new("ZRANGE", "ZRANGE big {1000000} +inf BYSCORE LIMIT 0 10").data(sorted),
        Operation::new("HSET", "HSET big field:{1000000} {x16}").data(hash),
        Operation::new("SADD", "SADD big element:{2000000}").data(set),
    ];
    run(bench, &[(shape, operations)])
}

impl Shape {
    fn point_name(&self, operation: &Operation, pipeline: usize) -> String {
        format!("{}{}, pipeline {pipeline}", operation.name, self.suffix)
    }
}

/// Runs groups of operations on one set of servers, which are emptied before each operation.
fn run(bench: &mut Bench, shapes: &[(Shape, Vec<Operation>)]) -> Result<()> {
    let mut servers = Vec::new();
    let mut filled: Option<fn(&Server, &Plan) -> Result<()>> = None;
    for (shape, operations) in shapes {
        for operation in operations {
            let wanted = |pipeline: &usize| bench.wants(shape.group, &shape.point_name(operation, *pipeline));
            if !shape.pipelines.iter().any(wanted) {
                continue;
            }
            if servers.is_empty() {
                servers = bench.start_all()?;
            }
            // Neighbours that need the same data share it.
            if filled.is_none_or(|filled| !std::ptr::fn_addr_eq(filled, operation.data)) {
                for server in servers.iter().filter(|server| server.who != Who::Floor) {
                    server.order("FLUSHALL")?;
                    // Whoever cannot be filled does not know the command that is measured either, and says so there.
                    let _ = (operation.data)(server, &bench.plan);
                }
                filled = Some(operation.data);
            }
            points(bench, &servers, shape, operation);
        }
    }
    Ok(())
}

fn points(bench: &mut Bench, servers: &[Server], shape: &Shape, operation: &Operation) {
    let template = Template::new(operation.text.trim_end_matches(';'));
    for &pipeline in shape.pipelines {
        let name = shape.point_name(operation, pipeline);
        if !bench.wants(shape.group, &name) {
            continue;
        }
        let point = Point {
            group: shape.group,
            name: name.clone(),
            template: &template,
            pipeline,
            clients: shape.clients,
            receivers: operation.receivers,
            per: 1.0,
            unit: "ns/op",
            goal: shape.goal.or(Goal::of_pipeline(pipeline)),
            before: operation.before,
        };
        let result = measure(&bench.plan, servers, &point);
        bench.report_or_failed(shape.group, &name, result);
    }
}
