//! The grey text behind the cursor: which arguments a half-typed command still takes. The words typed so far are
//! matched against the server's description of the arguments; what is not matched yet is the hint.

use crate::docs::{Argument, Catalog, Kind};
use crate::words::split;

/// The hint for a line, or `None` when it begins with no known command. A word counts once a blank follows it.
pub fn for_line(catalog: &Catalog, line: &[u8]) -> Option<String> {
    let words = split(line)?;
    let is_word_done = line.last().is_some_and(u8::is_ascii_whitespace);
    let typed = &words[..if is_word_done { words.len() } else { words.len().saturating_sub(1) }];
    let entry = catalog.find(typed)?;
    let typed = &typed[entry.words.len()..];
    Some(match &entry.arguments {
        Some(arguments) => for_arguments(arguments, typed),
        None if typed.is_empty() => entry.params.clone(),
        None => String::new(),
    })
}

/// The hint for arguments of which some words have been typed; empty when these words do not fit.
pub fn for_arguments(arguments: &[Argument], typed: &[Vec<u8>]) -> String {
    let mut list = Progress::list(arguments);
    let mut hint = String::new();
    if match_list(&mut list, typed) == typed.len() {
        show_list(&mut list, " ", &mut hint);
    }
    hint
}

/// How far an argument has been typed.
struct Progress<'a> {
    argument: &'a Argument,
    /// Words that belong to it, 0 while it has not begun.
    matched: usize,
    has_token: bool,
    has_name: bool,
    is_complete: bool,
    parts: Vec<Progress<'a>>,
}

impl<'a> Progress<'a> {
    fn new(argument: &'a Argument) -> Progress<'a> {
        Progress {
            argument,
            matched: 0,
            has_token: false,
            has_name: false,
            is_complete: false,
            parts: Progress::list(&argument.parts),
        }
    }

    fn list(arguments: &'a [Argument]) -> Vec<Progress<'a>> {
        arguments.iter().map(Progress::new).collect()
    }

    fn restart(&mut self) {
        *self = Progress::new(self.argument);
    }

    fn is_begun(&self) -> bool {
        self.matched > 0
    }

    /// Takes words for this argument, as many times as it may repeat. Returns how many it took.
    fn take(&mut self, words: &[Vec<u8>]) -> usize {
        let mut taken = self.take_once(words);
        if !self.argument.multiple {
            return taken;
        }
        while self.is_complete && taken < words.len() {
            self.restart();
            let rest = &words[taken..];
            if self.argument.token.is_some() && !self.argument.repeats_token {
                // The token stood before the first repetition only.
                taken += self.take_body(rest);
                self.has_token = self.is_begun();
            } else {
                taken += self.take_once(rest);
            }
        }
        // Another repetition may follow.
        self.is_complete = false;
        taken
    }

    fn take_once(&mut self, words: &[Vec<u8>]) -> usize {
        let Some(token) = &self.argument.token else { return self.take_body(words) };
        if !words[0].eq_ignore_ascii_case(token.as_bytes()) {
            return 0;
        }
        self.has_token = true;
        self.matched = 1;
        if self.argument.kind == Kind::Token {
            self.is_complete = true;
            return 1;
        }
        match &words[1..] {
            [] => 1,
            rest => self.take_body(rest),
        }
    }

    /// Takes words for what follows the token. Returns how many the argument has in all.
    fn take_body(&mut self, words: &[Vec<u8>]) -> usize {
        let fits = match self.argument.kind {
            Kind::Block => {
                self.matched += match_list(&mut self.parts, words);
                self.is_complete = self.parts.iter().all(|part| part.is_complete);
                return self.matched;
            }
            Kind::OneOf => {
                if let Some(choice) =
                    self.parts.iter_mut().find_map(|part| (part.take(words) > 0).then_some(part))
                {
                    self.matched += choice.matched;
                    self.is_complete = choice.is_complete;
                }
                return self.matched;
            }
            Kind::Integer => begins_like_number(&words[0], false),
            Kind::Double => begins_like_number(&words[0], true),
            Kind::Word | Kind::Token => true,
        };
        if fits {
            self.matched += 1;
            self.has_name = true;
            self.is_complete = true;
        } else {
            self.matched = 0;
            self.has_name = false;
        }
        self.matched
    }

    fn show(&mut self, hint: &mut String) {
        if self.is_complete {
            return;
        }
        let argument = self.argument;
        let is_bracketed = argument.optional && !self.is_begun();
        if is_bracketed {
            hint.push('[');
        }
        if let Some(token) = &argument.token
            && !self.has_token
        {
            push_word(hint, token);
            if argument.kind != Kind::Token {
                hint.push(' ');
            }
        }
        match argument.kind {
            Kind::OneOf if self.is_begun() => {
                self.parts.iter_mut().filter(|part| part.is_begun()).for_each(|part| part.show(hint));
            }
            Kind::OneOf => show_list(&mut self.parts, "|", hint),
            Kind::Block => show_list(&mut self.parts, " ", hint),
            Kind::Token => {}
            _ if self.has_name => {}
            _ => push_word(hint, argument.display.as_ref().unwrap_or(&argument.name)),
        }
        if argument.multiple {
            self.show_repetition(hint);
        }
        // One bracket too many for a repeatable option that has begun: the hints of redis-cli have it, and its test
        // suite expects it.
        if is_bracketed || (argument.optional && argument.multiple) {
            hint.push(']');
        }
    }

    /// ` [token name ...]`: always whole, whatever of it has been typed already.
    fn show_repetition(&self, hint: &mut String) {
        let argument = self.argument;
        if !hint.is_empty() {
            hint.push(' ');
        }
        hint.push('[');
        if argument.repeats_token {
            push_word(hint, argument.token.as_deref().unwrap_or_default());
            if argument.kind != Kind::Token {
                hint.push(' ');
            }
        }
        let mut parts = Progress::list(&argument.parts);
        match argument.kind {
            Kind::OneOf => show_list(&mut parts, "|", hint),
            Kind::Block => show_list(&mut parts, " ", hint),
            Kind::Token => {}
            _ => push_word(hint, argument.display.as_ref().unwrap_or(&argument.name)),
        }
        hint.push_str(" ...]");
    }
}

/// Takes words for arguments in their order; optional ones that stand together may come in any order. 0 when a
/// required one does not fit.
fn match_list(list: &mut [Progress], words: &[Vec<u8>]) -> usize {
    let (mut taken, mut at) = (0, 0);
    while taken < words.len() && at < list.len() {
        let rest = &words[taken..];
        let optional = list[at..].iter().take_while(|progress| progress.argument.optional).count();
        if optional > 0 {
            taken += match_optional(&mut list[at..at + optional], rest);
            at += optional;
            continue;
        }
        match list[at].take(rest) {
            0 => return 0,
            count => taken += count,
        }
        at += 1;
    }
    taken
}

fn match_optional(list: &mut [Progress], words: &[Vec<u8>]) -> usize {
    let mut taken = 0;
    let mut previous: Option<usize> = None;
    while taken < words.len() {
        let rest = &words[taken..];
        let found =
            (0..list.len()).filter(|at| !list[*at].is_begun()).collect::<Vec<_>>().into_iter().find_map(
                |at| match list[at].take(rest) {
                    0 => None,
                    count => Some((at, count)),
                },
            );
        let Some((at, count)) = found else { break };
        // Now that another has begun, the one before it is done.
        if let Some(previous) = previous.replace(at) {
            list[previous].is_complete = true;
        }
        taken += count;
    }
    taken
}

fn show_list(list: &mut [Progress], separator: &str, hint: &mut String) {
    let last = list.len().saturating_sub(1);
    let mut length = hint.len();
    let mut show = |progress: &mut Progress, is_last: bool, hint: &mut String| {
        progress.show(hint);
        if hint.len() > length && !is_last {
            hint.push_str(separator);
            length = hint.len();
        }
    };
    let mut at = 0;
    while at < list.len() {
        let optional = list[at..].iter().take_while(|progress| progress.argument.optional).count();
        if optional == 0 {
            show(&mut list[at], at == last, hint);
            at += 1;
            continue;
        }
        // The one that is being typed comes first; the others of the group may follow, unless what comes after the
        // group has begun.
        let end = at + optional;
        let mut unfinished = None;
        for (i, progress) in list[at..end].iter_mut().enumerate() {
            if progress.is_begun() && !progress.is_complete {
                show(progress, at == last, hint);
                unfinished = Some(at + i);
            }
        }
        if list.get(end).is_none_or(|next| !next.is_begun()) {
            for i in (at..end).filter(|i| Some(*i) != unfinished) {
                show(&mut list[i], i == last, hint);
            }
        }
        at = end;
    }
}

fn push_word(hint: &mut String, word: &str) {
    hint.push_str(if word.is_empty() { "\"\"" } else { word });
}

fn begins_like_number(word: &[u8], may_have_fraction: bool) -> bool {
    let word = word.trim_ascii_start();
    let word = word.strip_prefix(b"-").or(word.strip_prefix(b"+")).unwrap_or(word);
    let lower = word.to_ascii_lowercase();
    match word {
        [b'0'..=b'9', ..] => true,
        [b'.', b'0'..=b'9', ..] => may_have_fraction,
        _ => may_have_fraction && (lower.starts_with(b"inf") || lower.starts_with(b"nan")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(name: &str) -> Argument {
        Argument { name: name.to_string(), ..Argument::default() }
    }

    fn option(token: &str, name: &str) -> Argument {
        Argument { token: Some(token.to_string()), optional: true, ..word(name) }
    }

    fn hint(arguments: &[Argument], typed: &str) -> String {
        for_arguments(arguments, &split(typed.as_bytes()).unwrap()).trim_end().to_string()
    }

    #[test]
    fn typed_words_leave_the_hint() {
        let scan = [
            word("cursor"),
            option("MATCH", "pattern"),
            Argument { kind: Kind::Integer, ..option("COUNT", "count") },
        ];
        assert_eq!(hint(&scan, ""), "cursor [MATCH pattern] [COUNT count]");
        assert_eq!(hint(&scan, "0"), "[MATCH pattern] [COUNT count]");
        assert_eq!(hint(&scan, "0 count"), "count [MATCH pattern]");
        assert_eq!(hint(&scan, "0 count 5"), "[MATCH pattern]");
        assert_eq!(hint(&scan, "0 count five"), "");
    }

    #[test]
    fn our_own_table_gives_hints_without_a_server() {
        let catalog = Catalog { entries: crate::table::entries(), ..Catalog::default() };
        let hint = |line: &str| for_line(&catalog, line.as_bytes()).map(|hint| hint.trim_end().to_owned());
        assert_eq!(hint("set key value ex ").as_deref(), Some("seconds [NX|XX] [GET]"));
        assert_eq!(hint("config set a ").as_deref(), Some("value [parameter value ...]"));
        assert_eq!(hint("EVAL script ").as_deref(), Some("numkeys [key [key ...]] [arg [arg ...]]"));
        assert_eq!(hint("nothing "), None);
    }

    #[test]
    fn repetitions_stay() {
        let mget = [Argument { multiple: true, ..word("key") }];
        assert_eq!(hint(&mget, ""), "key [key ...]");
        assert_eq!(hint(&mget, "a b"), "[key ...]");
        let mset = [Argument {
            kind: Kind::Block,
            multiple: true,
            parts: vec![word("key"), word("value")],
            ..word("data")
        }];
        assert_eq!(hint(&mset, ""), "key value [key value ...]");
        assert_eq!(hint(&mset, "k"), "value [key value ...]");
        assert_eq!(hint(&mset, "k v k2"), "value [key value ...]");
    }

    #[test]
    fn choices_show_all_until_one_is_taken() {
        let token = |name: &str| Argument { kind: Kind::Token, token: Some(name.to_string()), ..word(name) };
        let condition = Argument {
            kind: Kind::OneOf,
            optional: true,
            parts: vec![token("NX"), token("XX")],
            ..word("condition")
        };
        let set = [word("key"), condition];
        assert_eq!(hint(&set, "k"), "[NX|XX]");
        assert_eq!(hint(&set, "k xx"), "");
    }
}
