//! The report on the terminal: a line for each row as soon as it is measured, the summary at the end.

use super::{Goal, Row, means};
use crate::measure::Spread;
use crate::server::Peer;

/// Prints a row, and where a new group begins a heading, with the time of the run so far. The best of the peers, with
/// which ours is compared, has a star.
pub fn print_row(row: &Row, peers: &[Peer], before: Option<&Row>, seconds: u64) {
    if before.is_none_or(|before| before.group != row.group) {
        println!("\n{} (after {seconds} s)", row.group);
        print!("  {:40} {:>9}", "", "ours");
        peers.iter().for_each(|peer| print!(" {:>13}", peer.name));
        println!(" {:>9}           {:17}  floor   throughput", "floor", "ours/best");
    }
    print!("  {:40} {:>9}", row.name, row.ours.map_or("-".to_owned(), amount));
    for at in 0..peers.len() {
        let figure = row.peers.get(at).copied().flatten().map_or("-".to_owned(), amount);
        let star = if row.best == Some(at) { "*" } else { "" };
        print!(" {:>13}", format!("{star}{figure}"));
    }
    print!(" {:>9} {:8}", row.floor.map_or("-".to_owned(), amount), row.unit);
    print!("  {:17}", row.ratio.map_or("-".to_owned(), spread));
    let floor = row.floor.zip(row.real()).map(|(floor, real)| format!("{:.2}", floor / real));
    print!("  {:5}", floor.unwrap_or_default());
    if let Some(throughput) = row.throughput {
        print!("  {:.2}x", throughput.median);
    }
    match row.goal {
        Some(Goal::Bytes(target)) => print!("  target {target}"),
        Some(Goal::AtMost(target)) => print!("  target {target:.2} or less"),
        Some(Goal::AtLeast(target)) => print!("  target {target:.2} or more"),
        _ => {}
    }
    if let Some(absent) = &row.absent {
        print!("  {absent}");
    }
    println!();
}

/// A figure of three digits or more where it has them.
fn amount(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn spread(spread: Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max)
}

/// Prints the means beside what they are to be, and every point where ours is the worse one.
pub fn print_summary(rows: &[Row]) {
    println!("\nours / the best peer of each point, geometric means");
    for mean in means(rows) {
        let value = mean.value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let verdict = match mean.value {
            Some(value) if value > mean.target => "missed",
            Some(_) => "met",
            None => "",
        };
        println!(
            "  {:60} {value:>5}   target {:.2}  {verdict:6}  ({} points)",
            mean.name, mean.target, mean.points
        );
    }
    let bytes = |row: &&Row| matches!(row.goal, Some(Goal::Bytes(_))) && row.ours.is_some();
    let over =
        |row: &&Row| matches!((row.goal, row.ours), (Some(Goal::Bytes(target)), Some(ours)) if ours > target);
    let (all, missed) = (rows.iter().filter(bytes).count(), rows.iter().filter(over).count());
    println!(
        "  {:60} {:>5}   of {all} rows within their bytes",
        "memory per element and per idle client",
        all - missed
    );
    for row in rows.iter().filter(over) {
        if let (Some(Goal::Bytes(target)), Some(ours)) = (row.goal, row.ours) {
            println!("    over its bytes: {}: {ours:.1}, target {target}", row.name);
        }
    }
    for row in rows.iter().filter(|row| matches!(row.goal, Some(Goal::AtMost(_) | Goal::AtLeast(_)))) {
        let (Some(kept), Some(ratio)) = (row.keeps_its_promise(), row.ratio) else { continue };
        let verdict = if kept { "met" } else { "missed" };
        println!("  {:60} {:>5.2}   {verdict}", format!("{} / {}", row.group, row.name), ratio.median);
    }
    let mut worse: Vec<&Row> = rows
        .iter()
        .filter(|row| !row.more_is_better() && row.ratio.is_some_and(|ratio| ratio.median >= 1.005))
        .collect();
    worse.sort_by(|a, b| {
        let ratio = |row: &Row| row.ratio.map_or(0.0, |ratio| ratio.median);
        ratio(b).total_cmp(&ratio(a))
    });
    println!("\nsingle points worse than 1.0: {}", worse.len());
    for row in worse {
        if let Some(ratio) = row.ratio {
            let doubt = if ratio.min < 1.0 { "  (1.0 is within its spread)" } else { "" };
            println!("  {:18} {} / {}{doubt}", spread(ratio), row.group, row.name);
        }
    }
    let absent: Vec<&Row> = rows.iter().filter(|row| row.absent.is_some()).collect();
    println!("\nabsent points: {}", absent.len());
    for row in absent {
        println!("  {} / {}: {}", row.group, row.name, row.absent.as_deref().unwrap_or_default());
    }
}
