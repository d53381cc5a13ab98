//! Real client libraries, at the versions that requirements.txt and package.json pin, and their users' usual flows.
//!
//! Each library has a program here, and each flow is a function of it with the same name in all of them; this file runs
//! them one by one against a server of their own and answers what they ask of it (see flow.py). A flow that fails is
//! shown with all that its program wrote. What the libraries are installed by is tools/client-deps.sh: where they are
//! missing every flow fails and says so, for a test that is not run must not look like one that passed.

mod redis_crate;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{Real, Server, spawn};

/// More than any wait inside the programs, which tell better what did not come.
const PATIENCE: Duration = Duration::from_secs(120);

/// One test for each flow of a library.
macro_rules! flows {
    ($library:ident, $program:ident, $file:literal) => {
        flows!($library, $program, $file:
            says_hello_in_both_protocols
            needs_the_password
            pipelines_keep_their_order
            watched_increments_add_up
            messages_reach_channels_and_patterns
            sharded_messages_arrive
            a_hundred_consumers_share_a_queue
            cached_reads_are_invalidated
            iterators_return_every_element
            stream_groups_deliver_every_entry_once
            comes_back_after_a_restart
            big_values_stay_whole
            any_byte_is_data
            errors_have_their_kinds
            replicas_answer_reads
            replies_have_their_types
        );
    };
    ($library:ident, $program:ident, $file:literal: $($flow:ident)*) => {
        mod $library {
            $(#[test] fn $flow() { super::perform(super::$program($file), stringify!($flow)) })*
        }
    };
}

flows!(redis_py, python, "redis_py.py");
flows!(redis_py_async, python, "redis_py_async.py");
flows!(ioredis, node, "ioredis.mjs");
flows!(node_redis, node, "node_redis.mjs");

/// A framework on top of a library, as far as it needs no scripts.
#[test]
fn rq_runs_each_job_once_and_keeps_its_result() {
    perform(python("rq_jobs.py"), "jobs_run_once_and_leave_their_results");
}

/// Queues of jobs, each with its workers and a thousand jobs: none is lost, none runs twice.
mod jobs {
    #[test]
    fn celery_runs_each_job_once() {
        super::perform(super::job_program(), "celery_runs_each_job_once");
    }

    #[test]
    fn huey_runs_each_job_once() {
        super::perform(super::job_program(), "huey_runs_each_job_once");
    }

    #[test]
    fn rq_runs_each_job_once() {
        super::perform(super::job_program(), "rq_runs_each_job_once");
    }

    #[test]
    fn arq_runs_each_job_once() {
        super::perform(super::job_program(), "arq_runs_each_job_once");
    }

    #[test]
    fn bullmq_runs_each_job_once() {
        super::perform(super::node("jobs.mjs"), "bullmq_runs_each_job_once");
    }

    #[test]
    fn bee_queue_runs_each_job_once() {
        super::perform(super::node("jobs.mjs"), "bee_queue_runs_each_job_once");
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where the libraries of a language are installed, if they are those that the file pins.
#[track_caller]
fn libraries(language: &str, pinned: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let installed = target.join("clients").join(language);
    let wanted = fs::read(here().join(pinned)).unwrap();
    let is_there = fs::read(installed.join(pinned)).is_ok_and(|found| found == wanted);
    assert!(is_there, "the client libraries of {pinned} are not installed: run `make test-clients-deps`");
    installed
}

fn python(file: &str) -> Command {
    let mut command = Command::new(Real::tool("python3"));
    command.arg(here().join(file)).env("PYTHONPATH", libraries("python", "requirements.txt"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn job_program() -> Command {
    let mut command = Command::new(Real::tool("python3"));
    command.arg(here().join("jobs.py")).env("PYTHONPATH", libraries("jobs", "jobs-requirements.txt"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn node(file: &str) -> Command {
    let mut command = Command::new(Real::tool("node"));
    command.arg(here().join(file)).env("CLIENT_LIBRARIES", libraries("node", "package.json"));
    command
}

/// Runs one flow of a program to its end.
#[track_caller]
fn perform(mut command: Command, flow: &str) {
    let mut servers = vec![start(&[])];
    let told_path = servers[0].path("client.log");
    let mut told = File::create(&told_path).unwrap();
    command.arg(flow).arg(servers[0].port().to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(told.try_clone().unwrap());
    let mut program = spawn(command).expect("the program can be started");
    let mut answers = program.stdin.take().unwrap();
    let output = BufReader::new(program.stdout.take().unwrap());
    let (lines, written) = channel();
    let reader =
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|l| lines.send(l).is_ok()));

    let deadline = Instant::now() + PATIENCE;
    let in_time = loop {
        match written.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match line.strip_prefix("> ") {
                // A program that fails meanwhile does not wait for its answer.
                Some(question) => drop(writeln!(answers, "{}", answer(&mut servers, question))),
                None => writeln!(told, "{line}").unwrap(),
            },
            Err(end) => break end == RecvTimeoutError::Disconnected,
        }
    };
    if !in_time {
        let _ = killpg(Pid::from_raw(program.id() as i32), Signal::SIGKILL);
    }
    let status = program.wait().unwrap();
    reader.join().unwrap();
    let told = String::from_utf8_lossy(&fs::read(told_path).unwrap()).into_owned();
    assert!(in_time, "{flow} does not come to its end; the program wrote:\n{told}");
    assert!(status.success(), "{flow}: {status}; the program wrote:\n{told}");
}

fn start(config: &[(&str, &str)]) -> Server {
    Server::start(&[&[("repl-diskless-sync-delay", "0")], config].concat())
}

/// Does what a program asks for, the first server being the one of its flow.
fn answer(servers: &mut Vec<Server>, question: &str) -> String {
    let words: Vec<&str> = question.split(' ').collect();
    match words[..] {
        ["restart"] => {
            servers[0].restart();
            return "done".into();
        }
        ["replica"] => {
            let replica = start(&[("replicaof", &format!("127.0.0.1 {}", servers[0].port()))]);
            replica.wait_linked();
            servers.push(replica);
        }
        ["server", ref directives @ ..] => {
            let config: Vec<(&str, &str)> = directives.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            servers.push(start(&config));
        }
        _ => panic!("no question is {question:?}"),
    }
    servers.last().unwrap().port().to_string()
}
