//! A bench for data commands: one client, one set of databases, no server. For unit tests beside the handlers.

use super::{Args, CmdError, Command, Ctx, Handler, Outcome};
use crate::client::{Auth, Session};
use crate::env::random::Rng;
use crate::keyspace::access::Stamp;
use crate::keyspace::{Changes, Expired, Keyspace, Turn};
use crate::protocol::{Limits, Output, Parser, Reply, encode_command};
use crate::structures::quoted::split_args;
use crate::types::Thresholds;

/// Runs the data commands of some rows.
pub struct Bench<S: 'static> {
    rows: Vec<&'static [Command<S>]>,
    pub keyspace: Keyspace,
    pub changes: Changes,
    pub session: Session,
    pub turn: Turn,
    pub limits: Thresholds,
    rng: Rng,
}

impl<S> Bench<S> {
    pub fn new(rows: &[&'static [Command<S>]]) -> Self {
        Bench {
            rows: rows.to_vec(),
            keyspace: Keyspace::new(16, 1_700_000_000_000),
            changes: Changes::default(),
            session: Session::new(1, Auth::Done),
            turn: Turn {
                now_ms: 1_700_000_000_000,
                stamp: Stamp::lru(1_700_000_000),
                silent: false,
                expired: Expired::Delete,
                lazy_expire: false,
                lazy_server_del: false,
                lazy_user_del: false,
                timed: false,
                shares_integers: true,
            },
            limits: Thresholds::default(),
            rng: Rng::seeded(1),
        }
    }

    /// Runs a line (words and quotes as in an inline command); the reply as protocol text, `-…` for an error, or
    /// `blocked`. What it changed stands in `changes` until the next line.
    pub fn run(&mut self, line: &str) -> String {
        let arguments = split_args(line.as_bytes()).expect("the quotes of a test are closed");
        self.run_arguments(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// As [`Bench::run`], for arguments that are no text.
    pub fn run_arguments(&mut self, arguments: &[&[u8]]) -> String {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, arguments.iter().copied());
        let mut parser = Parser::default();
        parser
            .parse(&bytes, &Limits { max_bulk: i64::MAX, authenticated: true })
            .expect("an encoded command");
        let args = Args::new(parser.request(&bytes));
        let row = self.rows.iter().flat_map(|rows| rows.iter());
        let mut row = row.into_iter().find(|row| args.is(0, row.name)).expect("a row of that name");
        if let (Handler::Container, true) = (&row.handler, args.len() > 1) {
            row = row.subcommand(args.get(1)).expect("a subcommand of that name");
        }
        assert!(row.arity_fits(args.len()), "the bench does not check arity");
        let Handler::Data(handler) = row.handler else { panic!("{} is no data command", row.name) };
        self.changes.clear();
        let mut out = Output::default();
        let result = handler(&mut Ctx {
            args,
            db: self.keyspace.view(self.session.db, &mut self.changes, &self.turn),
            reply: Reply::new(&mut out, self.session.resp),
            session: &self.session,
            limits: &self.limits,
            rng: &mut self.rng,
        });
        for (_, db) in self.keyspace.iter() {
            db.verify();
        }
        match result {
            Ok(Outcome::Done | Outcome::Failed) => String::from_utf8_lossy(&out.to_vec()).into_owned(),
            Ok(Outcome::Block(_)) => {
                assert!(out.is_empty(), "a command that blocks has replied");
                "blocked".into()
            }
            Err(error) => {
                assert!(out.is_empty(), "a command that fails has replied");
                format_error(&error)
            }
        }
    }

    /// The commands recorded for replicas, as lines of words with their database: `0: DEL key`.
    pub fn propagated(&self) -> Vec<String> {
        let text = |bytes: &[u8]| {
            let mut parser = Parser::default();
            let limits = Limits { max_bulk: i64::MAX, authenticated: true };
            parser.parse(bytes, &limits).expect("an encoded command");
            let args = Args::new(parser.request(bytes));
            args.iter()
                .map(|argument| String::from_utf8_lossy(argument).into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.changes.ops().map(|(db, bytes)| format!("{db}: {}", text(bytes))).collect()
    }
}

fn format_error(error: &CmdError) -> String {
    format!("-{error}\r\n")
}
