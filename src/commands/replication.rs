//! REPLICAOF, FAILOVER, ROLE, WAIT, WAITAOF, and what replicas say: PSYNC, SYNC, REPLCONF.

use crate::client::ClientId;
use crate::commands::help;
use crate::config::MasterAddress;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, Block, BlockOn, CmdError, CmdResult, Command, Done, Group, Outcome, acl, arg, block,
    container, one_of, server, token,
};
use crate::observe::log;
use crate::replication::history::Wanted;
use crate::replication::sync_log::With;
use crate::server::{Server, files_reply};
use crate::structures::quoted::split_args;

pub(super) const COMMANDS: &[Command<Server>] = &[
    server("replicaof", replicaof, 3)
        .flags(ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING)
        .doc(Group::Server, "5.0.0", "O(1)", "Makes the server a replica of another, or a master.")
        .args(REPLICAOF_ARGS),
    server("slaveof", replicaof, 3)
        .flags(ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING)
        .doc(Group::Server, "1.0.0", "O(1)", "Makes the server a replica of another, or a master.")
        .deprecated("5.0.0", "`REPLICAOF`")
        .args(REPLICAOF_ARGS),
    server("failover", failover, -1)
        .flags(ADMIN | NOSCRIPT | STALE)
        .doc(
            Group::Server,
            "6.2.0",
            "O(1)",
            "Has a replica that holds everything take this master's place.",
        )
        .args(FAILOVER_ARGS),
    container(
        "replication",
        &[
            server("help", replication_help, 2).of("replication|help").flags(LOADING | STALE).doc(
                Group::Server,
                "7.2.0",
                "O(1)",
                "Describes the subcommands.",
            ),
            server("history", replication_history, -2)
                .of("replication|history")
                .flags(ADMIN | LOADING | STALE)
                .doc(
                    Group::Server,
                    "7.2.0",
                    "O(N) where N is the number of syncs shown",
                    "Shows the last synchronisations, each with its reason.",
                )
                .args(&[arg("count", ArgKind::Integer).optional()]),
        ],
    )
    .doc(Group::Server, "7.2.0", "Depends on subcommand.", "A container for commands on replication."),
    server("role", role, 1).flags(NOSCRIPT | LOADING | STALE | FAST).acl(acl::ADMIN | acl::DANGEROUS).doc(
        Group::Server,
        "2.8.12",
        "O(1)",
        "Tells what the server is in replication, and how it stands.",
    ),
    server("wait", wait, 3)
        .acl(acl::CONNECTION)
        .doc(
            Group::Generic,
            "3.0.0",
            "O(1)",
            "Waits until so many replicas have acknowledged the writes that the client has made.",
        )
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .args(&[arg("numreplicas", ArgKind::Integer), arg("timeout", ArgKind::Integer)]),
    server("waitaof", waitaof, 4)
        .flags(NOSCRIPT)
        .acl(acl::CONNECTION)
        .doc(
            Group::Generic,
            "7.2.0",
            "O(1)",
            "Waits until so many append-only files, here and with replicas, hold the writes that the client has made.",
        )
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .args(&[
            arg("numlocal", ArgKind::Integer),
            arg("numreplicas", ArgKind::Integer),
            arg("timeout", ArgKind::Integer),
        ]),
    server("sync", sync, 1).flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI).doc(
        Group::Server,
        "1.0.0",
        "",
        "Asks for a dump and the stream of writes; spoken by old replicas.",
    ),
    server("psync", psync, -3)
        .flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI)
        .doc(
            Group::Server,
            "2.8.0",
            "",
            "Asks for the stream of writes from some place on; spoken by replicas.",
        )
        .args(&[arg("replicationid", ArgKind::String), arg("offset", ArgKind::Integer)]),
    server("replconf", replconf, -1).flags(ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY).syscmd().doc(
        Group::Server,
        "3.0.0",
        "O(1)",
        "What masters and replicas tell each other about themselves.",
    ),
];

const REPLICAOF_ARGS: &[Arg] = &[one_of(
    "args",
    &[
        block("host-port", &[arg("host", ArgKind::String), arg("port", ArgKind::Integer)]),
        block("no-one", &[token("no", "NO"), token("one", "ONE")]),
    ],
)];

const FAILOVER_ARGS: &[Arg] = &[
    block(
        "target",
        &[arg("host", ArgKind::String), arg("port", ArgKind::Integer), token("force", "FORCE").optional()],
    )
    .token("TO")
    .optional(),
    token("abort", "ABORT").optional(),
    arg("milliseconds", ArgKind::Integer).token("TIMEOUT").optional(),
];

/// REPLICAOF host port | NO ONE
fn replicaof(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if server.replication.failover.is_under_way() {
        return Err(CmdError::text("ERR REPLICAOF not allowed while failing over."));
    }
    let by = server.client_line(id, args);
    if args.is(1, "no") && args.is(2, "one") {
        if server.replication.master().is_some() {
            server.set_master(None);
            log::notice!("MASTER MODE enabled (user request from '{by}')");
        }
        server.reply(id).ok();
        return Ok(Done);
    }
    if server.replication.replicas.get(id).is_some_and(|replica| replica.state().is_some()) {
        return Err(CmdError::text("ERR Command is not valid when client is a replica."));
    }
    let port = args.int(2).ok().and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or(CmdError::text("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(args.get(1)).into_owned();
    let is_same = |master: &MasterAddress| master.port == port && master.host.eq_ignore_ascii_case(&host);
    let link = &server.replication.link;
    // Who asks again wants what the link has stopped at.
    let waits = link.is_stopped() || link.shielded().is_some();
    if server.replication.master().is_some_and(is_same) && !waits {
        log::notice!(
            "REPLICAOF would result into synchronization with the master we are already connected with. No operation performed."
        );
        server.reply(id).simple("OK Already connected to specified master");
        return Ok(Done);
    }
    server.set_master(Some(MasterAddress { host: host.clone(), port }));
    log::notice!("REPLICAOF {host}:{port} enabled (user request from '{by}')");
    server.reply(id).ok();
    Ok(Done)
}

/// REPLICATION HISTORY [count]
fn replication_history(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let count = match args.len() {
        2 => i64::MAX,
        3 => args.int(2)?,
        _ => return Err(CmdError::subcommand("replication", args.get(1))),
    };
    server.reply_with(id, |server, reply| {
        let shown: Vec<_> = server.replication.syncs.iter().take(count.max(0) as usize).collect();
        reply.array(shown.len());
        for sync in shown {
            let [waited, transferred, loaded] = sync.phases_ms;
            reply.map(13);
            let mut text = |name: &str, value: &str| {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            };
            text("side", if sync.with == With::Master { "replica" } else { "master" });
            text("peer", &sync.peer);
            text("kind", if sync.full { "full" } else { "partial" });
            text("reason", &sync.reason);
            text("outcome", sync.outcome());
            for (name, value) in [
                ("began-unix-ms", sync.began_ms),
                ("offset", sync.offset as i64),
                ("bytes", sync.bytes as i64),
                ("wait-ms", waited),
                ("transfer-ms", transferred),
                ("load-ms", loaded),
                ("fork-us", sync.fork_us as i64),
                ("cow-bytes", sync.cow_bytes as i64),
            ] {
                reply.bulk(name.as_bytes());
                reply.int(value);
            }
        }
    });
    Ok(Done)
}

/// REPLICATION HELP
fn replication_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    const LINES: &[&str] =
        &["HISTORY [<count>]", "    The last synchronisations, the latest first, each with its reason."];
    help::write(&mut server.reply(id), "REPLICATION", LINES);
    Ok(Done)
}

/// What FAILOVER asks for.
#[derive(Default)]
struct FailoverRequest {
    target: Option<(String, i64)>,
    timeout_ms: i64,
    force: bool,
}

impl FailoverRequest {
    fn parse(args: Args) -> Result<FailoverRequest, CmdError> {
        let mut request = FailoverRequest::default();
        let mut at = 1;
        while at < args.len() {
            let left = args.len() - at - 1;
            if args.is(at, "timeout") && left >= 1 && request.timeout_ms == 0 {
                request.timeout_ms = args.int(at + 1)?;
                if request.timeout_ms <= 0 {
                    return Err(CmdError::text("ERR FAILOVER timeout must be greater than 0"));
                }
                at += 2;
            } else if args.is(at, "to") && left >= 2 && request.target.is_none() {
                let port = args.int(at + 2)?;
                request.target = Some((String::from_utf8_lossy(args.get(at + 1)).into_owned(), port));
                at += 3;
            } else if args.is(at, "force") && !request.force {
                request.force = true;
                at += 1;
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(request)
    }
}

/// FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]
fn failover(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let error = |text: &'static str| Err(CmdError::text(text));
    let under_way = server.replication.failover.is_under_way();
    if args.len() == 2 && args.is(1, "abort") {
        if !under_way {
            return error("ERR No failover in progress.");
        }
        server.abort_failover("Failover manually aborted");
        server.reply(id).ok();
        return Ok(Done);
    }
    let FailoverRequest { target, timeout_ms, force } = FailoverRequest::parse(args)?;
    if under_way {
        return error("ERR FAILOVER already in progress.");
    }
    if server.is_replica() {
        return error("ERR FAILOVER is not valid when server is a replica.");
    }
    if server.replication.replicas.attached().next().is_none() {
        return error("ERR FAILOVER requires connected replicas.");
    }
    if force && (timeout_ms == 0 || target.is_none()) {
        return error("ERR FAILOVER with force option requires both a timeout and target HOST and IP.");
    }
    let target = match target {
        Some((host, port)) => {
            let port = u16::try_from(port).unwrap_or_default();
            match server.replication.replicas.named(&host, port) {
                None => return error("ERR FAILOVER target HOST and PORT is not a replica."),
                Some(replica) if !replica.is_online() => {
                    return error("ERR FAILOVER target replica is not online.");
                }
                Some(_) => Some(MasterAddress { host, port }),
            }
        }
        None => None,
    };
    let deadline_ms = (timeout_ms > 0).then(|| server.clock.unix_ms().saturating_add(timeout_ms));
    server.begin_failover(target, deadline_ms, force);
    server.reply(id).ok();
    Ok(Done)
}

/// ROLE
fn role(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| match server.replication.master() {
        None => {
            reply.array(3);
            reply.bulk(b"master");
            reply.int(server.journal.offset());
            let online: Vec<_> =
                server.replication.replicas.iter().filter(|replica| replica.is_online()).collect();
            reply.array(online.len());
            for replica in online {
                reply.array(3);
                reply.bulk(replica.address().as_bytes());
                reply.bulk_int(i64::from(replica.port));
                reply.bulk_int(replica.acked as i64);
            }
        }
        Some(master) => {
            reply.array(5);
            reply.bulk(b"slave");
            reply.bulk(master.host.as_bytes());
            reply.int(i64::from(master.port));
            let link = &server.replication.link;
            reply.bulk(link.role_state().as_bytes());
            reply.int(if link.is_online() { server.journal.offset() as i64 } else { -1 });
        }
    });
    Ok(Done)
}

/// WAIT numreplicas timeout
fn wait(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if server.replication.master().is_some() {
        return Err(CmdError::text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.",
        ));
    }
    let count = args.int(1)?;
    let deadline_ms = deadline(server, args, 2)?;
    let Some(client) = server.client(id) else { return Ok(Done) };
    let (offset, may_block) = (client.write_offset, !client.session.deny_blocking);
    let acknowledged = server.replication.replicas.acknowledged(offset);
    if acknowledged >= count || !may_block {
        server.reply(id).int(acknowledged);
        return Ok(Done);
    }
    server.replication.replicas.ask_for_acks = true;
    Ok(Outcome::Block(Block { on: BlockOn::Replicas { count, offset }, deadline_ms, resolved: Vec::new() }))
}

/// When to give up that has argument `index` for a timeout in milliseconds; never, if that is 0.
fn deadline(server: &Server, args: Args, index: usize) -> Result<Option<i64>, CmdError> {
    match args.int(index).map_err(|_| CmdError::TIMEOUT_NOT_INTEGER)? {
        0 => Ok(None),
        timeout if timeout < 0 => Err(CmdError::TIMEOUT_NEGATIVE),
        timeout => {
            server.clock.unix_ms().checked_add(timeout).map(Some).ok_or(CmdError::TIMEOUT_OUT_OF_RANGE)
        }
    }
}

/// WAITAOF numlocal numreplicas timeout
fn waitaof(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let local = args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(CmdError::text("ERR value is out of range, value must between 0 and 1"));
    }
    let count = args.int(2).unwrap_or(-1);
    if count < 0 {
        return Err(CmdError::text("ERR value is out of range, must be positive"));
    }
    let deadline_ms = deadline(server, args, 3)?;
    if server.is_replica() {
        return Err(CmdError::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.",
        ));
    }
    if local > 0 && !server.config.appendonly {
        return Err(CmdError::text(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    let Some(client) = server.client(id) else { return Ok(Done) };
    let (offset, may_block) = (client.write_offset, !client.session.deny_blocking);
    let acknowledged = server.replication.replicas.acknowledged_files(offset);
    let here = server.file_holds(offset);
    if here >= local && acknowledged >= count || !may_block {
        files_reply(&mut server.reply(id), here, acknowledged);
        return Ok(Done);
    }
    server.replication.replicas.ask_for_acks = true;
    Ok(Outcome::Block(Block {
        on: BlockOn::Files { local, count, offset },
        deadline_ms,
        resolved: Vec::new(),
    }))
}

/// SYNC
fn sync(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.attach_replica(id, None)?;
    Ok(Done)
}

/// PSYNC replicationid offset [FAILOVER]
fn psync(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if args.len() > 3 && args.is(3, "failover") {
        become_master(server, id, args)?;
    }
    let offset = args.int(2).inspect_err(|_| {
        let name = server.replica_mut(id).name();
        log::notice!("Replica {name} asks for synchronization");
        log::warning!("Replica {name} asks for synchronization but with a wrong offset");
    })?;
    server.attach_replica(id, Some(Wanted { id: args.get(1), offset }))?;
    Ok(Done)
}

/// PSYNC … FAILOVER: our master has caught us up, stopped, and wants to follow us.
fn become_master(server: &mut Server, id: ClientId, args: Args) -> Result<(), CmdError> {
    let wanted = args.get(1);
    log::notice!("Failover request received for replid {}.", String::from_utf8_lossy(wanted));
    if !server.is_replica() {
        return Err(CmdError::text("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if !server.replication.history.id.as_bytes().eq_ignore_ascii_case(wanted) {
        return Err(CmdError::text("ERR PSYNC FAILOVER replid must match my replid."));
    }
    server.set_master(None);
    log::notice!("MASTER MODE enabled (failover request from '{}')", server.client_line(id, args));
    Ok(())
}

/// REPLCONF option value [option value ...]
fn replconf(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if args.len().is_multiple_of(2) {
        return Err(CmdError::SYNTAX);
    }
    for at in (1..args.len()).step_by(2) {
        match args.get(at).to_ascii_lowercase().as_slice() {
            // An acknowledgement is not answered, whoever sends it.
            b"ack" => {
                acknowledge(server, id, args, at);
                return Ok(Done);
            }
            b"getack" => {
                if server.client(id).is_some_and(|client| client.session.is_master) {
                    server.replication.link.want_ack();
                }
                return Ok(Done);
            }
            option => introduce(server, id, option, args, at + 1)?,
        }
    }
    server.reply(id).ok();
    Ok(Done)
}

/// REPLCONF ACK offset [FACK offset]
fn acknowledge(server: &mut Server, id: ClientId, args: Args, at: usize) {
    let offset = |index: usize| args.int(index).map(|offset| offset.max(0) as u64);
    let Ok(applied) = offset(at + 1) else { return };
    let has_file = args.len() > at + 3 && args.is(at + 2, "fack");
    if let Ok(in_file) = has_file.then(|| offset(at + 3)).transpose() {
        server.replica_acknowledges(id, applied, in_file);
    }
}

/// Notes what a replica says of itself: the value of an option stands at `at`.
fn introduce(
    server: &mut Server,
    id: ClientId,
    option: &[u8],
    args: Args,
    at: usize,
) -> Result<(), CmdError> {
    let value = args.get(at);
    match option {
        // Whatever it says: who wants to know the port will find out.
        b"listening-port" => server.replica_mut(id).port = args.int(at)? as i32,
        b"ip-address" if value.len() < 256 => {
            server.replica_mut(id).announced_ip = Some(String::from_utf8_lossy(value).into_owned());
        }
        b"ip-address" => {
            let bytes = value.len();
            return Err(CmdError::new(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {bytes} bytes"
            )));
        }
        b"capa" => {
            let replica = server.replica_mut(id);
            replica.capa_eof |= value.eq_ignore_ascii_case(b"eof");
            replica.capa_psync2 |= value.eq_ignore_ascii_case(b"psync2");
            replica.capa_rdb12 |= value.eq_ignore_ascii_case(b"rdb-12");
            replica.capa_rdb13 |= value.eq_ignore_ascii_case(b"rdb-13");
            replica.capa_rdb_channel |= value.eq_ignore_ascii_case(b"rdb-channel-repl");
        }
        b"version" => {
            let text = String::from_utf8_lossy(value);
            let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0).min(255));
            let mut next = || parts.next().unwrap_or(0);
            server.replica_mut(id).version = next() << 16 | next() << 8 | next();
        }
        b"rdb-only" => {
            let rdb_only = args.int(at)?;
            if !(0..=1).contains(&rdb_only) {
                return Err(CmdError::text("ERR value is out of range, value must between 0 and 1"));
            }
            server.replica_mut(id).rdb_only = rdb_only == 1;
        }
        b"rdb-filter-only" => filter_dump(server, id, value)?,
        other => return Err(CmdError::bytes([b"ERR Unrecognized REPLCONF option: ", other].concat())),
    }
    Ok(())
}

/// What the dump is to have: functions, or nothing at all.
fn filter_dump(server: &mut Server, id: ClientId, value: &[u8]) -> Result<(), CmdError> {
    let parts = split_args(value).ok_or(CmdError::text("ERR Missing rdb-filter-only values"))?;
    let replica = server.replica_mut(id);
    replica.without_data = true;
    replica.wants_libraries = !parts.is_empty();
    match parts.iter().find(|part| !part.eq_ignore_ascii_case(b"functions")) {
        Some(other) => {
            Err(CmdError::bytes([b"ERR Unsupported rdb-filter-only option: ".as_slice(), other].concat()))
        }
        None => Ok(()),
    }
}
