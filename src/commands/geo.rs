//! The geo family: sorted sets whose scores are places on earth.

use std::ops::Bound;

use crate::commands::zset::members::{add_places, delete_destination};
use crate::commands::zset::store::store_result;
use crate::exec::{
    Arg, ArgKind, Args, BeginSearch, CmdError, CmdResult, Command, Ctx, Cursor, Done, FindKeys, Group,
    KeySpec, acl, arg, block, data, flags::*, key, key_flags as kf, one_of, token,
};
use crate::protocol::Reply;
use crate::protocol::number::{format_17_digits, format_17_places, parse_double};
use crate::server::Server;
use crate::structures::geohash::{self, Area, Point, Shape};
use crate::structures::sorted_set::SortedSet;
use crate::types::{ScoreRange, Zset};

/// The key behind an argument, looked for from the given index.
const fn stored_behind(argument: &'static str, from: i32) -> KeySpec {
    KeySpec {
        flags: kf::OW | kf::UPDATE,
        begin: BeginSearch::Keyword(argument, from),
        find: FindKeys::Range(0, 1, 0),
        notes: None,
    }
}

// What the searches have in common, for their documentation.
const UNIT: Arg = one_of("unit", &[token("m", "M"), token("km", "KM"), token("ft", "FT"), token("mi", "MI")]);
const FROM: Arg = one_of(
    "from",
    &[
        arg("member", ArgKind::String).token("FROMMEMBER"),
        block("fromlonlat", &[arg("longitude", ArgKind::Double), arg("latitude", ArgKind::Double)])
            .token("FROMLONLAT"),
    ],
);
const BY: Arg = one_of(
    "by",
    &[
        block("circle", &[arg("radius", ArgKind::Double).token("BYRADIUS"), UNIT]),
        block("box", &[arg("width", ArgKind::Double).token("BYBOX"), arg("height", ArgKind::Double), UNIT]),
        block(
            "polygon",
            &[
                arg("num-vertices", ArgKind::Integer).token("BYPOLYGON"),
                block("vertices", &[arg("longitude", ArgKind::Double), arg("latitude", ArgKind::Double)])
                    .multiple(),
            ],
        ),
    ],
);
const ORDER: Arg = one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional();
const COUNT: Arg =
    block("count-block", &[arg("count", ArgKind::Integer).token("COUNT"), token("any", "ANY").optional()])
        .optional();

pub(super) const COMMANDS: &[Command<Server>] = &[
    data("geoadd", geoadd, -5)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)])
        .doc(
            Group::Geo,
            "3.2.0",
            "O(log(N)) for each place that is added to N",
            "Adds places, or moves them; creates the key where it is missing.",
        )
        .history(&[("6.2.0", "Takes the options `CH`, `NX` and `XX`.")])
        .args(&[
            key("key", 0),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional().since("6.2.0"),
            token("change", "CH").optional().since("6.2.0"),
            block(
                "data",
                &[
                    arg("longitude", ArgKind::Double),
                    arg("latitude", ArgKind::Double),
                    arg("member", ArgKind::String),
                ],
            )
            .multiple(),
        ]),
    data("geodist", geodist, -4)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::Geo, "3.2.0", "O(1)", "Gives the distance of two places.")
        .args(&[
            key("key", 0),
            arg("member1", ArgKind::String),
            arg("member2", ArgKind::String),
            one_of("unit", &[token("m", "M"), token("km", "KM"), token("ft", "FT"), token("mi", "MI")])
                .optional(),
        ]),
    data("geohash", geohash, -2)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::Geo, "3.2.0", "O(1) for each member", "Gives places as standard geohashes.")
        .args(&[key("key", 0), arg("member", ArgKind::String).optional().multiple()]),
    data("geopos", geopos, -2)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::Geo, "3.2.0", "O(1) for each member", "Gives longitude and latitude of places.")
        .args(&[key("key", 0), arg("member", ArgKind::String).optional().multiple()]),
    data("georadius", georadius, -6)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[
            KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1),
            stored_behind("STORE", 6),
            stored_behind("STOREDIST", 6),
        ])
        .get_keys(radius_keys)
        .doc(
            Group::Geo,
            "3.2.0",
            "O(N+log(M)) for N places in the square around the circle, of M",
            "Finds the places within a distance of a point; may store them.",
        )
        .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")
        .history(&[
            ("6.2.0", "Takes `ANY` behind a count."),
            ("7.0.0", "Names of units may be in upper case."),
        ])
        .args(&[
            key("key", 0),
            arg("longitude", ArgKind::Double),
            arg("latitude", ArgKind::Double),
            arg("radius", ArgKind::Double),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block(
                "count-block",
                &[
                    arg("count", ArgKind::Integer).token("COUNT"),
                    token("any", "ANY").optional().since("6.2.0"),
                ],
            )
            .optional(),
            ORDER,
            one_of(
                "store",
                &[
                    key("storekey", 1).token("STORE").display("key"),
                    key("storedistkey", 2).token("STOREDIST").display("key"),
                ],
            )
            .optional(),
        ]),
    data("georadius_ro", georadius_ro, -6)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::Geo,
            "3.2.10",
            "O(N+log(M)) for N places in the square around the circle, of M",
            "Finds the places within a distance of a point.",
        )
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")
        .history(&[("6.2.0", "Takes `ANY` behind a count.")])
        .args(&[
            key("key", 0),
            arg("longitude", ArgKind::Double),
            arg("latitude", ArgKind::Double),
            arg("radius", ArgKind::Double),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            block(
                "count-block",
                &[
                    arg("count", ArgKind::Integer).token("COUNT"),
                    token("any", "ANY").optional().since("6.2.0"),
                ],
            )
            .optional(),
            ORDER,
        ]),
    data("georadiusbymember", georadiusbymember, -5)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[
            KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1),
            stored_behind("STORE", 5),
            stored_behind("STOREDIST", 5),
        ])
        .get_keys(radius_keys)
        .doc(
            Group::Geo,
            "3.2.0",
            "O(N+log(M)) for N places in the square around the circle, of M",
            "Finds the places within a distance of a member; may store them.",
        )
        .deprecated(
            "6.2.0",
            "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        )
        .history(&[("7.0.0", "Names of units may be in upper case.")])
        .args(&[
            key("key", 0),
            arg("member", ArgKind::String),
            arg("radius", ArgKind::Double),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            COUNT,
            ORDER,
            one_of(
                "store",
                &[
                    key("storekey", 1).token("STORE").display("key"),
                    key("storedistkey", 2).token("STOREDIST").display("key"),
                ],
            )
            .optional(),
        ]),
    data("georadiusbymember_ro", georadiusbymember_ro, -5)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::Geo,
            "3.2.10",
            "O(N+log(M)) for N places in the square around the circle, of M",
            "Finds the places within a distance of a member.",
        )
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")
        .args(&[
            key("key", 0),
            arg("member", ArgKind::String),
            arg("radius", ArgKind::Double),
            UNIT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
            COUNT,
            ORDER,
        ]),
    data("geosearch", geosearch, -7)
        .flags(READONLY)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::Geo,
            "6.2.0",
            "O(N+log(M)) for N places in the grid cells around the area, of M",
            "Finds the places within a circle or a box.",
        )
        .history(&[
            ("7.0.0", "Names of units may be in upper case."),
            ("9.0.0", "Takes `BYPOLYGON`, as Valkey does."),
        ])
        .args(&[
            key("key", 0),
            FROM.optional(),
            BY,
            ORDER,
            COUNT,
            token("withcoord", "WITHCOORD").optional(),
            token("withdist", "WITHDIST").optional(),
            token("withhash", "WITHHASH").optional(),
        ]),
    data("geosearchstore", geosearchstore, -8)
        .flags(WRITE | DENYOOM)
        .acl(acl::GEO)
        .keys(&[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::range(kf::RO | kf::ACCESS, 2, 2, 1)])
        .doc(
            Group::Geo,
            "6.2.0",
            "O(N+log(M)) for N places in the grid cells around the area, of M",
            "Makes a key hold the places within a circle or a box.",
        )
        .history(&[
            ("7.0.0", "Names of units may be in upper case."),
            ("9.0.0", "Takes `BYPOLYGON`, as Valkey does."),
        ])
        .args(&[
            key("destination", 0),
            key("source", 1),
            FROM.optional(),
            BY,
            ORDER,
            COUNT,
            token("storedist", "STOREDIST").optional(),
        ]),
];

/// The keys of a GEORADIUS command, where nothing better is known: the last STORE or STOREDIST counts.
fn radius_keys(args: Args) -> Result<Vec<(usize, u16)>, CmdError> {
    let mut keys = vec![(1, kf::RO)];
    let mut stored = None;
    let mut at = 5;
    while at + 1 < args.len() {
        if args.is(at, "STORE") || args.is(at, "STOREDIST") {
            at += 1;
            stored = Some((at, kf::OW));
        }
        at += 1;
    }
    keys.extend(stored);
    Ok(keys)
}

// ---- arguments and replies

/// The next two arguments as longitude and latitude.
fn point(arguments: &mut Cursor) -> Result<Point, CmdError> {
    let longitude = parse_double(arguments.argument()?).ok_or(CmdError::NOT_FLOAT)?;
    let latitude = parse_double(arguments.argument()?).ok_or(CmdError::NOT_FLOAT)?;
    let point = Point { longitude, latitude };
    if point.is_valid() {
        return Ok(point);
    }
    Err(CmdError::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Metres in the unit that an argument names.
fn unit(argument: &[u8]) -> Result<f64, CmdError> {
    match argument.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(CmdError::text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

/// The next two arguments as a circle, and metres in its unit.
fn circle(arguments: &mut Cursor) -> Result<(Shape, f64), CmdError> {
    let radius = parse_double(arguments.argument()?).ok_or(CmdError::text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(CmdError::text("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit(arguments.argument()?)?))
}

/// The next three arguments as a box, and metres in its unit.
fn rectangle(arguments: &mut Cursor) -> Result<(Shape, f64), CmdError> {
    let width = parse_double(arguments.argument()?).ok_or(CmdError::text("ERR need numeric width"))?;
    let height = parse_double(arguments.argument()?).ok_or(CmdError::text("ERR need numeric height"))?;
    if height < 0.0 || width < 0.0 {
        return Err(CmdError::text("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, unit(arguments.argument()?)?))
}

/// The next words as the corners of a polygon, whose distances are metres.
fn polygon(arguments: &mut Cursor) -> Result<Vec<Point>, CmdError> {
    let number = arguments.int_in(i64::MIN..=i64::MAX, CmdError::text("ERR invalid number of vertices"))?;
    if number < 3 || number as u64 > arguments.left() as u64 / 2 {
        return Err(CmdError::text("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
    }
    (0..number).map(|_| point(arguments)).collect()
}

/// A distance with four digits behind the point: a bulk string in both versions of the protocol.
fn reply_distance(reply: &mut Reply, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let text = format!("{}.{:04}", scaled / 10_000, scaled % 10_000);
    reply.bulk(text.as_bytes());
}

fn reply_point(reply: &mut Reply, point: Point) {
    reply.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format_17_places(degrees);
        if reply.is_resp3() {
            reply.raw(format!(",{text}\r\n").as_bytes());
        } else {
            reply.bulk(text.as_bytes());
        }
    }
}

// ---- places

/// GEOADD key [NX|XX] [CH] longitude latitude member [longitude latitude member ...]
fn geoadd(ctx: &mut Ctx) -> CmdResult {
    let mut arguments = ctx.args.cursor(2);
    let (mut if_absent, mut if_present, mut count_changed) = (false, false, false);
    loop {
        if arguments.flag("NX") {
            if_absent = true;
        } else if arguments.flag("XX") {
            if_present = true;
        } else if arguments.flag("CH") {
            count_changed = true;
        } else {
            break;
        }
    }
    if arguments.is_done() || !arguments.left().is_multiple_of(3) || (if_absent && if_present) {
        return Err(CmdError::SYNTAX);
    }
    let first = arguments.position();
    let (mut members, mut numbers) = (Vec::new(), Vec::new());
    while !arguments.is_done() {
        numbers.push(geohash::encode(point(&mut arguments)?));
        members.push(arguments.argument()?);
    }
    // On the very edge of the map a number has a bit more than a score keeps.
    let scores: Vec<f64> = numbers.iter().map(|&number| number as f64).collect();
    let dirty = ctx.db.changes.dirty;
    add_places(ctx, if_absent, if_present, count_changed, &members, &scores)?;
    if ctx.db.changes.dirty > dirty {
        // Replicas are sent of scores, which are the same everywhere.
        let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let mut command: Vec<&[u8]> = vec![b"zadd"];
        command.extend(ctx.args.from(1).take(first - 1));
        for (text, member) in texts.iter().zip(&members) {
            command.extend([text.as_bytes(), member]);
        }
        ctx.db.changes.propagate(ctx.db.index, command);
    }
    Ok(Done)
}

/// GEODIST key member1 member2 [M|KM|FT|MI]
fn geodist(ctx: &mut Ctx) -> CmdResult {
    let unit_m = match ctx.args.len() {
        4 => 1.0,
        5 => unit(ctx.args.get(4))?,
        _ => return Err(CmdError::SYNTAX),
    };
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    let score = |index| zset.and_then(|zset| zset.score(ctx.args.get(index)));
    match score(2).zip(score(3)) {
        Some((one, other)) => {
            let distance = geohash::distance_m(geohash::decode(one), geohash::decode(other));
            reply_distance(&mut ctx.reply, distance / unit_m);
        }
        None => ctx.reply.null(),
    }
    Ok(Done)
}

/// GEOHASH key [member [member ...]]
fn geohash(ctx: &mut Ctx) -> CmdResult {
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    let members = ctx.args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => ctx.reply.bulk(&geohash::text(score)),
            None => ctx.reply.null(),
        }
    }
    Ok(Done)
}

/// GEOPOS key [member [member ...]]
fn geopos(ctx: &mut Ctx) -> CmdResult {
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    let members = ctx.args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply_point(&mut ctx.reply, geohash::decode(score)),
            None => ctx.reply.null_array(),
        }
    }
    Ok(Done)
}

// ---- searches

/// The commands that search, by how they say where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A point, then a radius.
    Radius {
        may_store: bool,
    },
    /// A member, then a radius.
    RadiusByMember {
        may_store: bool,
    },
    /// Everything by options.
    Search,
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// What a search is asked for.
#[derive(Default)]
struct Search<'a> {
    center: Option<Point>,
    /// Where the set is missing members have no place, but it counts that one was named.
    from_member: bool,
    from_point: bool,
    shape: Option<(Shape, f64)>,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    order: Option<Order>,
    count: usize,
    any: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

/// A place that was found.
struct Found {
    member: Vec<u8>,
    score: f64,
    point: Point,
    distance: f64,
}

impl<'a> Search<'a> {
    fn parse(args: Args<'a>, form: Form, zset: Option<&Zset>) -> Result<Search<'a>, CmdError> {
        let mut search = Search::default();
        let mut arguments = match form {
            Form::Radius { .. } => {
                let mut arguments = args.cursor(2);
                search.center = Some(point(&mut arguments)?);
                search.shape = Some(circle(&mut arguments)?);
                arguments
            }
            Form::RadiusByMember { .. } => {
                if let Some(zset) = zset {
                    search.center = Some(place_of(zset, args.get(2))?);
                    search.shape = Some(circle(&mut args.cursor(3))?);
                }
                args.cursor(5)
            }
            Form::Search => args.cursor(2),
            Form::SearchStore => {
                search.store = Some(args.key());
                args.cursor(3)
            }
        };
        while !arguments.is_done() {
            search.option(&mut arguments, form, zset)?;
        }
        search.check(args, form)?;
        Ok(search)
    }

    fn is_polygon(&self) -> bool {
        matches!(self.shape, Some((Shape::Polygon(_), _)))
    }

    /// Takes what is to be given with each place.
    fn with(&mut self, arguments: &mut Cursor) -> bool {
        if arguments.flag("WITHDIST") {
            self.with_distance = true;
        } else if arguments.flag("WITHHASH") {
            self.with_hash = true;
        } else if arguments.flag("WITHCOORD") {
            self.with_point = true;
        } else {
            return false;
        }
        true
    }

    fn option(
        &mut self,
        arguments: &mut Cursor<'a>,
        form: Form,
        zset: Option<&Zset>,
    ) -> Result<(), CmdError> {
        let by_options = matches!(form, Form::Search | Form::SearchStore);
        let may_store =
            matches!(form, Form::Radius { may_store: true } | Form::RadiusByMember { may_store: true });
        let is_circle = matches!(self.shape, Some((Shape::Circle { .. }, _)));
        let is_box = matches!(self.shape, Some((Shape::Box { .. }, _)));
        let is_polygon = self.is_polygon();
        let is_free = by_options && !is_circle && !is_box && !self.from_member && !self.from_point;
        if self.with(arguments) {
            return Ok(());
        }
        if arguments.flag("ANY") {
            self.any = true;
        } else if arguments.flag("ASC") {
            self.order = Some(Order::Ascending);
        } else if arguments.flag("DESC") {
            self.order = Some(Order::Descending);
        } else if arguments.option("COUNT", 1) {
            let count = arguments.int()?;
            if count <= 0 {
                return Err(CmdError::text("ERR COUNT must be > 0"));
            }
            self.count = count as usize;
        } else if may_store && arguments.option("STORE", 1) {
            self.store = Some(arguments.argument()?);
            self.store_distance = false;
        } else if may_store && arguments.option("STOREDIST", 1) {
            self.store = Some(arguments.argument()?);
            self.store_distance = true;
        } else if form == Form::SearchStore && arguments.flag("STOREDIST") {
            self.store_distance = true;
        } else if by_options && !is_polygon && !self.from_point && arguments.option("FROMMEMBER", 1) {
            let member = arguments.argument()?;
            if let Some(zset) = zset {
                self.center = Some(place_of(zset, member)?);
            }
            self.from_member = true;
        } else if by_options && !is_polygon && !self.from_member && arguments.option("FROMLONLAT", 2) {
            self.center = Some(point(arguments)?);
            self.from_point = true;
        } else if by_options && !is_box && !is_polygon && arguments.option("BYRADIUS", 2) {
            self.shape = Some(circle(arguments)?);
        } else if by_options && !is_circle && !is_polygon && arguments.option("BYBOX", 3) {
            self.shape = Some(rectangle(arguments)?);
        } else if is_free && arguments.option("BYPOLYGON", 1) {
            let corners = polygon(arguments)?;
            self.center = Some(geohash::middle(&corners));
            self.shape = Some((Shape::Polygon(corners), 1.0));
        } else {
            return Err(CmdError::SYNTAX);
        }
        Ok(())
    }

    /// What does not go together.
    fn check(&self, args: Args, form: Form) -> Result<(), CmdError> {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_point) {
            let what = if form == Form::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CmdError::new(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = String::from_utf8_lossy(args.get(0));
        let by_options = matches!(form, Form::Search | Form::SearchStore);
        if by_options && !self.from_member && !self.from_point && !self.is_polygon() {
            return Err(CmdError::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if by_options && self.shape.is_none() {
            return Err(CmdError::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if self.any && self.count == 0 {
            return Err(CmdError::text("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The places that are sought, in the order and number in which they are, and metres in the unit of distances.
    fn run(&self, zset: &Zset) -> (Vec<Found>, f64) {
        let (Some(center), Some((shape, unit_m))) = (self.center, self.shape.clone()) else {
            unreachable!("a search of a set that is there says where and how far");
        };
        let area = Area { center, shape, unit_m };
        let enough = if self.any { self.count } else { usize::MAX };
        let mut found = Vec::new();
        let mut digits = itoa::Buffer::new();
        for numbers in area.ranges() {
            let (min, max) = (Bound::Included(numbers.start as f64), Bound::Excluded(numbers.end as f64));
            for (member, score) in zset.range(zset.ranks_by_score(&ScoreRange { min, max })) {
                if found.len() >= enough {
                    break;
                }
                let point = geohash::decode(score);
                if let Some(distance) = area.distance_within_m(point) {
                    let member = member.text(&mut digits).to_vec();
                    found.push(Found { member, score, point, distance });
                }
            }
        }
        // The nearest ones are meant where a number is asked for, unless any will do.
        let order = self.order.or((self.count > 0 && !self.any).then_some(Order::Ascending));
        match order {
            Some(Order::Ascending) => found.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Some(Order::Descending) => found.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
            None => {}
        }
        if self.count > 0 {
            found.truncate(self.count);
        }
        (found, unit_m)
    }

    fn reply(&self, reply: &mut Reply, found: &[Found], unit_m: f64) {
        let extra = [self.with_distance, self.with_hash, self.with_point];
        let extra = extra.into_iter().filter(|&wanted| wanted).count();
        reply.array(found.len());
        for place in found {
            if extra > 0 {
                reply.array(extra + 1);
            }
            reply.bulk(&place.member);
            if self.with_distance {
                reply_distance(reply, place.distance / unit_m);
            }
            if self.with_hash {
                reply.int(place.score as i64);
            }
            if self.with_point {
                reply_point(reply, place.point);
            }
        }
    }
}

fn place_of(zset: &Zset, member: &[u8]) -> Result<Point, CmdError> {
    let score = zset.score(member);
    score.map(geohash::decode).ok_or(CmdError::text("ERR could not decode requested zset member"))
}

/// Tells replicas of what was found within a polygon, which few of them know.
fn propagate_places(ctx: &mut Ctx, destination: &[u8], found: &[Found], distances: bool) {
    let score = |place: &Found| format_17_digits(if distances { place.distance } else { place.score });
    let scores: Vec<String> = found.iter().map(score).collect();
    let mut command: Vec<&[u8]> = vec![b"ZADD", destination];
    for (score, place) in scores.iter().zip(found) {
        command.extend([score.as_bytes(), &place.member]);
    }
    ctx.db.changes.propagate(ctx.db.index, [&b"DEL"[..], destination]);
    ctx.db.changes.propagate(ctx.db.index, command);
}

fn search(ctx: &mut Ctx, form: Form) -> CmdResult {
    let source = ctx.args.get(if form == Form::SearchStore { 2 } else { 1 });
    let zset = ctx.db.read_as::<Zset>(source)?;
    let search = Search::parse(ctx.args, form, zset)?;
    let found = zset.map(|zset| search.run(zset));
    let Some(destination) = search.store else {
        match found {
            Some((found, unit_m)) => search.reply(&mut ctx.reply, &found, unit_m),
            None => ctx.reply.array(0),
        }
        return Ok(Done);
    };
    let Some((found, unit_m)) = found.filter(|(found, _)| !found.is_empty()) else {
        delete_destination(&mut ctx.db, destination);
        if search.is_polygon() && ctx.db.changes.dirty > 0 {
            ctx.db.changes.propagate(ctx.db.index, [&b"DEL"[..], destination]);
        }
        ctx.reply.int(0);
        return Ok(Done);
    };
    let mut result = SortedSet::with_capacity(found.len());
    for place in &found {
        let score = if search.store_distance { place.distance / unit_m } else { place.score };
        // Between antipodes there may be no number.
        result.insert(&place.member, if score.is_nan() { 0.0 } else { score });
    }
    let by_options = form == Form::SearchStore;
    store_result(ctx, destination, result, if by_options { "geosearchstore" } else { "georadiusstore" });
    ctx.db.changes.dirty += found.len() as u64 - 1;
    if search.is_polygon() {
        propagate_places(ctx, destination, &found, search.store_distance);
    }
    ctx.reply.int(found.len());
    Ok(Done)
}

/// GEORADIUS key longitude latitude radius M|KM|FT|MI [options]
fn georadius(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::Radius { may_store: true })
}

/// GEORADIUS_RO, the same without STORE
fn georadius_ro(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::Radius { may_store: false })
}

/// GEORADIUSBYMEMBER key member radius M|KM|FT|MI [options]
fn georadiusbymember(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::RadiusByMember { may_store: true })
}

/// GEORADIUSBYMEMBER_RO, the same without STORE
fn georadiusbymember_ro(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::RadiusByMember { may_store: false })
}

/// GEOSEARCH key FROMMEMBER member|FROMLONLAT longitude latitude BYRADIUS radius unit|BYBOX width height unit [options]
fn geosearch(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::Search)
}

/// GEOSEARCHSTORE destination source, then as GEOSEARCH
fn geosearchstore(ctx: &mut Ctx) -> CmdResult {
    search(ctx, Form::SearchStore)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::zset::members;
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[members::COMMANDS, COMMANDS]);
        let line = "GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania";
        assert_eq!(bench.run(line), ":2\r\n");
        bench
    }

    #[test]
    fn replicas_are_told_of_scores() {
        let mut bench = bench();
        let scores = "0: zadd Sicily 3479099956230698 Palermo 3479447370796909 Catania";
        assert_eq!(bench.propagated(), [scores]);
        assert_eq!(bench.run("GEOADD Sicily CH XX 13.5 38 Palermo 1 1 Rome"), ":1\r\n");
        assert!(bench.propagated()[0].starts_with("0: zadd Sicily CH XX 34"));
        assert_eq!(bench.run("GEOADD Sicily NX 13 38 Palermo"), ":0\r\n");
        assert!(bench.changes.is_empty());
    }

    #[test]
    fn places_are_found_around_a_point_and_a_member() {
        let mut bench = bench();
        assert_eq!(bench.run("GEODIST Sicily Palermo Catania km"), "$8\r\n166.2742\r\n");
        assert_eq!(bench.run("GEOHASH Sicily Palermo none"), "*2\r\n$11\r\nsqc8b49rny0\r\n$-1\r\n");
        let near = "*2\r\n*2\r\n$7\r\nCatania\r\n$7\r\n56.4413\r\n*2\r\n$7\r\nPalermo\r\n$8\r\n190.4424\r\n";
        let line = "GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST";
        assert_eq!(bench.run(line), near);
        assert_eq!(bench.run("GEORADIUS Sicily 15 37 200 km ASC WITHDIST"), near);
        let one = "*1\r\n$7\r\nCatania\r\n";
        assert_eq!(bench.run("GEORADIUSBYMEMBER Sicily Palermo 200 km DESC COUNT 1"), one);
        assert_eq!(
            bench.run("GEOSEARCHSTORE d Sicily FROMMEMBER Palermo BYBOX 400 400 km STOREDIST"),
            ":2\r\n"
        );
        assert_eq!(bench.changes.dirty, 2);
        assert!(bench.run("ZSCORE d Catania").starts_with("$18\r\n166.2741"));
        assert_eq!(bench.run("GEORADIUS none 15 37 200 km STORE d"), ":0\r\n");
        assert_eq!(bench.changes.dirty, 1);
    }

    #[test]
    fn places_are_found_within_a_polygon() {
        let mut bench = bench();
        bench.run("GEOADD Sicily 12.5 37.9 edge");
        let square = "BYPOLYGON 4 12 37 12 39 14 39 14 37";
        let found =
            "*2\r\n*2\r\n$4\r\nedge\r\n$10\r\n45359.0890\r\n*2\r\n$7\r\nPalermo\r\n$10\r\n33984.8484\r\n";
        assert_eq!(bench.run(&format!("GEOSEARCH Sicily {square} WITHDIST DESC")), found);
        let found = "*2\r\n$7\r\nPalermo\r\n$7\r\nCatania\r\n";
        assert_eq!(bench.run("GEOSEARCH Sicily BYPOLYGON 5 12 37 16 39 16 37 12 39 14 38.9 ASC"), found);
        assert_eq!(bench.run("GEOSEARCH Sicily BYPOLYGON 3 12 37 13 37 14 37"), "*0\r\n");
        assert_eq!(bench.run(&format!("GEOSEARCHSTORE d Sicily {square} STOREDIST")), ":2\r\n");
        assert_eq!(bench.propagated().len(), 2);
        assert!(bench.propagated()[1].starts_with("0: ZADD d 45359.0890401924"), "{:?}", bench.propagated());
        bench.run(&format!("GEOSEARCHSTORE e Sicily {square}"));
        let told = ["0: DEL e", "0: ZADD e 3478968686430933 edge 3479099956230698 Palermo"];
        assert_eq!(bench.propagated(), told);
        bench.run("GEOSEARCHSTORE e none BYPOLYGON 3 12 37 13 37 14 38");
        assert_eq!(bench.propagated(), ["0: DEL e"]);
        bench.run("GEOSEARCHSTORE e none BYPOLYGON 3 12 37 13 37 14 38");
        assert!(bench.propagated().is_empty());
        assert!(bench.run("ZSCORE d edge").starts_with("$20\r\n4.535908904"));
        // Around a pole the middle is beyond the map.
        assert_eq!(bench.run("GEOSEARCH Sicily BYPOLYGON 4 0 85 90 85 180 85 -90 85"), "*0\r\n");
        let few = "-ERR GEOSEARCH BYPOLYGON must have at least 3 vertices\r\n";
        for (line, error) in [
            ("BYPOLYGON 2 12 37 12 39", few),
            ("BYPOLYGON 4 12 37 12 39", few),
            ("BYPOLYGON x 12 37 12 39", "-ERR invalid number of vertices\r\n"),
            ("BYPOLYGON 3 12 37 12 390 1 1", "-ERR invalid longitude,latitude pair 12.000000,390.000000\r\n"),
            ("FROMLONLAT 1 1 BYPOLYGON 3 12 37 12 39 1 1", "-ERR syntax error\r\n"),
            ("BYPOLYGON 3 12 37 12 39 1 1 BYRADIUS 1 km", "-ERR syntax error\r\n"),
            ("BYPOLYGON 3 12 37 12 39 1 1 FROMMEMBER edge", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(bench.run(&format!("GEOSEARCH Sicily {line}")), error, "{line}");
        }
    }

    #[test]
    fn arguments_are_checked() {
        let mut bench = bench();
        for (line, error) in [
            ("GEOADD k 200 10.5 m", "ERR invalid longitude,latitude pair 200.000000,10.500000"),
            ("GEOADD k NX XX 1 1 m", "ERR syntax error"),
            ("GEODIST k a b xx", "ERR unsupported unit provided. please use M, KM, FT, MI"),
            (
                "GEOSEARCH k BYRADIUS 1 m ASC ASC",
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH",
            ),
            (
                "geosearch k FROMMEMBER x ASC ASC ASC",
                "ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch",
            ),
            (
                "GEORADIUS k 1 1 1 m STORE d WITHDIST",
                "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
            ),
            ("GEORADIUS k 1 1 1 m ANY", "ERR the ANY argument requires COUNT argument"),
            ("GEORADIUS k 1 1 -1 m", "ERR radius cannot be negative"),
            ("GEORADIUS_RO k 1 1 1 m STORE d", "ERR syntax error"),
            ("GEORADIUSBYMEMBER Sicily x 1 m", "ERR could not decode requested zset member"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
