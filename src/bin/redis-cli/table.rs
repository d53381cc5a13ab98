//! Our own table of the commands of Redis 7.2, for when no server tells of its commands: `commands.txt`, a line for each,
//! whose columns are parted by tabs: name, group, since, arguments, summary. `redis-cli --test_table` writes the table
//! that a server tells; a test compares the two.
//!
//! Arguments are written so that a person can read them:
//!
//! ```text
//! key                 a word            "LIMIT"{offset# count#}   a token before an argument
//! count#  timeout%    an integer, a double    [..]                optional
//! "NX"                a token           key...                    once or more often
//! <"NX"|"XX">         one of these      "GET"name+...             the same, each time with its token
//! {key value}         a block
//! ```

use crate::docs::{Argument, Catalog, Entry, Kind};

const TEXT: &str = include_str!("commands.txt");

/// Characters that end a name, or stand for something behind it.
const SPECIAL: &[u8] = b"\" []<>{}|#%+.";

/// All of the table.
pub fn entries() -> Vec<Entry> {
    TEXT.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let [name, group, since, arguments, summary] = line.split('\t').collect::<Vec<_>>()[..] else {
        return None;
    };
    let arguments = Reader { rest: arguments }.list(' ')?;
    Some(Entry {
        words: name.split(' ').map(str::to_owned).collect(),
        summary: summary.to_owned(),
        since: Some(since.to_owned()),
        group: group.to_owned(),
        params: crate::hints::for_arguments(&arguments, &[]),
        arguments: Some(arguments),
    })
}

/// The table of a catalog, as text.
pub fn write(catalog: &Catalog) -> String {
    let mut text = String::new();
    for entry in &catalog.entries {
        let since = entry.since.as_deref().unwrap_or_default();
        let arguments = list(entry.arguments.as_deref().unwrap_or_default(), " ");
        let line = [&entry.name(), entry.group.as_str(), since, &arguments, &entry.summary].join("\t");
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn list(arguments: &[Argument], separator: &str) -> String {
    arguments.iter().map(written).collect::<Vec<_>>().join(separator)
}

fn written(argument: &Argument) -> String {
    let name = argument.display.as_ref().unwrap_or(&argument.name);
    let token = argument.token.as_ref().map_or(String::new(), |token| format!("\"{token}\""));
    let body = match argument.kind {
        Kind::Word => name.clone(),
        Kind::Integer => format!("{name}#"),
        Kind::Double => format!("{name}%"),
        Kind::Token => String::new(),
        Kind::OneOf => format!("<{}>", list(&argument.parts, "|")),
        Kind::Block => format!("{{{}}}", list(&argument.parts, " ")),
    };
    let repeated = match (argument.multiple, argument.repeats_token) {
        (false, _) => "",
        (true, false) => "...",
        (true, true) => "+...",
    };
    match argument.optional {
        true => format!("[{token}{body}{repeated}]"),
        false => format!("{token}{body}{repeated}"),
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, text: &str) -> bool {
        let behind = self.rest.strip_prefix(text);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    /// Arguments parted by this character, up to the end or to what closes the list.
    fn list(&mut self, separator: char) -> Option<Vec<Argument>> {
        let mut arguments = Vec::new();
        if !self.rest.is_empty() {
            arguments.push(self.argument()?);
        }
        while let Some(behind) = self.rest.strip_prefix(separator) {
            self.rest = behind;
            arguments.push(self.argument()?);
        }
        Some(arguments)
    }

    fn argument(&mut self) -> Option<Argument> {
        let mut argument = Argument { optional: self.skip("["), ..Argument::default() };
        if self.skip("\"") {
            let (token, behind) = self.rest.split_once('"')?;
            argument.token = Some(token.to_owned());
            self.rest = behind;
        }
        (argument.kind, argument.parts) = if self.skip("<") {
            (Kind::OneOf, self.list('|').filter(|_| self.skip(">"))?)
        } else if self.skip("{") {
            (Kind::Block, self.list(' ').filter(|_| self.skip("}"))?)
        } else {
            let end = self.rest.bytes().position(|byte| SPECIAL.contains(&byte)).unwrap_or(self.rest.len());
            let (name, behind) = self.rest.split_at(end);
            argument.name = name.to_owned();
            self.rest = behind;
            let kind = match (name.is_empty(), self.skip("#"), self.skip("%")) {
                (true, ..) => argument.token.as_ref().map(|_| Kind::Token)?,
                (_, true, _) => Kind::Integer,
                (_, _, true) => Kind::Double,
                _ => Kind::Word,
            };
            (kind, Vec::new())
        };
        argument.repeats_token = self.skip("+");
        argument.multiple = self.skip("...");
        (!argument.optional || self.skip("]")).then_some(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood_and_written_as_it_stands() {
        let entries = entries();
        assert_eq!(entries.len(), TEXT.lines().count());
        assert_eq!(write(&Catalog { entries, ..Catalog::default() }), TEXT);
        assert!(TEXT.lines().is_sorted());
    }
}
