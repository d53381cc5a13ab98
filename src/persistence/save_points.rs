//! Save points: when a data set that has changed is saved by itself.

use crate::config::SavePoint;

/// Seconds to wait after a failed save before a save point tries again.
pub const RETRY_SECS: i64 = 5;

/// The save point that asks for a save, if one does, so many changes and seconds after the last save.
pub fn due(points: &[SavePoint], changes: u64, elapsed_secs: i64) -> Option<SavePoint> {
    let due = |point: &&SavePoint| changes >= point.changes && elapsed_secs > point.seconds as i64;
    points.iter().find(due).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_save_point_that_is_reached_asks_for_a_save() {
        let points =
            [(900, 1), (300, 10), (60, 10_000)].map(|(seconds, changes)| SavePoint { seconds, changes });
        assert_eq!(due(&points, 0, 10_000), None);
        assert_eq!(due(&points, 1, 900), None);
        assert_eq!(due(&points, 1, 901), Some(points[0]));
        assert_eq!(due(&points, 10, 301), Some(points[1]));
        assert_eq!(due(&points, 20_000, 61), Some(points[2]));
        assert_eq!(due(&[], 20_000, 10_000), None);
    }
}
