//! `help`, `help <command>`, `help @<group>`: the server's words about its commands, printed.

use crate::docs::{Catalog, Entry};
use crate::terminal::print;
use crate::usage;

pub fn show(catalog: &Catalog, topic: &[Vec<u8>]) {
    match topic {
        [] => print(generic()),
        [group, ..] if group.starts_with(b"@") => {
            let entries = catalog.entries.iter();
            let members = entries.filter(|entry| entry.group.as_bytes().eq_ignore_ascii_case(&group[1..]));
            print(members.map(|entry| about(entry, false)).collect::<String>() + "\r\n");
        }
        words => {
            let begins = |entry: &&Entry| {
                words.len() <= entry.words.len()
                    && entry.words.iter().zip(words).all(|(a, b)| a.as_bytes().eq_ignore_ascii_case(b))
            };
            let entries = catalog.entries.iter().filter(begins);
            print(entries.map(|entry| about(entry, true)).collect::<String>() + "\r\n");
        }
    }
}

fn about(entry: &Entry, with_group: bool) -> String {
    let mut text = format!("\r\n  \x1b[1m{}\x1b[0m \x1b[90m{}\x1b[0m\r\n", entry.name(), entry.params);
    text.push_str(&format!("  \x1b[33msummary:\x1b[0m {}\r\n", entry.summary));
    if let Some(since) = &entry.since {
        text.push_str(&format!("  \x1b[33msince:\x1b[0m {since}\r\n"));
    }
    if with_group {
        text.push_str(&format!("  \x1b[33mgroup:\x1b[0m {}\r\n", entry.group));
    }
    text
}

fn generic() -> String {
    format!(
        "redis-cli {}\n\
         To get help about Redis commands type:\n\
         \x20     \"help @<group>\" to get a list of commands in <group>\n\
         \x20     \"help <command>\" for help on <command>\n\
         \x20     \"help <tab>\" to get a list of possible help topics\n\
         \x20     \"quit\" to exit\n\
         \n\
         To set redis-cli preferences:\n\
         \x20     \":set hints\" enable online hints\n\
         \x20     \":set nohints\" disable online hints\n\
         Set your preferences in ~/.redisclirc\n",
        usage::version()
    )
}
