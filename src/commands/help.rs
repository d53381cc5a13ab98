//! The form in which the HELP subcommand of a container replies.

use crate::protocol::Reply;

/// Writes the help of `container` (in capitals): a headline, the given lines, and a word on HELP itself.
pub(super) fn write(reply: &mut Reply, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}
