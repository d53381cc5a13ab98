//! The same pseudo-random commands to ours and to a real server: every reply, every notification and in the end every key
//! has to be the same.
//!
//! `generate` makes streams of steps out of the forms of all commands (`forms`, read by `grammar`, filled in by `words`);
//! `play` sends them to both and compares by the rules of `compare`; what 7.2 means to do otherwise than 7.0 stands in
//! `known`. A difference that is not known fails the test, with the shortest stream that shows it (`shrink`).
//!
//! The peer is Debian's redis-server, or the program that REDIS_RS_PEER names; against a 7.2 only what newer
//! servers have mended may differ.
//! `make differential` plays more: REDIS_RS_SEEDS (numbers) and REDIS_RS_COMMANDS (how many for each) say how much.

mod acl;
mod compare;
mod forms;
mod generate;
mod grammar;
mod introspection;
mod known;
mod play;
mod reply;
mod scripts;
mod shrink;
mod words;

use std::fmt::Write as _;
use std::time::Instant;

use generate::Step;
use play::Pair;

/// Steps between one beginning with empty databases and the next.
const ROUND: usize = 1500;

/// Plays so many commands for each seed, and fails with all differences found, at most so many.
fn play(seeds: &[u64], commands: usize, enough: usize) {
    let mut pair = Pair::start();
    let generator = pair.generator();
    let mut found = Vec::<(String, String)>::new();
    'all: for &seed in seeds {
        let begin = Instant::now();
        for round in 0..commands.div_ceil(ROUND) {
            let round_seed = seed.wrapping_mul(1_000_003).wrapping_add(round as u64);
            let steps = generator.stream(round_seed, ROUND.min(commands - round * ROUND));
            if let Err(first) = pair.play(&steps) {
                let about = first.what.split(' ').next().unwrap_or_default().to_ascii_uppercase();
                if found.iter().filter(|(seen, _)| *seen == about).count() < 2 {
                    let report = explain(&mut pair, seed, round, &steps, &first);
                    println!("{report}");
                    found.push((about, report));
                }
                if found.len() >= enough {
                    break 'all;
                }
            }
        }
        println!("seed {seed}: {commands} commands in {:.1?}", begin.elapsed());
    }
    for (name, (times, why)) in &pair.met {
        println!("known difference, {times} times: {name} ({why})");
    }
    let reports: Vec<&str> = found.iter().map(|(_, report)| report.as_str()).collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), reports.join("\n"));
}

fn explain(pair: &mut Pair, seed: u64, round: usize, steps: &[Step], first: &play::Difference) -> String {
    let mut text = format!("--- seed {seed}, round {round}, step {}\n", first.step);
    let (steps, difference, how) = match shrink::shrink(pair, steps, first) {
        Some((steps, difference)) => (steps, difference, "these commands repeat it:"),
        None => {
            let end = steps.len().min(first.step + 1);
            let tail = steps[end.saturating_sub(20)..end].to_vec();
            let same = play::Difference {
                step: first.step,
                what: first.what.clone(),
                ours: first.ours.clone(),
                theirs: first.theirs.clone(),
            };
            (tail, same, "it does not show again; the last commands were:")
        }
    };
    let _ = writeln!(text, "{how}");
    steps.iter().flat_map(Step::lines).for_each(|line| {
        let _ = writeln!(text, "    {line:.600}");
    });
    let cut = |said: &str, len: usize| said.chars().take(len).collect::<String>();
    let (ours, theirs) = (cut(&difference.ours, 3000), cut(&difference.theirs, 3000));
    let _ = write!(text, "{}\nours:   {ours}\ntheirs: {theirs}\n", cut(&difference.what, 600));
    text
}

#[test]
fn commands_at_random_do_what_they_do_in_a_real_server() {
    play(&[1, 2, 3, 4], 6000, 2);
}

/// The numbers in an environment variable.
fn numbers(name: &str) -> Vec<u64> {
    let text = std::env::var(name).unwrap_or_default();
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{name}: {word:?} is no number"));
    text.split([' ', ',']).filter(|word| !word.is_empty()).map(number).collect()
}

#[test]
#[ignore = "takes minutes: make differential"]
fn very_many_commands_do_what_they_do_in_a_real_server() {
    let seeds = match numbers("REDIS_RS_SEEDS") {
        seeds if seeds.is_empty() => vec![11, 12, 13],
        seeds => seeds,
    };
    let commands = numbers("REDIS_RS_COMMANDS").first().map_or(200_000, |&commands| commands as usize);
    play(&seeds, commands, 12);
}
