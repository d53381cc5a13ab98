//! `--latency-dist`: the times of PING as a spectrum, a line every second: one character for each range of times, on a
//! background that is the brighter the more of the samples were in that range.

use super::call_patiently;
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use std::time::{Duration, Instant};

const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);

/// The legend is repeated after so many lines.
const LINES_PER_LEGEND: u64 = 20;

/// The longest time of each range in microseconds, and its character. What is longer than all is the last one's.
const RANGES: [(u128, char); 31] = [
    (10, '.'),
    (125, '-'),
    (250, '*'),
    (500, '#'),
    (1_000, '1'),
    (2_000, '2'),
    (3_000, '3'),
    (4_000, '4'),
    (5_000, '5'),
    (6_000, '6'),
    (7_000, '7'),
    (8_000, '8'),
    (9_000, '9'),
    (10_000, 'A'),
    (20_000, 'B'),
    (30_000, 'C'),
    (40_000, 'D'),
    (50_000, 'E'),
    (100_000, 'F'),
    (200_000, 'G'),
    (300_000, 'H'),
    (400_000, 'I'),
    (500_000, 'J'),
    (1_000_000, 'K'),
    (2_000_000, 'L'),
    (4_000_000, 'M'),
    (8_000_000, 'N'),
    (16_000_000, 'O'),
    (30_000_000, 'P'),
    (60_000_000, 'Q'),
    (u128::MAX, '?'),
];

/// From none to all of the samples, in the terminal's 256 colours.
const COLOURS: [u8; 19] =
    [0, 233, 234, 235, 237, 239, 241, 243, 245, 247, 144, 143, 142, 184, 226, 214, 208, 202, 196];
const GREYS: [u8; 13] = [0, 233, 234, 235, 237, 239, 241, 243, 245, 247, 249, 251, 253];

pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    let palette: &[u8] = if options.mono { &GREYS } else { &COLOURS };
    let interval = if options.interval.is_zero() { Duration::from_secs(1) } else { options.interval };
    let mut counts = [0u64; RANGES.len()];
    let mut since = Instant::now();
    let mut lines = 0;
    loop {
        let start = Instant::now();
        call_patiently(session, &["PING"])?;
        counts[range_of(start.elapsed())] += 1;
        if since.elapsed() > interval {
            if lines % LINES_PER_LEGEND == 0 {
                print(legend(palette));
            }
            lines += 1;
            print(spectrum(&counts, palette));
            counts.fill(0);
            since = Instant::now();
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}

fn range_of(took: Duration) -> usize {
    RANGES.iter().position(|(longest, _)| took.as_micros() <= *longest).unwrap_or(RANGES.len() - 1)
}

/// Black characters on their colours.
fn spectrum(counts: &[u64; RANGES.len()], palette: &[u8]) -> String {
    let all = counts.iter().sum::<u64>().max(1);
    let brightest = palette.len() as u64 - 1;
    let mut line = "\x1b[38;5;0m".to_string();
    for (count, (_, character)) in counts.iter().zip(RANGES) {
        let colour = palette[(count * brightest).div_ceil(all) as usize];
        line.push_str(&format!("\x1b[48;5;{colour}m{character}"));
    }
    line + "\x1b[0m\n"
}

fn legend(palette: &[u8]) -> String {
    let scale: String = palette.iter().map(|colour| format!("\x1b[48;5;{colour}m ")).collect();
    format!(
        "---------------------------------------------\n\
         . - * #          .01 .125 .25 .5 milliseconds\n\
         1,2,3,...,9      from 1 to 9     milliseconds\n\
         A,B,C,D,E        10,20,30,40,50  milliseconds\n\
         F,G,H,I,J        .1,.2,.3,.4,.5       seconds\n\
         K,L,M,N,O,P,Q,?  1,2,4,8,16,30,60,>60 seconds\n\
         From 0 to 100%: {scale}\x1b[0m\n\
         ---------------------------------------------\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_character_for_each_range_in_the_colour_of_its_share() {
        assert_eq!(range_of(Duration::from_micros(10)), 0);
        assert_eq!(range_of(Duration::from_micros(11)), 1);
        assert_eq!(range_of(Duration::from_secs(61)), RANGES.len() - 1);
        let mut counts = [0; RANGES.len()];
        (counts[0], counts[1]) = (99, 1);
        let line = spectrum(&counts, &COLOURS);
        assert!(line.starts_with("\x1b[38;5;0m\x1b[48;5;196m.\x1b[48;5;233m-\x1b[48;5;0m*"), "{line:?}");
        assert!(line.ends_with("\x1b[48;5;0m?\x1b[0m\n"), "{line:?}");
    }
}
