//! Places on earth as numbers of 52 bits, such that what is near in space is mostly near in numbers.
//!
//! The world is halved 26 times in each direction; the bits of latitude and longitude are interleaved, longitude first.
//! A cell of a coarser grid is then one range of numbers, and a search around a point looks at the cell of the point and
//! the eight around it, on the finest grid where these nine cover what is sought.
//!
//! ```text
//!   51  50  49  48   …   1   0
//!   x25 y25 x24 y24      x0  y0       x: longitude -180 … 180    y: latitude -85.05112878 … 85.05112878
//! ```
//!
//! The numbers are scores that clients see, and which cells are visited in which order decides on replies: grid, cells
//! and the order of arithmetic are those of Redis. Nothing here knows where the points are kept.

use std::ops::Range;

/// Beyond these latitudes, those of the Mercator maps (EPSG:3857), nothing has a place.
pub const LATITUDE_MAX: f64 = 85.05112878;
pub const LONGITUDE_MAX: f64 = 180.0;

/// Halvings of the finest grid.
const STEPS: u32 = 26;
const EARTH_RADIUS_M: f64 = 6_372_797.560856;
/// Half the length of the equator on the map from which grids are chosen.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

const X_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const Y_BITS: u64 = 0x5555_5555_5555_5555;

/// A point, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

impl Point {
    /// Whether the point is on the map. Nothing else may be encoded or searched around.
    pub fn is_valid(self) -> bool {
        (-LONGITUDE_MAX..=LONGITUDE_MAX).contains(&self.longitude)
            && (-LATITUDE_MAX..=LATITUDE_MAX).contains(&self.latitude)
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (std::f64::consts::PI / 180.0)
}

fn degrees(radians: f64) -> f64 {
    radians / (std::f64::consts::PI / 180.0)
}

// ---- numbers and cells

/// Spreads the bits of a number over the even bits of another.
fn spread(bits: u32) -> u64 {
    let mut x = u64::from(bits);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & Y_BITS
}

/// Collects the even bits of a number.
fn gather(bits: u64) -> u32 {
    let mut x = bits & Y_BITS;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// A cell of the grid of so many halvings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    steps: u32,
}

/// What a cell covers, in degrees.
struct Extent {
    longitude: Range<f64>,
    latitude: Range<f64>,
}

impl Cell {
    fn of(point: Point, steps: u32, latitude_max: f64) -> Self {
        let cells = (1u64 << steps) as f64;
        let x = (point.longitude + LONGITUDE_MAX) / (LONGITUDE_MAX + LONGITUDE_MAX) * cells;
        let y = (point.latitude + latitude_max) / (latitude_max + latitude_max) * cells;
        Cell { bits: spread(x as u32) << 1 | spread(y as u32), steps }
    }

    fn extent(self) -> Extent {
        let cells = (1u64 << self.steps) as f64;
        let side = |i: u32, max: f64| {
            let at = |i: u32| -max + f64::from(i) / cells * (max + max);
            at(i)..at(i.wrapping_add(1))
        };
        Extent {
            longitude: side(gather(self.bits >> 1), LONGITUDE_MAX),
            latitude: side(gather(self.bits), LATITUDE_MAX),
        }
    }

    /// The cell so many cells to the east and to the north (0, 1 or -1). The grid ends where it begins, in either
    /// direction.
    fn moved(self, east: i64, north: i64) -> Self {
        // Bits of the other direction are set before adding, so that a carry runs through them. A direction in which
        // nothing moves keeps even the bit beyond the grid that points on its very edge have.
        let step = |along: u64, across: u64, by: i64| {
            let all = u64::MAX >> (64 - 2 * self.steps);
            let unmoved = self.bits & along;
            let (along, across) = (along & all, across & all);
            let bits = self.bits & along;
            let unit = along & along.wrapping_neg();
            match by {
                0 => unmoved,
                1 => (bits | across).wrapping_add(unit) & along,
                _ => bits.wrapping_sub(unit) & along,
            }
        };
        Cell { bits: step(X_BITS, Y_BITS, east) | step(Y_BITS, X_BITS, north), steps: self.steps }
    }

    /// The numbers of all points in it.
    fn numbers(self) -> Range<u64> {
        let shift = 2 * (STEPS - self.steps);
        self.bits << shift..(self.bits + 1) << shift
    }
}

/// The number of a point on the map.
pub fn encode(point: Point) -> u64 {
    Cell::of(point, STEPS, LATITUDE_MAX).bits
}

/// The middle of the cell that a score means. Any score means some cell, also one that was never made here.
pub fn decode(score: f64) -> Point {
    let Extent { longitude, latitude } = Cell { bits: number_of(score), steps: STEPS }.extent();
    Point {
        longitude: ((longitude.start + longitude.end) / 2.0).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
        latitude: ((latitude.start + latitude.end) / 2.0).clamp(-LATITUDE_MAX, LATITUDE_MAX),
    }
}

/// The integer in a score. Those out of range come out as the real server's processor converts them.
fn number_of(score: f64) -> u64 {
    const BEYOND: f64 = 18_446_744_073_709_551_616.0;
    if score < 0.0 {
        score as i64 as u64
    } else if score < BEYOND {
        score as u64
    } else {
        0
    }
}

/// The point of a score as a standard geohash of 11 characters. Those count latitudes from -90 to 90, and 52 bits make
/// ten characters and two bits; the last character is always `0`.
pub fn text(score: f64) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = Cell::of(decode(score), STEPS, 90.0).bits;
    let mut text = [b'0'; 11];
    for (i, character) in text[..10].iter_mut().enumerate() {
        *character = ALPHABET[(bits >> (52 - 5 * (i + 1))) as usize & 31];
    }
    text
}

// ---- distances

/// The distance of two points in metres, on a sphere (haversine).
pub fn distance_m(a: Point, b: Point) -> f64 {
    let v = ((radians(b.longitude) - radians(a.longitude)) / 2.0).sin();
    if v == 0.0 {
        return latitude_distance_m(a.latitude, b.latitude);
    }
    let (latitude_a, latitude_b) = (radians(a.latitude), radians(b.latitude));
    let u = ((latitude_b - latitude_a) / 2.0).sin();
    let h = u * u + latitude_a.cos() * latitude_b.cos() * v * v;
    2.0 * EARTH_RADIUS_M * h.sqrt().asin()
}

fn latitude_distance_m(a: f64, b: f64) -> f64 {
    EARTH_RADIUS_M * (radians(b) - radians(a)).abs()
}

// ---- searches

/// What is searched around a point, in units of the caller's.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Circle {
        radius: f64,
    },
    Box {
        width: f64,
        height: f64,
    },
    /// Its corners, in order; they lie on a plane of degrees, so that no side goes over the end of the map.
    Polygon(Vec<Point>),
}

/// The middle of points on a sphere: that of their vectors.
pub fn middle(points: &[Point]) -> Point {
    let mut sum = [0.0; 3];
    for point in points {
        let (longitude, latitude) = (radians(point.longitude), radians(point.latitude));
        let vector = [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()];
        sum.iter_mut().zip(vector).for_each(|(sum, part)| *sum += part);
    }
    let [x, y, z] = sum.map(|sum| sum / points.len() as f64);
    Point { longitude: degrees(y.atan2(x)), latitude: degrees(z.atan2((x * x + y * y).sqrt())) }
}

/// Whether a point is within a polygon: whether a ray from it to the east goes through an odd number of sides.
fn is_within(point: Point, corners: &[Point]) -> bool {
    let mut inside = false;
    let mut before = corners[corners.len() - 1];
    for &corner in corners {
        let spans = (corner.latitude > point.latitude) != (before.latitude > point.latitude);
        if spans {
            let slope = (before.longitude - corner.longitude) / (before.latitude - corner.latitude);
            inside ^= point.longitude < slope * (point.latitude - corner.latitude) + corner.longitude;
        }
        before = corner;
    }
    inside
}

/// An area to search.
#[derive(Clone, Debug)]
pub struct Area {
    pub center: Point,
    pub shape: Shape,
    /// Metres in one unit of the shape.
    pub unit_m: f64,
}

/// The rectangle of degrees around points.
fn around(points: &[Point]) -> Extent {
    let range = |of: fn(&Point) -> f64| {
        let at = points.iter().map(of);
        at.clone().fold(f64::INFINITY, f64::min)..at.fold(f64::NEG_INFINITY, f64::max)
    };
    Extent { longitude: range(|point| point.longitude), latitude: range(|point| point.latitude) }
}

impl Area {
    /// The distance in metres of a point that is within the area.
    pub fn distance_within_m(&self, point: Point) -> Option<f64> {
        match self.shape {
            Shape::Polygon(ref corners) => is_within(point, corners).then(|| distance_m(self.center, point)),
            Shape::Circle { radius } => {
                let distance = distance_m(self.center, point);
                // Between antipodes rounding may leave no number at all: those count as near.
                if distance > radius * self.unit_m { None } else { Some(distance) }
            }
            // The distances along the two axes decide, the one to the north first, since it is cheap.
            Shape::Box { width, height } => {
                let north = latitude_distance_m(point.latitude, self.center.latitude);
                if north > height * self.unit_m / 2.0 {
                    return None;
                }
                let level = Point { longitude: self.center.longitude, latitude: point.latitude };
                let east = distance_m(point, level);
                if east > width * self.unit_m / 2.0 { None } else { Some(distance_m(self.center, point)) }
            }
        }
    }

    /// From the center to the farthest point, in metres.
    fn reach_m(&self) -> f64 {
        let reach = match self.shape {
            Shape::Polygon(ref corners) => {
                return corners.iter().map(|&corner| distance_m(self.center, corner)).fold(0.0, f64::max);
            }
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        };
        reach * self.unit_m
    }

    /// A rectangle of degrees around the area. Degrees of longitude are counted at the side nearer to the pole, where
    /// most of them go into a metre.
    fn bounds(&self) -> Extent {
        let Point { longitude, latitude } = self.center;
        let (east, north) = match self.shape {
            Shape::Polygon(ref corners) => return around(corners),
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let (east, north) = (self.unit_m * east, self.unit_m * north);
        let latitude_delta = degrees(north / EARTH_RADIUS_M);
        let polar = if latitude < 0.0 { latitude - latitude_delta } else { latitude + latitude_delta };
        let longitude_delta = degrees(east / EARTH_RADIUS_M / radians(polar).cos());
        Extent {
            longitude: longitude - longitude_delta..longitude + longitude_delta,
            latitude: latitude - latitude_delta..latitude + latitude_delta,
        }
    }

    /// The halvings of a grid on which nine cells most likely cover the area.
    fn steps(&self) -> u32 {
        let mut reach = self.reach_m();
        if reach == 0.0 {
            return STEPS;
        }
        let mut steps = 1;
        while reach < MERCATOR_MAX_M {
            reach *= 2.0;
            steps += 1;
        }
        // Two less, so that it is enough in most cases; and less yet near the poles, where cells are narrow.
        steps -= 2;
        let latitude = self.center.latitude.abs();
        if latitude > 66.0 {
            steps -= 1;
            if latitude > 80.0 {
                steps -= 1;
            }
        }
        steps.clamp(1, STEPS as i32) as u32
    }

    /// The ranges of numbers in which all points within the area are, in the order in which they are to be visited.
    /// On the coarsest grids the same cell may come twice.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        // The middle of a polygon around a pole may lie beyond the map.
        let latitude = self.center.latitude.clamp(-LATITUDE_MAX, LATITUDE_MAX);
        let center = Point { latitude, ..self.center };
        debug_assert!(center.is_valid());
        let bounds = self.bounds();
        let mut cell = Cell::of(center, self.steps(), LATITUDE_MAX);
        // Written this way round, bounds that are no numbers are as good as covered.
        let uncovered = cell.moved(0, 1).extent().latitude.end < bounds.latitude.end
            || cell.moved(0, -1).extent().latitude.start > bounds.latitude.start
            || cell.moved(1, 0).extent().longitude.end < bounds.longitude.end
            || cell.moved(-1, 0).extent().longitude.start > bounds.longitude.start;
        if cell.steps > 1 && uncovered {
            cell = Cell::of(center, cell.steps - 1, LATITUDE_MAX);
        }

        // Neighbours on sides where the area does not reach beyond the cell itself are left out.
        let here = cell.extent();
        let choose = cell.steps >= 2;
        let no_south = choose && here.latitude.start < bounds.latitude.start;
        let no_north = choose && here.latitude.end > bounds.latitude.end;
        let no_west = choose && here.longitude.start < bounds.longitude.start;
        let no_east = choose && here.longitude.end > bounds.longitude.end;

        const ORDER: [(i64, i64); 9] =
            [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let mut visited: Vec<(usize, Cell)> = Vec::with_capacity(ORDER.len());
        for (i, (east, north)) in ORDER.into_iter().enumerate() {
            let left_out = match (east, north) {
                (_, -1) if no_south => true,
                (_, 1) if no_north => true,
                (-1, _) if no_west => true,
                (1, _) if no_east => true,
                _ => false,
            };
            let neighbour = cell.moved(east, north);
            // A neighbour to both sides is visited once. Only the center is not looked back at.
            let repeated = visited.last().is_some_and(|&(before, cell)| before > 0 && cell == neighbour);
            if !left_out && !repeated {
                visited.push((i, neighbour));
            }
        }
        visited.into_iter().map(|(_, cell)| cell.numbers()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Points all over the world, many of them close together, at the poles, and where east and west meet: the same as
    /// those that a real server was asked about.
    struct Draw(u64);

    impl Draw {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            self.0 >> 33
        }

        fn point(&mut self) -> Point {
            let kind = self.next() % 4;
            let mut longitude = ((self.next() % 360_000_001) as f64 - 180_000_000.0) / 1e6;
            let mut latitude = ((self.next() % 170_102_257) as f64 - 85_051_128.0) / 1e6;
            match kind {
                1 => (longitude, latitude) = (longitude / 1e4 + 13.361389, latitude / 1e4 + 38.115556),
                2 => {
                    let east = self.next() % 2 == 1;
                    let off = longitude.abs() / 1e3;
                    longitude = if east { 180.0 - off } else { -180.0 + off };
                }
                3 => {
                    let north = self.next() % 2 == 1;
                    let off = latitude.abs() / 1e3;
                    latitude = if north { 85.05112 - off } else { -85.05112 + off };
                }
                _ => {}
            }
            Point { longitude, latitude }
        }
    }

    /// As GEOPOS prints coordinates.
    fn coordinates(point: Point) -> String {
        let digits = |x: f64| format!("{x:.17}").trim_end_matches('0').trim_end_matches('.').to_string();
        format!("{} {}", digits(point.longitude), digits(point.latitude))
    }

    /// As GEODIST prints distances.
    fn four_digits(distance: f64) -> String {
        let scaled = (distance * 1e4).round_ties_even() as u64;
        format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
    }

    fn hash_text(score: f64) -> String {
        String::from_utf8(text(score).to_vec()).unwrap()
    }

    #[test]
    fn numbers_hashes_positions_and_distances_are_those_of_a_real_server() {
        let mut draw = Draw(1);
        let numbers: Vec<u64> = (0..5000).map(|_| encode(draw.point())).collect();
        let (mut hashes, mut positions, mut distances) = (String::new(), String::new(), String::new());
        for (i, &number) in numbers.iter().enumerate() {
            hashes += &format!("{number} {}\n", hash_text(number as f64));
            positions += &format!("{}\n", coordinates(decode(number as f64)));
            if let Some(&next) = numbers.get(i + 1) {
                distances += &four_digits(distance_m(decode(number as f64), decode(next as f64)));
                distances += "\n";
            }
        }
        assert!(hashes.starts_with(
            "76216250969487 0n2p7z8bv70\n1501113278493252 bnbj7czr600\n3479077046667446 sqc2zf3nv90\n"
        ));
        assert!(
            positions
                .starts_with("-179.8339417576789856 -53.52798923816461496\n-179.82516020536422729 83.90246")
        );
        assert!(
            distances
                .starts_with("15285880.4188\n6432734.7321\n14832696.3019\n5361216.1662\n15762635.8850\n")
        );
        assert_eq!(fnv(hashes.as_bytes()), 0x77700d2c75869bdf);
        assert_eq!(fnv(positions.as_bytes()), 0x31ee85f6f015a704);
        assert_eq!(fnv(distances.as_bytes()), 0x029ae7eac4cfe016);
    }

    #[test]
    fn searches_find_what_a_real_server_finds_in_its_order() {
        let mut draw = Draw(1);
        let mut points: Vec<(u64, String)> =
            (0..1000).map(|i| (encode(draw.point()), format!("p{i}"))).collect();
        points.sort();
        let mut draw = Draw(7);
        let (mut found, mut replies) = (0, String::new());
        for _ in 0..600 {
            let center = draw.point();
            let unit_m = [1.0, 1000.0, 0.3048, 1609.34][draw.next() as usize % 4];
            let magnitude = 10f64.powi((draw.next() % 8) as i32);
            let a = (draw.next() % 1000) as f64 / 1000.0 * magnitude;
            let b = (draw.next() % 1000) as f64 / 1000.0 * magnitude;
            let circle = draw.next() % 2 == 1;
            let shape = if circle { Shape::Circle { radius: a } } else { Shape::Box { width: a, height: b } };
            let area = Area { center, shape, unit_m };
            for range in area.ranges() {
                let start = points.partition_point(|point| point.0 < range.start);
                for (number, name) in points[start..].iter().take_while(|point| point.0 < range.end) {
                    if let Some(distance) = area.distance_within_m(decode(*number as f64)) {
                        replies += &format!("{name} {}\n", four_digits(distance / unit_m));
                        found += 1;
                    }
                }
            }
            replies += "-\n";
        }
        assert_eq!(found, 142_446);
        assert_eq!(fnv(replies.as_bytes()), 0xd5a8bf5c071e9dc0);
    }

    #[test]
    fn any_score_is_some_point() {
        for (score, position, hash) in [
            (-1.0, "180 85.0511287799999991", "bp05b5048p0"),
            (-1e300, "180 -85.05112751263942528", "00bh0hbj200"),
            (3.7, "-179.99999195337295532 -85.05112497791824921", "00bh0hbj210"),
            (1e16, "180 -35.0964373490018744", "21b024bh2j0"),
            (1e19, "180 85.0511287799999991", "bp05b5048p0"),
            (1e300, "-179.99999731779098511 -85.05112751263942528", "00bh0hbj200"),
            (f64::INFINITY, "-179.99999731779098511 -85.05112751263942528", "00bh0hbj200"),
            (f64::NEG_INFINITY, "180 -85.05112751263942528", "00bh0hbj200"),
            (4503599627370495.0, "179.99999731779098511 85.05112751263942528", "zzpgzgpfxz0"),
            (4503599627370496.0, "-179.99999731779098511 85.0511287799999991", "bp05b5048p0"),
            (0.0, "-179.99999731779098511 -85.05112751263942528", "00bh0hbj200"),
        ] {
            assert_eq!((&coordinates(decode(score))[..], &hash_text(score)[..]), (position, hash), "{score}");
        }
    }

    #[test]
    fn the_edges_of_the_map_have_places() {
        for (longitude, latitude, number, position, hash) in [
            (180.0, LATITUDE_MAX, 13510798882111488, "180 85.0511287799999991", "bp05b5048p0"),
            (-180.0, -LATITUDE_MAX, 0, "-179.99999731779098511 -85.05112751263942528", "00bh0hbj200"),
            (180.0, 0.0, 10133099161583616, "180 0.00000126736058093", "80000000000"),
            (0.0, LATITUDE_MAX, 6755399441055744, "0.00000268220901489 85.0511287799999991", "up05b5048p0"),
        ] {
            let point = Point { longitude, latitude };
            assert!(point.is_valid());
            assert_eq!(encode(point), number);
            assert_eq!(coordinates(decode(number as f64)), position);
            assert_eq!(hash_text(number as f64), hash);
            let area = Area { center: point, shape: Shape::Circle { radius: 1.0 }, unit_m: 1.0 };
            assert!(area.ranges().iter().any(|range| range.contains(&number)), "{position}");
        }
        for (longitude, latitude) in [(180.1, 0.0), (0.0, 85.06), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(!Point { longitude, latitude }.is_valid());
        }
    }

    #[test]
    fn palermo_and_catania_are_where_the_manual_says() {
        let palermo = encode(Point { longitude: 13.361389, latitude: 38.115556 }) as f64;
        let catania = encode(Point { longitude: 15.087269, latitude: 37.502669 }) as f64;
        assert_eq!(palermo, 3479099956230698.0);
        assert_eq!((&hash_text(palermo)[..], &hash_text(catania)[..]), ("sqc8b49rny0", "sqdtr74hyu0"));
        assert_eq!(four_digits(distance_m(decode(palermo), decode(catania))), "166274.1516");
        assert_eq!(coordinates(decode(palermo)), "13.36138933897018433 38.11555639549629859");
    }

    fn point() -> impl Strategy<Value = Point> {
        (-180.0..180.0f64, -LATITUDE_MAX..LATITUDE_MAX)
            .prop_map(|(longitude, latitude)| Point { longitude, latitude })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn a_point_comes_back_from_the_middle_of_its_cell(point in point()) {
            let number = encode(point);
            prop_assert!(number < 1 << 52);
            let back = decode(number as f64);
            prop_assert!((back.longitude - point.longitude).abs() < 2.7e-6);
            prop_assert!((back.latitude - point.latitude).abs() < 1.3e-6);
            prop_assert_eq!(encode(back), number);
            prop_assert!(distance_m(point, back) < 0.5);
        }

        #[test]
        fn neighbours_lead_back(bits in any::<u64>(), steps in 1..=STEPS, east in -1..=1i64, north in -1..=1i64) {
            let cell = Cell { bits: bits & (u64::MAX >> (64 - 2 * steps)), steps };
            prop_assert_eq!(cell.moved(east, north).moved(-east, -north), cell);
            let there = cell.moved(east, north);
            if east == 0 {
                prop_assert_eq!(there.extent().longitude, cell.extent().longitude);
            }
            if north == 0 {
                prop_assert_eq!(there.extent().latitude, cell.extent().latitude);
            }
        }

        #[test]
        fn what_is_near_is_in_a_range(
            center in point(),
            reach in 0.0..200_000.0f64,
            part in 0.0..0.95f64,
            angle in 0.0..std::f64::consts::TAU,
        ) {
            // Away from the poles and the seam of the map, where the real server's nine cells may not be enough.
            prop_assume!(center.latitude.abs() < 70.0 && center.longitude.abs() < 170.0);
            let north = degrees(reach * part * angle.sin() / EARTH_RADIUS_M);
            let east = degrees(reach * part * angle.cos() / EARTH_RADIUS_M / radians(center.latitude).cos());
            let near = Point { longitude: center.longitude + east, latitude: center.latitude + north };
            let area = Area { center, shape: Shape::Circle { radius: reach }, unit_m: 1.0 };
            if area.distance_within_m(near).is_some() {
                let number = encode(near);
                prop_assert!(area.ranges().iter().any(|range| range.contains(&number)));
            }
            let ranges = area.ranges();
            prop_assert!(ranges.len() <= 9 && ranges[0].contains(&encode(center)));
        }
    }
}
