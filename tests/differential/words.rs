//! What stands where a form says `key`, `member`, `score` …: few names, so that keys and types collide, and odd ones among
//! them.
//!
//! Nothing here depends on the clock: absolute times lie far ahead or far back, relative ones are long. And nothing asks
//! for hundreds of megabytes: an offset is small, or too large to be allowed.

use crate::support::Random;

/// Words that belong nowhere.
const ODD: &[&[u8]] = &[
    b"",
    b" ",
    b"0",
    b"-0",
    b"1",
    b"-1",
    b"+1",
    b"01",
    b" 1",
    b"1 ",
    b"1.0",
    b"1e3",
    b"0x10",
    b"nan",
    b"inf",
    b"-inf",
    b"+INF",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"2147483648",
    b"99999999999999999999999999999999",
    b"\xff\xfe\x00\x01",
    b"caf\xc3\xa9",
    b"a\r\nb",
    b"NX",
    b"XX",
    b"COUNT",
    b"LIMIT",
    b"#",
    b"(",
    b"[",
    b"-",
    b"+",
    b"$",
    b"WITHSCORES",
];

const INTS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "-7",
    "10",
    "100",
    "12345",
    "-128",
    "127",
    "128",
    "32767",
    "32768",
    "-32769",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775800",
];

const FLOATS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "0.1",
    "0.2",
    "3.0",
    "3.14159265358979",
    "-2.5",
    "1e10",
    "1.5e-7",
    "123456789012345678",
    "1e17",
    "1e21",
    "1.7976931348623157e308",
    "inf",
    "-inf",
    "+inf",
    "nan",
    "0x1p3",
    ".5",
    "5.",
    "1e",
    "",
];

const OPTIONS: &[&str] = &[
    "NX",
    "XX",
    "GT",
    "LT",
    "CH",
    "INCR",
    "GET",
    "KEEPTTL",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "PERSIST",
    "COUNT",
    "LIMIT",
    "MATCH",
    "TYPE",
    "BYSCORE",
    "BYLEX",
    "REV",
    "WITHSCORES",
    "WITHVALUES",
    "STORE",
    "STOREDIST",
    "ASC",
    "DESC",
    "ANY",
    "ALPHA",
    "BY",
    "WEIGHTS",
    "AGGREGATE",
    "REPLACE",
    "ABSTTL",
    "IDLETIME",
    "FREQ",
    "BYTE",
    "BIT",
    "OVERFLOW",
    "SAT",
    "LEFT",
    "RIGHT",
    "BEFORE",
    "AFTER",
    "RANK",
    "MAXLEN",
    "MINID",
    "NOMKSTREAM",
    "BLOCK",
    "NOACK",
    "GROUP",
    "FORCE",
    "JUSTID",
    "LASTID",
    "MKSTREAM",
    "ENTRIESREAD",
    "IDLE",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "WITHMATCHLEN",
];

/// An option's name where none belongs, perhaps misspelt.
pub fn option(random: &mut Random) -> Vec<u8> {
    let mut option = random.pick(OPTIONS).as_bytes().to_vec();
    match random.below(4) {
        0 => option.push(b'X'),
        1 => option.make_ascii_lowercase(),
        _ => {}
    }
    option
}

pub fn odd(random: &mut Random) -> Vec<u8> {
    random.pick(ODD).to_vec()
}

/// A word of the kind that a form asks for, in a command of this family.
pub fn draw(slot: &str, family: &str, random: &mut Random) -> Vec<u8> {
    // Keys are odd less often: an odd one is rarely met again.
    let odd_one_in = if slot == "key" { 60 } else { 25 };
    let is_time = ["rel", "relms", "ahead", "aheadms", "badttl", "near", "newid"].contains(&slot);
    if !is_time && random.one_in(odd_one_in) {
        return odd(random);
    }
    let text = |text: &str| text.as_bytes().to_vec();
    let one_of = |words: &[&str], random: &mut Random| random.pick(words).as_bytes().to_vec();
    let number = |from: i64, to: i64, random: &mut Random| {
        (from + random.below((to - from + 1) as usize) as i64).to_string().into_bytes()
    };
    match slot {
        "key" => key(family, random),
        "value" => value(random),
        "int" => match random.below(3) {
            0 => one_of(INTS, random),
            _ => number(-20, 100, random),
        },
        "float" | "score" => match random.below(3) {
            0 => number(-5, 20, random),
            1 => format!("{}.{}", random.below(30), random.below(1000)).into_bytes(),
            _ => one_of(FLOATS, random),
        },
        "field" => number(0, 30, random).into_iter().fold(text("f"), |mut field, byte| {
            field.push(byte);
            field
        }),
        "member" | "element" => match random.below(12) {
            0..6 => format!("m{}", random.below(24)).into_bytes(),
            6..10 => number(-20, 40, random),
            10 => one_of(INTS, random),
            _ => value(random),
        },
        "intmember" => match random.below(8) {
            0 => one_of(INTS, random),
            _ => number(-10, 30, random),
        },
        "same" => one_of(&["a", "b", "c", "ab", "abc", "aa", "b1"], random),
        "near" => number(-8, 12, random),
        "index" => match random.below(9) {
            0 => one_of(INTS, random),
            _ => number(-8, 12, random),
        },
        "count" => match random.below(9) {
            0 => one_of(INTS, random),
            _ => number(-3, 8, random),
        },
        "randcount" => match random.below(9) {
            0 => one_of(&["9223372036854775807", "-9223372036854775808", "x"], random),
            _ => number(-5, 9, random),
        },
        "positive" => number(1, 9, random),
        "zero" => text("0"),
        "offset" => match random.below(10) {
            0 => one_of(
                &["-1", "536870912", "4294967296", "9223372036854775807", "9223372036854775800"],
                random,
            ),
            1 => number(0, 5000, random),
            _ => number(0, 40, random),
        },
        "bitoffset" => match random.below(10) {
            0 => one_of(&["-1", "4294967296", "9223372036854775807", "#4294967296", "#-1"], random),
            1 => number(0, 20_000, random),
            2..5 => format!("#{}", random.below(20)).into_bytes(),
            _ => number(0, 100, random),
        },
        "plainbitoffset" => match random.below(10) {
            0 => one_of(&["-1", "4294967296", "9223372036854775807"], random),
            1 => number(0, 20_000, random),
            _ => number(0, 100, random),
        },
        "bit" => number(0, 1, random),
        "width" => match random.below(8) {
            0 => one_of(&["u64", "i65", "u0", "i0", "x8", "u", "i64", "u63"], random),
            1..4 => format!("u{}", 1 + random.below(63)).into_bytes(),
            _ => format!("i{}", 1 + random.below(64)).into_bytes(),
        },
        "rel" => one_of(&["1000", "5000", "90000", "300000"], random),
        "relms" => one_of(&["1000000", "5000000", "90000000"], random),
        "at" => one_of(
            &["4102444800", "4202444800", "5102444800", "9999999999", "1", "0", "-5", "1000000000"],
            random,
        ),
        "atms" => one_of(
            &["4102444800123", "4202444800001", "9102444800999", "1", "0", "-5", "1000000000000"],
            random,
        ),
        "ahead" => one_of(&["4102444800", "4202444800", "5102444800", "9999999999"], random),
        "aheadms" => one_of(&["4102444800123", "4202444800001", "9102444800999"], random),
        "badttl" => one_of(
            &[
                "0",
                "-1",
                "-7",
                "x",
                "",
                "1.5",
                "9223372036854775807",
                "-9223372036854775808",
                "9223372036854775",
            ],
            random,
        ),
        "pattern" => one_of(
            &[
                "*", "?*", "s?", "[a-m]*", "h*", "*1", "m*", "f1?", "[^x]*", "\\*", "", "x[", "*[1-3]", "l1",
                "**1*",
            ],
            random,
        ),
        "type" => one_of(&["string", "list", "hash", "set", "zset", "stream", "nothing"], random),
        "min" => bound(&["-inf", "(1", "0", "(0", "2", "-5", "(3.5", "1"], random),
        "max" => bound(&["+inf", "10", "(10", "inf", "5", "(2", "100", "20"], random),
        "lexmin" => one_of(&["-", "[m1", "(m1", "[", "(5", "[a", "m", "+", "[m2"], random),
        "lexmax" => one_of(&["+", "[m5", "(m9", "[z", "-", "(", "[m3"], random),
        "lon" => match random.below(8) {
            0 => one_of(&["180", "-180", "181", "-180.1", "nan", "1e3"], random),
            1 => format!("-{}.{}", random.below(180), random.below(100_000)).into_bytes(),
            _ => format!("13.{}", 300 + random.below(500)).into_bytes(),
        },
        "lat" => match random.below(8) {
            0 => one_of(&["85.05112878", "-85.05112878", "86", "-90", "inf"], random),
            1 => format!("-{}.{}", random.below(85), random.below(100_000)).into_bytes(),
            _ => format!("52.{}", 300 + random.below(400)).into_bytes(),
        },
        "radius" => match random.below(9) {
            0 => one_of(&["0", "-1", "1e300", "inf"], random),
            1 => number(1000, 30_000, random),
            _ => number(1, 90, random),
        },
        "unit" => one_of(&["m", "km", "km", "km", "ft", "mi", "KM", "yd"], random),
        "group" => one_of(&["g1", "g2", "g3"], random),
        "consumer" => one_of(&["c1", "c2", "c3", ""], random),
        "newid" => new_id(random),
        "id" => match random.below(8) {
            0 => one_of(
                &["0", "0-0", "0-1", "18446744073709551615-18446744073709551615", "5-", "-5", "1-1-1"],
                random,
            ),
            1 => number(0, 60, random),
            _ => format!("{}-{}", random.below(60), random.below(4)).into_bytes(),
        },
        "start" => match random.below(4) {
            0 => text("-"),
            1 => format!("({}-{}", random.below(60), random.below(4)).into_bytes(),
            _ => draw("id", family, random),
        },
        "end" => match random.below(4) {
            0 | 1 => text("+"),
            2 => format!("({}-{}", random.below(60), random.below(4)).into_bytes(),
            _ => draw("id", family, random),
        },
        "db" => one_of(&["0", "1", "2", "0", "0", "1", "15", "16", "-1"], random),
        "message" => one_of(&["hello", "", "\u{e9}t\u{e9}"], random),
        "limit" => one_of(&["1", "4", "8", "128"], random),
        "listsize" => one_of(&["2", "5", "-1", "-2", "128"], random),
        other => panic!("a form asks for {other}, and nobody knows what that is"),
    }
}

/// The keys of a family are mostly its own four.
fn key(family: &str, random: &mut Random) -> Vec<u8> {
    const INITIALS: &[&str] = &["s", "b", "p", "l", "h", "S", "z", "x", "g"];
    // Other sorted sets than these have other scores.
    if family == "lexical" {
        let initial = if random.one_in(20) { "l" } else { "y" };
        return format!("{initial}{}", 1 + random.below(3)).into_bytes();
    }
    let own = match family {
        "string" | "lcs" => "s",
        "bitmap" => "b",
        "hyperloglog" => "p",
        "list" => "l",
        "hash" => "h",
        "set" => "S",
        "zset" => "z",
        "stream" => "x",
        "geo" => "g",
        _ => random.pick(INITIALS),
    };
    let mut initial = if random.one_in(12) { *random.pick(INITIALS) } else { own };
    // Who reads a HyperLogLog that was tampered with may read a byte that is not there.
    if initial == "p" && matches!(family, "string" | "bitmap") {
        initial = own;
    }
    format!("{initial}{}", 1 + random.below(4)).into_bytes()
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(24) {
        0..8 => format!("v{}", random.below(20)).into_bytes(),
        8..12 => random.pick(INTS).as_bytes().to_vec(),
        12 => random.pick(FLOATS).as_bytes().to_vec(),
        13 => odd(random),
        14 => vec![b'x'; 44],
        15 => vec![b'y'; 45],
        16 => vec![b'z'; 64],
        17 => vec![b'w'; 65],
        18 => (0..random.below(300)).map(|_| random.next() as u8).collect(),
        19 => b"ohmytextnewtextmy".repeat(1 + random.below(4)),
        20 if random.one_in(6) => b"abcde".repeat(random.below(400)),
        _ => random.below(200).to_string().into_bytes(),
    }
}

fn bound(usual: &[&str], random: &mut Random) -> Vec<u8> {
    match random.below(3) {
        0 => (random.below(25) as i64 - 5).to_string().into_bytes(),
        _ => random.pick(usual).as_bytes().to_vec(),
    }
}

/// Ids that mostly grow, as those of a stream's entries have to.
fn new_id(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => format!("{}-*", random.below(60)).into_bytes(),
        1 => format!("{}", random.below(60)).into_bytes(),
        _ => {
            let tick = random.tick();
            format!("{}-{}", tick / 4 + 1, tick % 4).into_bytes()
        }
    }
}
