//! Sessions with a real server, recorded: ours gives the same replies, byte for byte.
//!
//! A file of `sessions/` is one session with one server. A line that begins with `>` is a command of the first connection,
//! with `3>` one of the second, which speaks RESP3; words in double quotes have escapes. The line behind it is the reply, with escapes.
//! `REDIS_RS_RECORD=/path/to/redis-server cargo test --test main scripts::facts` writes the replies anew, of that server;
//! the difference is what to look at.

use std::path::{Path, PathBuf};

use crate::support::{Raw, Server};

/// The words of a line, as redis-cli splits it.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while let Some(&byte) = bytes.peek() {
        if byte == b' ' {
            bytes.next();
            continue;
        }
        let quoted = byte == b'"';
        let mut word = Vec::new();
        if quoted {
            bytes.next();
        }
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' if quoted => break,
                b' ' if !quoted => break,
                b'\\' if quoted => word.push(escaped(&mut bytes)),
                byte => word.push(byte),
            }
        }
        words.push(word);
    }
    words
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    match bytes.next().unwrap() {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'x' => {
            let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap() as u8;
            let high = digit(bytes.next());
            high << 4 | digit(bytes.next())
        }
        byte => byte,
    }
}

fn send(client: &mut Raw, line: &str) -> String {
    let words = words(line);
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    client.command_of_bytes(&words);
    client.reply().escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

fn play(path: &Path) {
    let record = std::env::var_os("REDIS_RS_RECORD").map(PathBuf::from);
    let server = match &record {
        Some(program) => Server::start_program(program.clone(), &[("enable-debug-command", "yes")]),
        None => Server::start(&[("enable-debug-command", "yes")]),
    };
    let mut clients = [server.raw(), server.raw()];
    clients[1].command(&["HELLO", "3"]);
    clients[1].reply();
    let text = std::fs::read_to_string(path).unwrap();
    let (mut written, mut different) = (String::new(), Vec::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        written.push_str(line);
        written.push('\n');
        let command = line.strip_prefix("3> ").map(|command| (1, command));
        let Some((client, command)) = command.or(line.strip_prefix("> ").map(|command| (0, command))) else {
            continue;
        };
        let got = send(&mut clients[client], command);
        let is_reply = |line: &&str| !["> ", "3> ", "# "].iter().any(|other| line.starts_with(other));
        let expected = lines.next_if(is_reply).unwrap_or_default();
        if got != expected {
            different.push(format!("{line}\n  theirs {expected}\n  ours   {got}"));
        }
        written.push_str(&got);
        written.push('\n');
    }
    if record.is_some() {
        return std::fs::write(path, written).unwrap();
    }
    assert!(
        different.is_empty(),
        "{}: {} differ:\n{}",
        path.display(),
        different.len(),
        different.join("\n")
    );
}

fn session(name: &str) {
    play(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/sessions").join(name));
}

#[test]
fn values_go_through_lua_and_back_as_on_a_real_server() {
    session("values.txt");
}

#[test]
fn globals_and_the_redis_table_are_those_of_a_real_server() {
    session("globals.txt");
}

#[test]
fn errors_of_scripts_have_the_texts_of_a_real_server() {
    session("errors.txt");
}

#[test]
fn functions_and_their_errors_are_those_of_a_real_server() {
    session("functions.txt");
}

#[test]
fn libraries_of_scripts_have_the_limits_of_a_real_server() {
    session("libraries.txt");
}

#[test]
fn errors_and_calls_are_counted_as_on_a_real_server() {
    session("counts.txt");
}
