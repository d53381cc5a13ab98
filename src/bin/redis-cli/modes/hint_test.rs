//! `--test_hint`, `--test_hint_file`: the hints as text, so that tests need no terminal. A line of the file has two
//! quoted strings: what was typed, and the hint for it.

use super::give_up;
use crate::docs::Catalog;
use crate::hints;
use crate::session::{Session, Stop};
use crate::terminal::{error_text, print};
use crate::words::split;
use std::path::Path;

pub fn one(session: &mut Session, line: &[u8]) -> Result<(), Stop> {
    let catalog = Catalog::load(session);
    print(hints::for_line(&catalog, line).unwrap_or_default() + "\n");
    Ok(())
}

pub fn file(session: &mut Session, path: &Path, verbose: bool) -> Result<(), Stop> {
    let text = std::fs::read(path)
        .map_err(|error| give_up(format!("Can't open file '{}': {}", path.display(), error_text(&error))))?;
    let catalog = Catalog::load(session);
    let (mut passed, mut failed) = (0, 0u8);
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")) {
        let words = split(line).unwrap_or_default();
        let text = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word));
        let (input, expected) = match (text(0), text(1)) {
            (None, _) => continue,
            (Some(input), Some(expected)) => (input, expected),
            (Some(input), None) => {
                return Err(give_up(format!("Missing expected hint for input '{input}'")));
            }
        };
        let hint = hints::for_line(&catalog, input.as_bytes());
        let shown = hint.as_deref().unwrap_or("(null)");
        if verbose {
            print(format!("Input: '{input}', Expected: '{expected}', Hint: '{shown}'\n"));
        }
        if hint.as_deref().map(|hint| hint.trim_end_matches(' ')) == Some(&expected) {
            passed += 1;
        } else {
            eprintln!("Test case '{input}' FAILED: expected '{expected}', got '{shown}'");
            failed = failed.saturating_add(1);
        }
    }
    let verdict = if failed == 0 { "SUCCESS" } else { "FAILURE" };
    print(format!("{verdict}: {passed}/{} passed\n", passed + u32::from(failed)));
    if failed == 0 { Ok(()) } else { Err(Stop::Exit(failed)) }
}
