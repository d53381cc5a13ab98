//! # redis-rs
//!
//! A drop-in Redis server: one thread, one reactor that owns every connection, a real `fork()` whose child writes
//! the snapshot, and master/replica replication as its heart.
//!
//! ## The house
//! Each floor uses only the floors below it (`tests/tidy.rs` watches); a module's `use` lines are its contract.
//!
//! ```text
//! main.rs        arguments, configuration, the process, run                 (bin/: redis-cli)
//! commands/      folders by family: the rows that declare the commands, and their handlers
//! server/        Server, a struct of structs; it only conducts: boot, event loop, carry_out, closing, cron, shutdown
//!   request/     input, admission, dispatch, fast path, call, settle, transactions, blocked clients (retry, unblock)
//! replication/   history (who may go on); master/: our replicas; replica/: the link to our master
//! scripting/     Lua 5.1 for scripts and functions: its sandbox, conversions, cache and libraries; sees the server as a trait
//! persistence/   rdb/ (the format), the snapshot child, save points, loading as a task of the loop
//! acl/           users, what each may do and what was denied: pure but for the user file
//! exec/          Command row, Ctx, Args, Outcome
//! keyspace/      Db, its view for commands, Changes, expiry, eviction's choice, access bits, freeing elsewhere
//! client/        Client, Clients, sessions; outbox, flush and limits; blocked clients, pub/sub, monitors, invalidation
//! journal/       the write stream: one log, one offset, many readers; framing
//! types/         the entry in one allocation, and the values with their encodings; no clients, no replies
//! net/           reactor, connections, listeners; peer, the one place that waits for a socket (MIGRATE)
//! protocol/      request parser, reply writer, reply parser (for clients of other servers), numbers as text
//! observe/       the log, the slow log, latency
//! config/        the directive table and the redis.conf grammar
//! structures/    dict, wheel, listpack, quicklist, intset, sorted set, stream, HyperLogLog, glob: no Redis words
//! env/           clock, random, allocator, process, signals, supervision, crash reports
//! ```
//!
//! ## Services and decisions
//! A service (blocked clients, pub/sub, replicas, the link to the master, snapshots …) owns its state and is given the
//! parts that it touches: `client::Outbox` to write to clients and to close them, `replication::master::Serving`,
//! `replication::replica::Linking`. None knows the server, so none can call back. What a service cannot do itself stands
//! in its state or in `replication::Decision`, and `server::carry_out` does it once a turn, in one written order;
//! `tests/tidy.rs` holds that no file of these floors is called back.
//!
//! A server stands in surroundings that it is given (`server::Surroundings`: clock, secrets, reactor, how children are
//! forked). In a simulation they are a clock that is moved by hand, connections in memory and children that are steps of
//! the simulation, so that a process holds as many servers as a test wants (`tests/sim`).
//!
//! ## The way of a request
//! 1. `server::event_loop` hears from the reactor that a client can be read; `request::input` reads into one shared buffer
//!    and parses in place: arguments are slices of it. A pipeline is parsed several requests at a time; the row of each is
//!    found (once), and the processor is asked for their keys and values (`keyspace::ahead`), before the first runs. Only
//!    an incomplete rest is copied to the client; a bulk of 32 KiB or more gets a buffer of its own, which becomes the
//!    stored value.
//! 2. `request::admission` says, without touching anything, whether the row may run now: call, queue, postpone or refuse,
//!    in Redis's order of checks. `request::dispatch` does what it says. Most data commands go by `request::fast_path`,
//!    which asks admission once for the whole batch which flags are refused.
//! 3. `request::call` is the one runner. A *data* handler sees one database, its arguments and the reply; it records what
//!    it changed. A *server* handler sees the server.
//! 4. `request::settle` draws the consequences, in one written order: counts, the write stream (`journal`), WATCH, clients
//!    that track keys (`client::invalidation`), keyspace events, blocked clients whose keys are ready.
//! 5. Behind the command, `request::retry` runs the requests of blocked clients again whose keys are ready; those whose
//!    time is over get their reply by `request::unblock`.
//! 6. Before the loop sleeps (`server::event_loop`, `before_sleep`), decisions are carried out, replicas are fed from the
//!    log, marked clients are closed (`server::closing` tells each service, in one order) and replies are written, one
//!    write a connection (`client::flush`).
//!
//! ## Where things live
//! A directive: its row in `config::table`; what follows from CONFIG SET is an `Apply` of `config::directive`, which
//! `server::reconfigure` carries out. An error text: beside the handler, those of many commands in `protocol::error`. Whether
//! a replica may go on or has to start over, and why: `replication::history::decide`. CLIENT KILL of a replica: the row in
//! `commands::connection::client`, then at once `server::closing`, `server::replication` and `master::feed` (`gone`). A reader
//! of the write stream (a replica, a file) holds a position in `journal::Log`, and `journal::Journal::trim` keeps what lies
//! behind it. The append-only file: `persistence::aof`, whose `writer` reads the log, driven by `server::aof`. Eviction: what
//! goes is chosen by `keyspace::evict`, and deleted by `server::eviction`. A script's call: `scripting::redis_table`, by the
//! trait in `scripting::host`, to `server::scripting` and the runner. The last syncs and their reasons:
//! `replication::sync_log`.
//!
//! ## Replication
//! The journal is one log with one offset. On a master it is what commands did; on a replica it is the master's stream,
//! verbatim, so that chains of any depth share offsets. The backlog, the pending output of each replica and the catch-up
//! after a snapshot are positions in it. A forked child writes the snapshot; a replica that can take it is sent the file
//! while it grows. One child serves all who wait when it begins; who comes while it writes a file that it reads shares it.
//!
//! ## The way of a replica's sync
//! On the replica, `replication::replica` takes the link from state to state; on the master, `replication::master` takes
//! each replica from phase to phase. Neither calls the server: what they cannot do themselves stands in their state or in
//! `replication::Decision`, and `server::carry_out` does it once a turn, in one written order (what REPLICAOF decides, at
//! once).
//! 1. The replica connects (`replica::link`), introduces itself and says PSYNC (`replica::handshake`); after a failure it
//!    tries again at once, then later and later (`replica::retry`).
//! 2. The master answers (`master::attach`): `history::decide` says whether it may go on where it was, or why it has to
//!    start over.
//! 3. Who starts over waits for a snapshot: `persistence::snapshots` runs the one child, `master::transfer` sends what it
//!    writes, file or pipe.
//! 4. The replica receives the dump into a file, or straight into the loader (`replica::receive`). Once no child of its own is left it is loaded, a slice
//!    a turn (`persistence::loading`), and the connection becomes a client whose commands are obeyed.
//! 5. The master sends the stream from the log (`master::feed`); the replica applies it, appends it to its own log and says
//!    how far it is (`replica::follow`, `master::acks`).
//!
//! ## Tests
//! Structures and pure cores are tested beside their code. `tests/sim` has servers without sockets, many in a process, whose
//! time, network, children and chance are given: scripts of commands whose replies a real server has given (`scripts/`,
//! `make record`), scenarios of replication (`scenarios/`), and seeds that do to a tree of servers whatever may happen and
//! check what must hold (`make simulate`). `tests/main.rs` drives the real binary, with real clients and real peers.
//!
//! ## Time
//! The loop sleeps until something happens or its one timer rings (`net::reactor`), which stays set from sleep to sleep.
//! Keys that end, and hashes with fields that end, stand on the timing wheel of their database (`structures::wheel`), which
//! says what is due; `server::event_loop` deletes it, a bounded number a turn. Replicas delete nothing by themselves.

pub mod acl;
pub mod client;
pub mod commands;
pub mod config;
pub mod env;
pub mod exec;
pub mod journal;
pub mod keyspace;
pub mod net;
pub mod observe;
pub mod persistence;
pub mod protocol;
pub mod replication;
pub mod scripting;
pub mod server;
pub mod structures;
pub mod types;
