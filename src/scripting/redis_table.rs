//! The table `redis`: what scripts call of the server.

use std::ffi::c_int;

use super::convert::push_reply;
use super::host::Propagation;
use super::library;
use super::lua::{Kind, Place, Push, Raise, Returned, Stack};
use super::run::{Run, Task, push_error};
use super::sandbox::{Purpose, refuse_unknown, to_i64};
use crate::exec::printed;
use crate::observe::log::{self, Level};
use crate::protocol::number::{format_shortest, whole};

/// The version of Redis whose ways are followed.
const VERSION: (&str, f64) = ("7.2.4", 0x0007_0204 as f64);
const LEVELS: [(&str, Level); 4] = [
    ("LOG_DEBUG", Level::Debug),
    ("LOG_VERBOSE", Level::Verbose),
    ("LOG_NOTICE", Level::Notice),
    ("LOG_WARNING", Level::Warning),
];

/// Pushes the table as scripts or functions have it.
pub(super) fn push(stack: &mut Stack, purpose: Purpose) {
    stack.push_table(0, 32);
    push_common(stack);
    let functions: [(&str, Push); 9] = [
        ("call", |stack| stack.push_task_function(call)),
        ("pcall", |stack| stack.push_task_function(pcall)),
        ("setresp", |stack| stack.push_task_function(setresp)),
        ("set_repl", |stack| stack.push_task_function(set_repl)),
        ("acl_check_cmd", |stack| stack.push_task_function(acl_check_cmd)),
        ("sha1hex", |stack| stack.push_function(sha1hex)),
        ("error_reply", |stack| stack.push_function(error_reply)),
        ("status_reply", |stack| stack.push_function(status_reply)),
        ("log", |stack| stack.push_function(log_line)),
    ];
    for (name, push) in functions {
        push(stack);
        stack.set_field(-2, name);
    }
    let bits = [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];
    for (name, bits) in bits {
        stack.push_number(f64::from(bits));
        stack.set_field(-2, name);
    }
    if purpose == Purpose::Scripts {
        stack.push_function(breakpoint);
        stack.set_field(-2, "breakpoint");
        stack.push_function(debug);
        stack.set_field(-2, "debug");
        stack.push_function(replicate_commands);
        stack.set_field(-2, "replicate_commands");
    }
}

/// Pushes the globals of a library that loads: a `redis` of its own, and nothing else.
pub(super) fn push_loading(stack: &mut Stack) {
    stack.push_table(0, 1);
    stack.push_table(0, 8);
    push_common(stack);
    stack.push_function(log_line);
    stack.set_field(-2, "log");
    stack.push_task_function(library::register_function);
    stack.set_field(-2, "register_function");
    refuse_unknown(stack);
    super::sandbox::protect(stack);
    stack.set_field(-2, "redis");
    refuse_unknown(stack);
}

fn push_common(stack: &mut Stack) {
    for (number, (name, _)) in LEVELS.into_iter().enumerate() {
        stack.push_number(number as f64);
        stack.set_field(-2, name);
    }
    stack.push_bytes(VERSION.0.as_bytes());
    stack.set_field(-2, "REDIS_VERSION");
    stack.push_number(VERSION.1);
    stack.set_field(-2, "REDIS_VERSION_NUM");
}

/// Raises an error that is a table, as those of commands are.
fn fail(stack: &mut Stack, text: &str) -> Raise {
    push_error(stack, format!("ERR {text}").as_bytes());
    Raise::Value
}

/// Writes the arguments as a request.
fn write_request(stack: &mut Stack, run: &mut Run) -> Result<(), &'static str> {
    let count = stack.top();
    if count == 0 {
        return Err("Please specify at least one argument for this redis lib call");
    }
    run.scratch.begin(count as usize);
    for index in 1..=count {
        match stack.kind(index) {
            Kind::String => run.scratch.argument(stack.bytes(index).unwrap_or_default()),
            Kind::Number => write_number(run, stack.number(index).unwrap_or_default()),
            _ => return Err("Lua redis lib command arguments must be strings or integers"),
        }
    }
    Ok(())
}

/// A number with all its digits, whole ones without a point or exponent.
fn write_number(run: &mut Run, number: f64) {
    match whole(number) {
        Some(number) => run.scratch.argument(itoa::Buffer::new().format(number).as_bytes()),
        None if number.is_nan() => {
            run.scratch.argument(if number.is_sign_negative() { b"-nan" } else { b"nan" })
        }
        None => run.scratch.argument(format_shortest(number).as_bytes()),
    }
}

/// `redis.call(..)`: an error is raised.
fn call(stack: &mut Stack, task: &mut Task) -> Returned {
    if call_command(stack, task.run()?) { Ok(1) } else { Err(Raise::Value) }
}

/// `redis.pcall(..)`: an error is what it returns.
fn pcall(stack: &mut Stack, task: &mut Task) -> Returned {
    call_command(stack, task.run()?);
    Ok(1)
}

/// Calls a command and leaves its reply on the stack, or the error.
fn call_command(stack: &mut Stack, run: &mut Run) -> bool {
    if let Err(why) = write_request(stack, run) {
        fail(stack, why);
        return false;
    }
    stack.set_top(0);
    if let Err(refused) = run.call() {
        push_error(stack, refused.as_bytes());
        stack.push_bool(true);
        stack.set_field(-2, "ignore_error_stats_update");
        return false;
    }
    match push_reply(stack, run.reply()) {
        Some(ok) => ok,
        None => {
            fail(stack, "the reply of the command has no form that scripts could be given");
            false
        }
    }
}

/// `redis.acl_check_cmd(..)`
fn acl_check_cmd(stack: &mut Stack, task: &mut Task) -> Returned {
    let run = task.run()?;
    write_request(stack, run).map_err(|why| fail(stack, why))?;
    match run.host.may_run(run.scratch.request()) {
        Some(may) => stack.push_bool(may),
        None => return Err(fail(stack, "Invalid command passed to redis.acl_check_cmd()")),
    }
    Ok(1)
}

/// `redis.setresp(version)`
fn setresp(stack: &mut Stack, task: &mut Task) -> Returned {
    if stack.top() != 1 {
        return Err(fail(stack, "redis.setresp() requires one argument."));
    }
    match to_int(stack.to_number(1)) {
        version @ (2 | 3) => task.run()?.resp = version as u8,
        _ => return Err(fail(stack, "RESP version must be 2 or 3.")),
    }
    Ok(0)
}

/// `redis.set_repl(bits)`
fn set_repl(stack: &mut Stack, task: &mut Task) -> Returned {
    if stack.top() != 1 {
        return Err(fail(stack, "redis.set_repl() requires one argument."));
    }
    let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
    let bits = to_int(stack.to_number(1));
    task.run()?.propagation = Propagation::from_bits(bits).ok_or_else(|| fail(stack, text))?;
    Ok(0)
}

/// What is no number is 0.
fn to_int(number: Option<f64>) -> c_int {
    number.map_or(0, to_i64) as c_int
}

/// `redis.sha1hex(text)`
fn sha1hex(stack: &mut Stack) -> Returned {
    if stack.top() != 1 {
        return Err(fail(stack, "wrong number of arguments"));
    }
    let text = stack.text(1).unwrap_or_default();
    let digest = sha1_smol::Sha1::from(&text).digest().to_string();
    stack.push_bytes(digest.as_bytes());
    Ok(1)
}

/// `redis.error_reply(text)`: the code is its first word, behind a minus sign that may lack.
fn error_reply(stack: &mut Stack) -> Returned {
    if stack.top() != 1 || stack.kind(1) != Kind::String {
        fail(stack, "wrong number or type of arguments");
        return Ok(1);
    }
    let text = printed(stack.bytes(1).unwrap_or_default());
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (code, message) = match memchr::memchr(b' ', text) {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (&b"ERR"[..], text),
    };
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = message.iter().position(|byte| !is_line_end(byte)).unwrap_or(message.len());
    let end = message.iter().rposition(|byte| !is_line_end(byte)).map_or(start, |last| last + 1);
    let whole = [code, b" ", &message[start..end]].concat();
    push_error(stack, &whole);
    Ok(1)
}

/// `redis.status_reply(text)`
fn status_reply(stack: &mut Stack) -> Returned {
    if stack.top() != 1 || stack.kind(1) != Kind::String {
        fail(stack, "wrong number or type of arguments");
        return Ok(1);
    }
    stack.push_table(0, 1);
    stack.push_copy(1);
    stack.set_field(-2, "ok");
    Ok(1)
}

/// `redis.log(level, text, ..)`
fn log_line(stack: &mut Stack) -> Returned {
    let count = stack.top();
    if count < 2 {
        return Err(fail(stack, "redis.log() requires two arguments or more."));
    }
    let Some(level) = stack.to_number(1) else {
        return Err(fail(stack, "First argument must be a number (log level)."));
    };
    let level = usize::try_from(to_int(Some(level))).ok().and_then(|number| LEVELS.get(number));
    let Some(&(_, level)) = level else {
        return Err(fail(stack, "Invalid debug level."));
    };
    if !log::enabled(level) {
        return Ok(0);
    }
    let mut line = Vec::new();
    for index in 2..=count {
        if let Some(text) = stack.text(index) {
            if index > 2 {
                line.push(b' ');
            }
            line.extend_from_slice(&text);
        }
    }
    log::line(level, format_args!("{}", String::from_utf8_lossy(&line)));
    Ok(0)
}

/// `redis.breakpoint()`: nobody debugs.
fn breakpoint(stack: &mut Stack) -> Returned {
    stack.push_bool(false);
    Ok(1)
}

/// `redis.debug(..)`: nobody debugs.
fn debug(_: &mut Stack) -> Returned {
    Ok(0)
}

/// `redis.replicate_commands()`: there is no other way any more.
fn replicate_commands(stack: &mut Stack) -> Returned {
    stack.push_bool(true);
    Ok(1)
}

/// The handler of errors that leave a script: makes a table of what is none, and notes where it came up: in the script,
/// not in the function of C that it called.
pub(super) fn handle_error(stack: &mut Stack) -> Returned {
    stack.set_top(1);
    if !stack.ensure(10) {
        return Ok(1);
    }
    let mut place = stack.place(1);
    if place.as_ref().is_some_and(|place| place.is_c) {
        place = stack.place(2);
    }
    if stack.kind(1) != Kind::Table {
        let text = match stack.kind(1) {
            Kind::Boolean => stack.truth(1).to_string().into(),
            kind => stack.text(1).unwrap_or_else(|| kind.name().into()),
        };
        push_error(stack, &[b"ERR ", &text[..]].concat());
        stack.replace(1);
    }
    if let Some(Place { source, line, .. }) = place
        && !super::sandbox::is_protected(stack, 1)
    {
        stack.push_bytes(&source);
        stack.set_field(1, "source");
        stack.push_number(f64::from(line));
        stack.set_field(1, "line");
    }
    Ok(1)
}
