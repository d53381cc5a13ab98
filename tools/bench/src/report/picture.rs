//! The ratios as a picture: horizontal bars with a line at 1.0, where the real server stands, as an SVG file.
//!
//! Two columns of groups. Operations that were measured at several pipelines are one entry with a bar for each. The
//! colours follow the reader's choice of light or dark, and the words beside the bars say all that the bars say.

use std::fmt::Write;

use super::{Row, Setting};

const WIDTH: f64 = 1040.0;
const COLUMN: f64 = 520.0;
/// Where the bars begin in a column, and how long one of ratio 1.0 is.
const BARS: f64 = 258.0;
const ONE: f64 = 140.0;
/// Longer bars are cut off here.
const LONGEST: f64 = 1.45;
const TOP: f64 = 92.0;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.h{font-weight:600;font-size:13px}.t{font-weight:600;font-size:17px}\
.s,.v{fill:#59636e;font-size:11px}.e{text-anchor:end}.p1{fill:#9ec5fe}.p16{fill:#4b8df0}.p100{fill:#1b56b3}\
.b{fill:#4b8df0}.w{fill:#d9730d}.l{stroke:#1f2328;stroke-width:1;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s,.v{fill:#9aa4af}.l{stroke:#e6edf3}.bg{fill:#0d1117}\
.p1{fill:#9ec5fe}.p16{fill:#5b9bf5}.p100{fill:#2f6fd0}.b{fill:#5b9bf5}.w{fill:#f0883e}}.bg{fill:#fff}";

/// An operation or a point: its name, and a bar for each pipeline.
struct Entry<'a> {
    name: String,
    bars: Vec<(&'static str, &'a Row)>,
}

struct Group<'a> {
    name: &'a str,
    entries: Vec<Entry<'a>>,
}

impl Group<'_> {
    fn height(&self) -> f64 {
        36.0 + self.entries.iter().map(Entry::height).sum::<f64>()
    }
}

impl Entry<'_> {
    fn height(&self) -> f64 {
        self.bars.len() as f64 * 11.0 + 6.0
    }
}

pub fn picture(setting: &Setting, rows: &[Row]) -> String {
    let groups = groups(rows);
    // The left column takes groups until it holds half of all.
    let all: f64 = groups.iter().map(Group::height).sum();
    let mut columns: [(f64, String); 2] = [(TOP, String::new()), (TOP, String::new())];
    let mut side = 0;
    for group in &groups {
        if side == 0 && columns[0].0 > TOP && columns[0].0 - TOP + group.height() / 2.0 > all / 2.0 {
            side = 1;
        }
        let (y, out) = &mut columns[side];
        draw(out, side as f64 * COLUMN, *y, group);
        *y += group.height();
    }
    let height = columns[0].0.max(columns[1].0) + 12.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n<style>{STYLE}</style>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n"
    );
    let real = setting.peers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    text(&mut out, 16.0, 28.0, "t", "redis-rs beside the best of others: shorter is better, the line is 1.0");
    text(
        &mut out,
        16.0,
        48.0,
        "s",
        &format!("the best, point by point, of {real}; {}; {}", setting.machine, setting.date),
    );
    for (at, (class, name)) in
        [("p1", "one at a time"), ("p16", "pipelines of 16"), ("p100", "pipelines of 100")]
            .into_iter()
            .enumerate()
    {
        let x = 16.0 + at as f64 * 130.0;
        let _ = writeln!(out, "<rect class=\"{class}\" x=\"{x}\" y=\"60\" width=\"12\" height=\"9\"/>");
        text(&mut out, x + 18.0, 69.0, "s", name);
    }
    let _ = writeln!(out, "<rect class=\"w\" x=\"406\" y=\"60\" width=\"12\" height=\"9\"/>");
    text(&mut out, 424.0, 69.0, "s", "ours needs more");
    out + &columns[0].1 + &columns[1].1 + "</svg>\n"
}

/// The rows that have a ratio to show. Percentiles stay in the table.
fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        if [", p50", ", p99", ", p99.9"].iter().any(|end| row.name.ends_with(end)) {
            continue;
        }
        let (name, class) = match row.name.rsplit_once(", pipeline ") {
            Some((name, "1")) => (name, "p1"),
            Some((name, "16")) => (name, "p16"),
            Some((name, "100")) => (name, "p100"),
            _ => (row.name.as_str(), "b"),
        };
        // Of the times of waiting only stalls are left, and a long name would run over the edge.
        let name = name.trim_end_matches(", longest stall");
        if groups.last().is_none_or(|group| group.name != row.group) {
            groups.push(Group { name: &row.group, entries: Vec::new() });
        }
        let Some(group) = groups.last_mut() else { continue };
        match group.entries.last_mut() {
            Some(entry) if entry.name == name => entry.bars.push((class, row)),
            _ => group.entries.push(Entry { name: name.to_owned(), bars: vec![(class, row)] }),
        }
    }
    groups
}

fn draw(out: &mut String, x: f64, y: f64, group: &Group) {
    let stalls = if group.name == "waiting" { ": longest stall" } else { "" };
    text(out, x + 16.0, y + 20.0, "h", &format!("{}{stalls}", group.name));
    let (start, mut y) = (x + BARS, y + 30.0);
    let top = y;
    for entry in &group.entries {
        let middle = y + (entry.height() - 6.0) / 2.0 + 4.0;
        text(out, start - 8.0, middle, "e", &entry.name);
        for (class, row) in &entry.bars {
            match row.ratio.map(|ratio| ratio.median).filter(|ratio| ratio.is_finite()) {
                Some(ratio) => {
                    let length = ratio.min(LONGEST) * ONE;
                    let class = if ratio >= 1.005 { "w" } else { class };
                    let _ = writeln!(
                        out,
                        "<rect class=\"{class}\" x=\"{start}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"9\"/>"
                    );
                    text(out, start + length + 5.0, y + 8.5, "v", &format!("{ratio:.2}"));
                }
                None => text(out, start + 5.0, y + 8.5, "v", "absent"),
            }
            y += 11.0;
        }
        y += 6.0;
    }
    let line = start + ONE;
    let _ =
        writeln!(out, "<line class=\"l\" x1=\"{line}\" x2=\"{line}\" y1=\"{top}\" y2=\"{:.1}\"/>", y - 4.0);
}

fn text(out: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Spread;

    #[test]
    fn pipelines_of_an_operation_are_bars_of_one_entry() {
        let row = |name: &str, ratio| {
            let mut row = Row::new("group", name, "ns", None);
            row.ratio = Spread::of(&[ratio]);
            row
        };
        let rows = [
            row("GET, pipeline 1", 0.9),
            row("GET, pipeline 16", 1.2),
            row("idle, p99", 3.0),
            row("SAVE", 0.5),
        ];
        let groups = groups(&rows);
        assert_eq!(groups.len(), 1);
        let names: Vec<(&str, usize)> =
            groups[0].entries.iter().map(|entry| (entry.name.as_str(), entry.bars.len())).collect();
        assert_eq!(names, [("GET", 2), ("SAVE", 1)]);
    }
}
