//! The report as JSON, written by hand: it is a list of flat objects.

use super::{Goal, Row, Setting, means};
use crate::measure::Spread;

pub fn json(setting: &Setting, rows: &[Row]) -> String {
    let mut out = String::from("{\n");
    for (name, value) in [("date", &setting.date), ("machine", &setting.machine), ("ours", &setting.ours)] {
        out += &format!(" {}: {},\n", text(name), text(value));
    }
    let peers = setting.peers.iter().map(|(name, version)| format!("{}: {}", text(name), text(version)));
    out += &format!(" \"peers\": {{{}}},\n", peers.collect::<Vec<_>>().join(", "));
    out += &format!(" \"load_average\": {}, \"quick\": {},\n", setting.load_average, setting.quick);
    out += " \"summary\": [\n";
    let summary: Vec<String> = means(rows)
        .iter()
        .map(|mean| {
            format!(
                "  {{\"what\": {}, \"mean\": {}, \"target\": {}, \"points\": {}}}",
                text(mean.name),
                number(mean.value),
                mean.target,
                mean.points
            )
        })
        .collect();
    out += &summary.join(",\n");
    out += "\n ],\n \"rows\": [\n";
    let rows: Vec<String> = rows.iter().map(|row| line(setting, row)).collect();
    out += &rows.join(",\n");
    out += "\n ]\n}\n";
    out
}

fn line(setting: &Setting, row: &Row) -> String {
    let target = match row.goal {
        Some(Goal::Bytes(target)) => Some(target),
        _ => None,
    };
    format!(
        "  {{\"group\": {}, \"name\": {}, \"unit\": {}, \"ours\": {}, \"peers\": [{}], \"best\": {}, \"floor\": {}, {}, {}, \
         \"target\": {}, \"absent\": {}}}",
        text(&row.group),
        text(&row.name),
        text(row.unit),
        number(row.ours),
        row.peers.iter().map(|figure| number(*figure)).collect::<Vec<_>>().join(", "),
        row.best.map_or("null".to_owned(), |best| text(&setting.peers[best].0)),
        number(row.floor),
        spread("ratio", row.ratio),
        spread("throughput", row.throughput),
        number(target),
        row.absent.as_deref().map_or("null".to_owned(), text)
    )
}

fn spread(name: &str, spread: Option<Spread>) -> String {
    format!(
        "\"{name}\": {}, \"{name}_min\": {}, \"{name}_max\": {}",
        number(spread.map(|spread| spread.median)),
        number(spread.map(|spread| spread.min)),
        number(spread.map(|spread| spread.max))
    )
}

fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.4}"),
        _ => "null".to_owned(),
    }
}

fn text(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_and_numbers_are_never_more_than_json_knows() {
        assert_eq!(text("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
        assert_eq!(number(Some(f64::NAN)), "null");
        assert_eq!(number(Some(0.5)), "0.5000");
    }
}
