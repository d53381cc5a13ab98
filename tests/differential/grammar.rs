//! The forms of commands as text, and commands made of them at random.
//!
//! A form reads like the synopsis of a command. Words in capitals (and digits) stand for themselves, words in small
//! letters for something of that kind, drawn by `words::draw`.
//!
//! ```text
//! [a b]       perhaps
//! (a|b c)     one of these
//! {a b}       once or several times
//! @a          once or several times, and the number of times before it
//! 'a          this very word, in small letters
//! ```

use super::words;
use crate::support::Random;

pub type Words = Vec<Vec<u8>>;

enum Node {
    Literal(&'static str),
    Slot(&'static str),
    Maybe(Vec<Node>),
    OneOf(Vec<Vec<Node>>),
    Several(Vec<Node>),
    Counted(&'static str),
}

/// One form, read.
pub struct Form {
    pub family: &'static str,
    /// Whether servers before 7.2 do not know it.
    pub is_new: bool,
    nodes: Vec<Node>,
}

impl Form {
    pub fn read(family: &'static str, text: &'static str) -> Form {
        let (is_new, text) = match text.strip_prefix("7.2 ") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let mut tokens = tokens(text).into_iter().peekable();
        let mut branches = sequence(&mut tokens, text);
        assert!(tokens.next().is_none() && branches.len() == 1, "{text}: brackets do not match");
        Form { family, is_new, nodes: branches.remove(0) }
    }

    /// The name of the command.
    pub fn name(&self) -> &'static str {
        match self.nodes[0] {
            Node::Literal(name) => name,
            _ => panic!("a form begins with the name of its command"),
        }
    }

    /// A command of this form.
    pub fn draw(&self, random: &mut Random) -> Words {
        let mut words = Words::new();
        expand(&self.nodes, self.family, random, &mut words);
        words
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<&'static str>>;

fn tokens(text: &'static str) -> Vec<&'static str> {
    const MARKS: &[char] = &['[', ']', '(', ')', '{', '}', '|'];
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let end = if rest.starts_with(MARKS) { 1 } else { rest.find(MARKS).unwrap_or(rest.len()) };
            found.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
    found
}

/// Reads alternatives up to a closing bracket, which it leaves.
fn sequence(tokens: &mut Tokens, text: &'static str) -> Vec<Vec<Node>> {
    let mut branches = vec![Vec::new()];
    while let Some(&token) = tokens.peek() {
        if matches!(token, "]" | ")" | "}") {
            break;
        }
        tokens.next();
        let mut inside = |close: &str| {
            let branches = sequence(tokens, text);
            assert_eq!(tokens.next(), Some(close), "{text}: brackets do not match");
            branches
        };
        let node = match token {
            "[" => match <[Vec<Node>; 1]>::try_from(inside("]")) {
                Ok([nodes]) => Node::Maybe(nodes),
                Err(branches) => Node::Maybe(vec![Node::OneOf(branches)]),
            },
            "(" => Node::OneOf(inside(")")),
            "{" => Node::Several(inside("}").remove(0)),
            "|" => {
                branches.push(Vec::new());
                continue;
            }
            word => match word.split_at(1) {
                ("@", slot) => Node::Counted(slot),
                ("'", literal) => Node::Literal(literal),
                (first, _) if first.as_bytes()[0].is_ascii_lowercase() => Node::Slot(word),
                _ => Node::Literal(word),
            },
        };
        branches.last_mut().expect("there is one").push(node);
    }
    branches
}

fn expand(nodes: &[Node], family: &str, random: &mut Random, words: &mut Words) {
    for node in nodes {
        match node {
            Node::Literal(word) => words.push(word.as_bytes().to_vec()),
            Node::Slot(slot) => words.push(words::draw(slot, family, random)),
            Node::Maybe(inner) => {
                if random.one_in(3) {
                    expand(inner, family, random, words);
                }
            }
            Node::OneOf(branches) => {
                let branch = random.below(branches.len());
                expand(&branches[branch], family, random, words);
            }
            Node::Several(inner) => {
                (0..times(random)).for_each(|_| expand(inner, family, random, words));
            }
            Node::Counted(slot) => {
                let times = times(random);
                words.push(times.to_string().into_bytes());
                words.extend((0..times).map(|_| words::draw(slot, family, random)));
            }
        }
    }
}

/// Mostly few, now and then many.
fn times(random: &mut Random) -> usize {
    match random.below(30) {
        0 => 5 + random.below(12),
        n => 1 + n % 3,
    }
}
