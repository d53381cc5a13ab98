//! Scripts and functions: their replies word for word, and what they mean to everybody else.

mod busy;
mod circumstances;
mod effects;
mod facts;

use crate::support::{Raw, Server};

/// Runs a script without keys; its reply as it came.
#[track_caller]
fn eval(client: &mut Raw, script: &str) -> String {
    client.command(&["EVAL", script, "0"]);
    String::from_utf8_lossy(&client.reply()).into_owned()
}

/// The reply to a command, as it came.
#[track_caller]
fn reply(client: &mut Raw, words: &[&str]) -> String {
    client.command(words);
    String::from_utf8_lossy(&client.reply()).into_owned()
}

/// Sends a line of words and expects this reply.
#[track_caller]
fn says(client: &mut Raw, line: &str, expected: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(reply(client, &words), expected, "{line}");
}

/// Sends a line of words and expects OK.
#[track_caller]
fn ok(client: &mut Raw, line: &str) {
    says(client, line, "+OK\r\n");
}

/// A library with one function, which runs this.
fn library(name: &str, body: &str) -> String {
    format!("#!lua name={name}\nredis.register_function('{name}', function(keys, args) {body} end)")
}

#[track_caller]
fn load(server: &Server, name: &str, body: &str) {
    assert_eq!(server.query::<String>(&["FUNCTION", "LOAD", "REPLACE", &library(name, body)]), name);
}
