//! # redis-cli
//!
//! The command line client: runs one command, or a prompt, or one of a few tasks of its own, against any Redis server.
//! A client program with a blocking socket: of the server's house it uses the protocol floor, and its random numbers.
//!
//! ```text
//! options usage url        what the command line says
//! session                  the state of one conversation: entry, database, MULTI, subscriptions
//! connection               socket and decoder
//! format words             replies as text; quoting
//! repl history             the prompt
//! docs table hints help    what the server, or our own table, tells of the commands, and what the prompt makes of it
//! modes/                   --scan, --stat, --latency and its like, --lru-test, --pipe, --rdb, --replica, --bigkeys, --hotkeys
//! terminal interrupt       the terminal; Ctrl-C
//! ```

mod connection;
mod docs;
mod format;
mod help;
mod hints;
mod history;
mod interrupt;
mod modes;
mod options;
mod repl;
mod session;
mod table;
mod terminal;
mod url;
mod usage;
mod words;

use options::{Ending, Options, Task};
use session::{Session, Stop};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut options, command) = match Options::parse(&options::program_args(), terminal::stdout_is_tty()) {
        Ok(parsed) => parsed,
        Err(Ending::Help) => {
            terminal::print(usage::help());
            return ExitCode::SUCCESS;
        }
        Err(Ending::Version) => {
            terminal::print(format!("redis-cli {}\n", usage::version()));
            return ExitCode::SUCCESS;
        }
        Err(Ending::Wrong(text)) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    find_password(&mut options);
    let mut session = Session::new(&options);
    let result = match &options.task {
        Task::Commands if command.is_empty() => prompt(&mut session),
        Task::Eval(file) => match script(file, &command) {
            Ok(command) => one_command(&mut session, &options, command),
            Err(stop) => Err(stop),
        },
        Task::Commands => one_command(&mut session, &options, command),
        _ => modes::run(&mut session, &options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed) => ExitCode::FAILURE,
        Err(Stop::Exit(status)) => ExitCode::from(status),
    }
}

/// The password may come from the command line, from the environment, or from the keyboard.
fn find_password(options: &mut Options) {
    if options.password.is_some() && options.auth_warning {
        eprintln!(
            "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe."
        );
    }
    if options.password.is_none() {
        options.password = std::env::var_os("REDISCLI_AUTH").map(OsStringExt::into_vec);
    }
    if options.ask_password {
        options.password = repl::ask_password();
    }
}

fn prompt(session: &mut Session) -> Result<(), Stop> {
    if let Err(error) = interrupt::install() {
        eprintln!("Could not take over Ctrl-C: {error}");
    }
    // Without a server there is a prompt all the same; each command tries again.
    let _ = session.connect(false);
    match repl::run(session) {
        0 => Ok(()),
        status => Err(Stop::Exit(status)),
    }
}

fn one_command(session: &mut Session, options: &Options, mut args: Vec<Vec<u8>>) -> Result<(), Stop> {
    // A first failure is not told: the command will try again, and tell.
    let _ = session.connect(true);
    if options.quoted_input {
        let Some(unquoted) = args.iter().map(|arg| words::unquote(arg)).collect() else {
            terminal::print("Invalid quoted string\n");
            return Err(Stop::Failed);
        };
        args = unquoted;
    }
    if options.last_arg_from_stdin {
        args.push(stdin_to_end()?);
    } else if let Some(tag) = &options.stdin_tag {
        let Some(tagged) = args.iter_mut().find(|arg| *arg == tag) else {
            eprintln!("Using -X option but stdin tag not match.");
            return Err(Stop::Failed);
        };
        *tagged = stdin_to_end()?;
    }
    if repl::is_help(&args[0]) {
        let catalog = if args.len() > 1 { docs::Catalog::load(session) } else { docs::Catalog::default() };
        help::show(&catalog, &args[1..]);
        return Ok(());
    }
    session.issue(&args, options.repeat)?;
    while session.is_subscribed() {
        session.read_reply(false)?;
    }
    Ok(())
}

/// `--eval file key [key ...] , arg [arg ...]` as an EVAL.
fn script(file: &Path, words: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Stop> {
    let text = std::fs::read(file).map_err(|error| {
        eprintln!("Can't open file '{}': {}", file.display(), terminal::error_text(&error));
        Stop::Failed
    })?;
    let keys = words.iter().take_while(|word| *word != b",").count();
    let count = keys.to_string().into_bytes();
    let arguments = words.iter().skip(keys + 1);
    Ok([b"EVAL".to_vec(), text, count]
        .into_iter()
        .chain(words[..keys].iter().chain(arguments).cloned())
        .collect())
}

fn stdin_to_end() -> Result<Vec<u8>, Stop> {
    let mut text = Vec::new();
    match io::stdin().read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => {
            eprintln!("Reading from standard input: {}", terminal::error_text(&error));
            Err(Stop::Failed)
        }
    }
}
