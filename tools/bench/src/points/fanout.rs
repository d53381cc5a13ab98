//! One to many: what a subscriber of a busy channel costs, and a client that waits in a queue for its element.

use super::Bench;
use crate::Result;
use crate::load::Template;
use crate::machine;
use crate::measure::{Point, Receivers, measure};
use crate::report::Goal;
use crate::server::Server;

const GROUP: &str = "CPU per receiver";

pub fn receivers(bench: &mut Bench) -> Result<()> {
    // The load needs a descriptor for each, and some more.
    let room = machine::raise_open_files().saturating_sub(500) as usize;
    let subscribers = if bench.plan.quick { 1000 } else { 10_000 }.min(room);
    let nothing = |_: &Server, _| Ok(());
    let publish = Template::new("PUBLISH channel {x16}");
    let push = Template::new("LPUSH queue {x16}");
    let points = [
        Point {
            group: GROUP,
            name: format!("PUBLISH to {subscribers} subscribers"),
            template: &publish,
            pipeline: 1,
            clients: 1,
            receivers: Receivers::Subscribers(subscribers, 16),
            per: subscribers as f64,
            unit: "ns",
            goal: Some(Goal::Receiver),
            before: nothing,
        },
        Point {
            group: GROUP,
            name: "LPUSH to 1000 clients in BLPOP".to_owned(),
            template: &push,
            pipeline: 16,
            clients: 4,
            receivers: Receivers::Blocked(1000),
            per: 1.0,
            unit: "ns",
            goal: Some(Goal::Receiver),
            before: nothing,
        },
    ];
    for point in points {
        if bench.wants(GROUP, &point.name) {
            let servers = bench.start_sides()?;
            let result = measure(&bench.plan, &servers, &point);
            bench.report_or_failed(GROUP, &point.name, result);
        }
    }
    Ok(())
}
