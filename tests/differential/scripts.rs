//! Scripts and functions at random: commands that are called from Lua, values of Lua that become replies, libraries.

use super::grammar::Words;
use crate::support::Random;

/// Scripts that run the command that their arguments are, with their SHA-1.
const CALLERS: [(&str, &str); 2] = [
    ("return redis.call(unpack(ARGV))", "3c44b7a40779a5c68a6e3920550ff76660a813aa"),
    ("return redis.pcall(unpack(ARGV))", "b72d50ecdcafd5e07f3fca2060a111de46c547f9"),
];

/// The words that a script only passes on; those of any other command are its own.
pub fn called(words: &Words) -> Words {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|it| it.eq_ignore_ascii_case(word.as_bytes()));
    let passes_on = words.len() > 3
        && words[2] == b"0"
        && (is(0, "EVAL") && CALLERS.iter().any(|(text, _)| is(1, text))
            || is(0, "EVALSHA") && CALLERS.iter().any(|(_, sha)| is(1, sha))
            || is(0, "FCALL") && words[1].starts_with(b"call"));
    if passes_on { words[3..].to_vec() } else { words.clone() }
}

fn line(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// What runs a command from a script or a function.
pub fn calling(command: Words, random: &mut Random) -> Words {
    let (text, sha) = random.pick(&CALLERS);
    let mut words = match random.below(8) {
        0 => line(&["EVALSHA", sha, "0"]),
        1 => line(&["FCALL", if random.one_in(2) { "call1" } else { "call2" }, "0"]),
        _ => line(&["EVAL", text, "0"]),
    };
    words.extend(command);
    words
}

/// A script that returns a value of its own, and what there is besides.
pub fn other(random: &mut Random) -> Words {
    let name = format!("call{}", 1 + random.below(3));
    match random.below(12) {
        0 => line(&["SCRIPT", "LOAD", CALLERS[random.below(2)].0]),
        1 => line(&["SCRIPT", "EXISTS", CALLERS[0].1, "nothing", CALLERS[1].1]),
        2 if random.one_in(3) => line(&["SCRIPT", "FLUSH"]),
        3 => line(&["FUNCTION", "DELETE", &name]),
        4 => line(&["FUNCTION", "STATS"]),
        2 | 5 | 6 => {
            let call = *random.pick(&["call", "pcall"]);
            let code = format!(
                "#!lua name={name}\nredis.register_function('{name}', function(keys, args) return redis.{call}(unpack(args)) end)"
            );
            match random.below(3) {
                0 => line(&["FUNCTION", "LOAD", &code]),
                _ => line(&["FUNCTION", "LOAD", "REPLACE", &code]),
            }
        }
        7 => line(&["FUNCTION", "LIST", "LIBRARYNAME", &name, "WITHCODE"]),
        _ => {
            let resp = if random.one_in(3) { "redis.setresp(3) " } else { "" };
            let script = format!("{resp}return {}", value(random, 3));
            line(&["EVAL", &script, "0"])
        }
    }
}

/// A value of Lua. Maps and sets have one element, since these stand in no order.
fn value(random: &mut Random, depth: usize) -> String {
    const PLAIN: &[&str] = &[
        "1",
        "-1",
        "0",
        "3.99",
        "-0.5",
        "1e15",
        "2^53",
        "'text'",
        "''",
        "'a\\r\\nb'",
        "true",
        "false",
        "nil",
        "cjson.null",
        "tostring(1e14)",
        "'\\255\\0'",
        "#ARGV",
        "KEYS",
        "redis.status_reply('fine')",
        "redis.error_reply('My error')",
        "redis.error_reply('plain')",
        "cjson.encode({1, 'a', {x = 1.5}})",
        "cjson.decode('[1, 2.5, \"x\", null]')",
        "cmsgpack.pack({1, 'a', {b = true}})",
        "{cmsgpack.unpack(cmsgpack.pack(1, 'a', {1, 2}))}",
        "struct.pack('>I2s', 7, 'x')",
        "bit.bxor(255, 15)",
        "redis.sha1hex('x')",
        "tonumber('0x10')",
        "string.format('%5.1f', 2.25)",
        "{pcall(error, 'x', 0)}",
    ];
    if depth == 0 || random.one_in(3) {
        return (*random.pick(PLAIN)).to_owned();
    }
    let inner = value(random, depth - 1);
    match random.below(9) {
        0 => format!("{{ok = {inner}}}"),
        1 => format!("{{err = {inner}}}"),
        2 => format!("{{double = {inner}}}"),
        3 => format!("{{map = {{k = {inner}}}}}"),
        4 => "{set = {member = true}}".to_owned(),
        5 => format!("{{big_number = {inner}}}"),
        6 => format!("{{verbatim_string = {{format = 'txt', string = {inner}}}}}"),
        _ => {
            let more = value(random, depth - 1);
            format!("{{{inner}, {more}}}")
        }
    }
}
