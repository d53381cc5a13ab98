//! The room as its neighbours use it: rules in, descriptions, answers and texts out. What is expected here was seen on
//! Redis 7.2.6.

use proptest::prelude::*;

use super::*;
use crate::commands::FAMILIES;
use crate::config::AclPubsubDefault::{self, ResetChannels};
use crate::config::line::split_args;
use crate::exec::{Args, Command};
use crate::protocol::{Request, Span};
use crate::server::Server;

fn users() -> Users {
    Users::new(Catalog::new(FAMILIES))
}

/// ACL SETUSER with a line of words, which are split at blanks.
fn set(users: &mut Users, line: &str) -> Result<Closing, String> {
    set_with(users, line, ResetChannels)
}

fn set_with(users: &mut Users, line: &str, channels: AclPubsubDefault) -> Result<Closing, String> {
    let mut arguments = line.split(' ').map(str::as_bytes);
    let name = arguments.next().unwrap();
    let rules: Vec<&[u8]> = arguments.collect();
    let result = users.set_user(name, &rules, channels);
    users.verify();
    result.map_err(|error| error.error().to_string())
}

fn line(users: &Users, name: &str) -> String {
    text(users.find(name.as_bytes()).expect("a user of that name").1.line())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What stands behind `user x ` once a new user `x` was given these rules.
fn described(rules: &str) -> String {
    let mut users = users();
    let closing = set(&mut users, &format!("x {rules}")).unwrap();
    assert_eq!(closing, Closing::default());
    line(&users, "x").strip_prefix("user x ").unwrap().to_owned()
}

/// What stands behind the flags of a new user.
fn rights(rules: &str) -> String {
    described(rules).strip_prefix("off sanitize-payload ").expect("it is off").to_owned()
}

fn refused(rules: &str) -> String {
    let mut users = users();
    let error = set(&mut users, &format!("x {rules}")).expect_err(rules);
    assert!(users.find(b"x").is_none(), "a refused user is not made");
    error
}

/// A request, with the bytes that its words lie in.
struct Words {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Words {
    fn new(line: &str) -> Words {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for argument in line.split(' ') {
            spans.push(Span { start: bytes.len(), len: argument.len() });
            bytes.extend(argument.bytes());
        }
        Words { bytes, spans }
    }

    fn args(&self) -> Args<'_> {
        Args::new(Request::whole(&self.bytes, &self.spans))
    }
}

fn row(args: Args) -> &'static Command<Server> {
    let mut rows = FAMILIES.iter().flat_map(|family| family.iter());
    let row = rows.find(|row| args.is(0, row.name)).expect("a command of that name");
    if args.len() > 1 { row.subcommand(args.get(1)).unwrap_or(row) } else { row }
}

/// What the user `x` with these rules hears of a command: the denial, as DRYRUN tells of it.
fn tried(rules: &str, command: &str) -> String {
    let mut users = users();
    set(&mut users, &format!("x {rules}")).map(drop).unwrap();
    let (id, _) = users.find(b"x").unwrap();
    let arguments = Words::new(command);
    let row = row(arguments.args());
    let number = users.catalog().find(row.full_name.as_bytes()).unwrap();
    let attempt = Attempt::new(number, row, arguments.args());
    match users.check(id, &attempt) {
        Ok(()) => "OK".into(),
        Err(denial) => text(denial.dry_run(b"x", row.full_name, arguments.args())),
    }
}

const NO_GET: &str = "User x has no permissions to run the 'get' command";

#[test]
fn the_default_user_may_do_everything_and_a_new_one_nothing() {
    let mut users = users();
    assert_eq!(line(&users, "default"), "user default on nopass sanitize-payload ~* &* +@all");
    assert!(users.default_is_open() && users.is_unrestricted(UserId::DEFAULT));
    assert_eq!(set(&mut users, "a"), Ok(Closing::default()));
    assert_eq!(line(&users, "a"), "user a off sanitize-payload resetchannels -@all");
    set_with(&mut users, "b (+get)", AclPubsubDefault::AllChannels).map(drop).unwrap();
    assert_eq!(line(&users, "b"), "user b off sanitize-payload &* -@all (&* -@all +get)");
    let names: Vec<_> = users.iter().map(|user| text(user.name().to_vec())).collect();
    assert_eq!(names, ["a", "b", "default"]);
}

#[test]
fn a_line_has_its_parts_in_their_order_whatever_the_order_of_the_rules() {
    let hash = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    assert_eq!(
        described("+get (~a +get) &ch ~k >password skip-sanitize-payload on"),
        format!(
            "on skip-sanitize-payload #{hash} ~k resetchannels &ch -@all +get (~a resetchannels -@all +get)"
        )
    );
    assert_eq!(described("ON NoPass +GET ~K"), "on nopass sanitize-payload ~K resetchannels -@all +get");
    assert_eq!(rights("allkeys allchannels allcommands"), "~* &* +@all");
    assert_eq!(rights("allkeys resetkeys ~a allchannels resetchannels nocommands"), "~a resetchannels -@all");
}

#[test]
fn patterns_of_keys_merge_their_permissions() {
    for (rules, expected) in [
        ("%R~x %W~x", "~x"),
        ("%R~x", "%R~x"),
        ("%w~x", "%W~x"),
        ("%rw~x %WR~y", "~x ~y"),
        ("~a ~b ~a", "~a ~b"),
        ("~ &", "~ resetchannels & -@all"),
        ("%R", "%R~"),
        ("&a &b &a", "resetchannels &a &b -@all"),
    ] {
        let expected = match expected.contains("resetchannels") {
            true => expected.to_owned(),
            false => format!("{expected} resetchannels -@all"),
        };
        let expected = expected.strip_prefix(' ').unwrap_or(&expected).to_owned();
        assert_eq!(rights(rules), expected.trim_start(), "{rules}");
    }
}

#[test]
fn rules_on_commands_are_never_shortened_but_by_what_overrules_them() {
    for (rules, expected) in [
        ("+@all +get", "+@all +get"),
        ("+get -get", "-@all -get"),
        ("+@read -@read", "-@all -@read"),
        ("+get +@all", "+@all"),
        ("+get -@all", "-@all"),
        ("+@all -get +get", "+@all +get"),
        ("+config|get +config", "-@all +config"),
        ("+config|get +config|set -config", "-@all -config"),
        ("-config +config|get", "-@all -config +config|get"),
        ("+config +config|get", "-@all +config +config|get"),
        ("+CONFIG|GET +@READ", "-@all +config|get +@read"),
        ("+get|x", "-@all +get|x"),
        ("+get|A +get|a", "-@all +get|a"),
        ("+get|x +getset -get", "-@all +getset -get"),
        ("-config|get", "-@all -config|get"),
        ("+get|'a'", "-@all +get|'a'"),
    ] {
        assert_eq!(rights(rules), format!("resetchannels {expected}"), "{rules}");
    }
}

#[test]
fn selectors_come_in_one_argument_or_several() {
    for (rules, expected) in [
        ("()", "(resetchannels -@all)"),
        ("( )", "(resetchannels -@all)"),
        ("(~a +get)", "(~a resetchannels -@all +get)"),
        ("(%R~a &c +@all) (+get)", "(%R~a resetchannels &c +@all) (resetchannels -@all +get)"),
        // Quotes that do not balance make no words of it.
        ("(~a\"b)", "(resetchannels -@all)"),
    ] {
        assert_eq!(rights(rules), format!("resetchannels -@all {expected}"), "{rules}");
    }
    let mut users = users();
    users.set_user(b"x", &[b"(\"~a\\\"b\" +get)"], ResetChannels).map(drop).unwrap();
    assert_eq!(
        line(&users, "x"),
        "user x off sanitize-payload resetchannels -@all (~a\"b resetchannels -@all +get)"
    );
    set(&mut users, "x clearselectors").map(drop).unwrap();
    assert_eq!(line(&users, "x"), "user x off sanitize-payload resetchannels -@all");
}

#[test]
fn reset_makes_a_user_what_it_was_when_it_was_new() {
    let everything = "on >p ~a &b +@all (~c) skip-sanitize-payload";
    assert_eq!(described(&format!("{everything} reset")), "off sanitize-payload resetchannels -@all");
    assert_eq!(described(""), "off sanitize-payload resetchannels -@all");
}

#[test]
fn what_is_wrong_is_told_and_undoes_the_whole() {
    let modifier = |rule: &str, why: RuleError| format!("ERR Error in ACL SETUSER modifier '{rule}': {why}");
    for (rule, why) in [
        ("+nosuch", RuleError::Unknown),
        ("-nosuch", RuleError::Unknown),
        ("+", RuleError::Unknown),
        ("-", RuleError::Unknown),
        ("+@", RuleError::Unknown),
        ("-@nosuch", RuleError::Unknown),
        ("+|x", RuleError::Unknown),
        ("-select|0", RuleError::Unknown),
        ("+select|0|1", RuleError::Unknown),
        ("+config|nosuch", RuleError::Unknown),
        ("+config|", RuleError::Syntax),
        ("+get|", RuleError::Syntax),
        ("+config|get|x", RuleError::FirstArgOfSubcommand),
        ("+get|\"a", RuleError::Syntax),
        ("+get|a\tb", RuleError::Syntax),
        ("%RR~x", RuleError::Syntax),
        ("%~x", RuleError::Syntax),
        ("%", RuleError::Syntax),
        ("%X~x", RuleError::Syntax),
        ("~a\tb", RuleError::Syntax),
        ("&a\tb", RuleError::Syntax),
        (")", RuleError::Syntax),
        ("((~a))", RuleError::Syntax),
        ("(on)", RuleError::Syntax),
        ("(~a on)", RuleError::Syntax),
        ("nosuch", RuleError::Syntax),
        ("#", RuleError::InvalidHash),
        ("!00", RuleError::InvalidHash),
        ("<none", RuleError::NoSuchPassword),
    ] {
        assert_eq!(refused(&format!("on {rule}")), modifier(rule, why), "{rule}");
    }
    assert_eq!(refused("~* ~b"), modifier("~b", RuleError::AfterAllKeys));
    assert_eq!(refused("~* %R~b"), modifier("%R~b", RuleError::AfterAllKeys));
    assert_eq!(refused("allchannels &b"), modifier("&b", RuleError::AfterAllChannels));
    assert_eq!(refused("(~* ~b)"), modifier("(~* ~b)", RuleError::AfterAllKeys));
    assert_eq!(refused("on (~a +get"), "ERR Unmatched parenthesis in acl selector starting at '(~a'.");

    let mut users = users();
    set(&mut users, "x on ~a +get").map(drop).unwrap();
    let before = line(&users, "x");
    assert!(set(&mut users, "x off ~b +nosuch").is_err());
    assert_eq!(line(&users, "x"), before);
    let spaces = "ERR Usernames can't contain spaces or null characters";
    for name in [&b"a b"[..], b"a\0", b"\t"] {
        let error = users.set_user(name, &[], ResetChannels).unwrap_err();
        assert_eq!(error.error().to_string(), spaces);
    }
}

#[test]
fn arguments_are_compared_up_to_a_zero_byte() {
    let mut users = users();
    users.set_user(b"x", &[b"ON\0x", b"+get\0x"], ResetChannels).map(drop).unwrap();
    assert_eq!(line(&users, "x"), "user x on sanitize-payload resetchannels -@all +get");
    let error = users.set_user(b"x", &[b"~a\0"], ResetChannels).unwrap_err();
    assert_eq!(error.error().to_string(), "ERR Error in ACL SETUSER modifier '~a': Syntax error");
    users.set_user(b"x", &[b">a\0b"], ResetChannels).map(drop).unwrap();
    assert!(users.authenticate(b"x", b"a\0b").is_some());
    assert!(users.authenticate(b"x", b"a").is_none());
}

#[test]
fn passwords_come_and_go_and_nopass_takes_any() {
    let mut users = users();
    let lets_in = |users: &Users, password: &str| users.authenticate(b"x", password.as_bytes()).is_some();
    set(&mut users, "x >one >two").map(drop).unwrap();
    assert!(!lets_in(&users, "one"), "the user is off");
    set(&mut users, "x on").map(drop).unwrap();
    assert!(lets_in(&users, "one") && lets_in(&users, "two"));
    assert!(!lets_in(&users, "") && !lets_in(&users, "One"));
    set(&mut users, "x <one").map(drop).unwrap();
    assert!(!lets_in(&users, "one") && lets_in(&users, "two"));
    assert!(set(&mut users, "x <one").is_err());
    set(&mut users, "x nopass").map(drop).unwrap();
    assert!(lets_in(&users, "anything"));
    assert_eq!(users.find(b"x").unwrap().1.passwords().len(), 0);
    set(&mut users, "x >three").map(drop).unwrap();
    assert!(lets_in(&users, "three") && !lets_in(&users, "anything"));
    set(&mut users, "x >three >three").map(drop).unwrap();
    assert_eq!(users.find(b"x").unwrap().1.passwords().len(), 1);
    set(&mut users, "x resetpass").map(drop).unwrap();
    assert!(!lets_in(&users, "three") && !lets_in(&users, ""));
    assert!(users.authenticate(b"nobody", b"").is_none());
}

#[test]
fn requirepass_is_the_password_of_the_default_user() {
    let mut users = users();
    assert!(users.default_is_open());
    users.set_default_password(Some(b"secret"));
    assert!(!users.default_is_open());
    assert_eq!(users.authenticate(DEFAULT_NAME, b"secret"), Some(UserId::DEFAULT));
    assert_eq!(users.authenticate(DEFAULT_NAME, b"wrong"), None);
    users.set_default_password(Some(b"other"));
    assert_eq!(users.authenticate(DEFAULT_NAME, b"secret"), None);
    users.set_default_password(None);
    assert!(users.default_is_open());
    set(&mut users, "default off").map(drop).unwrap();
    assert!(!users.default_is_open());
}

#[test]
fn commands_are_allowed_one_by_one_by_category_and_with_a_first_argument() {
    let no_set = "User x has no permissions to run the 'set' command";
    let no_config_set = "User x has no permissions to run the 'config|set' command";
    for (rules, command, expected) in [
        ("~* +get", "get a", "OK"),
        ("~* +get", "set a b", no_set),
        ("~* +@read", "get a", "OK"),
        ("~* +@read", "set a b", no_set),
        ("~* +@all -@write", "set a b", no_set),
        ("~* +@all -get", "get a", NO_GET),
        ("~* +@all -get +get", "get a", "OK"),
        ("+config|get", "config get a", "OK"),
        ("+config|get", "config set a b", no_config_set),
        ("+config -config|set", "config set a b", no_config_set),
        ("+config -config|set", "config get a", "OK"),
        ("+@all -config", "config set a b", no_config_set),
        ("+select|0 +select|1", "select 1", "OK"),
        ("+select|0", "select 2", "User x has no permissions to run the 'select' command"),
        ("+select|0 -select", "select 0", "User x has no permissions to run the 'select' command"),
        ("~* +get|A", "get a", "OK"),
        // Nobody has to have rights to log in.
        ("", "auth a b", "OK"),
        ("", "hello", "OK"),
        ("", "ping", "User x has no permissions to run the 'ping' command"),
    ] {
        assert_eq!(tried(rules.trim(), command), expected, "{rules}: {command}");
    }
}

#[test]
fn keys_are_allowed_by_pattern_and_by_what_is_done_to_them() {
    let no_key = |key: &str| format!("User x has no permissions to access the '{key}' key");
    for (rules, command, denied) in [
        ("+@all ~a*", "get ab", None),
        ("+@all ~a*", "get b", Some("b")),
        ("+@all ~a*", "mget ab b c", Some("b")),
        ("+@all ~a ~b", "mget a b", None),
        ("+@all", "get a", Some("a")),
        ("+@all ~", "get a", Some("a")),
        ("+@all %R~a", "get a", None),
        ("+@all %R~a", "set a 1", Some("a")),
        ("+@all %W~a", "set a 1", None),
        ("+@all %W~a", "get a", Some("a")),
        // SET with GET reads as well; whether a key is there may be asked by either.
        ("+@all %W~a", "set a 1 GET", Some("a")),
        ("+@all %RW~a", "set a 1 GET", None),
        ("+@all %W~a", "exists a", None),
        ("+@all %W~a", "strlen a", None),
        ("+@all %R~a %W~b", "copy a b", None),
        ("+@all %R~a %W~b", "copy b a", Some("b")),
        ("+@all ~a", "ping", None),
        ("+@all ~a", "sort a store b", Some("b")),
    ] {
        let expected = denied.map_or("OK".to_owned(), no_key);
        assert_eq!(tried(rules, command), expected, "{rules}: {command}");
    }
}

#[test]
fn channels_are_allowed_by_pattern_and_patterns_to_the_letter() {
    let no_channel = |name: &str| format!("User x has no permissions to access the '{name}' channel");
    for (rules, command, denied) in [
        ("+@all &c*", "publish cd m", None),
        ("+@all &c*", "publish d c", Some("d")),
        ("+@all &c*", "subscribe c1 d", Some("d")),
        ("+@all &c*", "ssubscribe d", Some("d")),
        ("+@all &c*", "psubscribe c*", None),
        ("+@all &c*", "psubscribe c1", Some("c1")),
        ("+@all &c*", "unsubscribe d", None),
        ("+@all &c*", "punsubscribe d", None),
        ("+@all", "publish c m", Some("c")),
        ("+@all &*", "psubscribe x*", None),
    ] {
        let expected = denied.map_or("OK".to_owned(), no_channel);
        assert_eq!(tried(rules, command), expected, "{rules}: {command}");
    }
}

#[test]
fn one_selector_has_to_allow_the_whole_and_the_gravest_denial_is_told() {
    let no_key = |key: &str| format!("User x has no permissions to access the '{key}' key");
    for (rules, command, expected) in [
        ("+get ~a (+set ~b)", "get a", "OK".into()),
        ("+get ~a (+set ~b)", "set b 1", "OK".into()),
        ("+get ~a (+set ~b)", "get b", no_key("b")),
        ("+get ~a (+set ~b)", "set a 1", no_key("a")),
        ("+get ~a (+set ~b)", "ping", "User x has no permissions to run the 'ping' command".into()),
        ("+mget ~a (+mget ~a ~b)", "mget a b c", no_key("c")),
        ("+mget ~b (+mget ~a)", "mget a b c", no_key("b")),
        ("+mget ~a ~b (+mget ~a)", "mget a b c", no_key("c")),
        ("(+@all ~* &*)", "get a", "OK".into()),
    ] {
        assert_eq!(tried(rules, command), expected, "{rules}: {command}");
    }
}

#[test]
fn the_several_texts_of_a_denial() {
    let arguments = Words::new("get secret");
    let say = |denial: Denial| denial.error(b"n", "set").to_string();
    assert_eq!(say(Denial::Command), "NOPERM User n has no permissions to run the 'set' command");
    assert_eq!(say(Denial::Key(1)), "NOPERM No permissions to access a key");
    assert_eq!(say(Denial::Channel(1)), "NOPERM No permissions to access a channel");
    let exec = "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: ";
    for (denial, reason) in [
        (Denial::Command, "no permission to execute the command or subcommand"),
        (Denial::Key(1), "no permission to touch the specified keys"),
        (Denial::Channel(1), "no permission to access one of the channels used as arguments"),
    ] {
        assert_eq!(denial.exec_error().to_string(), format!("{exec}{reason}"));
    }
    assert_eq!(Denial::Key(1).object("get", arguments.args()), b"secret");
    assert_eq!(Denial::Command.object("get", arguments.args()), b"get");
    assert_eq!(not_found("Command", b"nosuch").to_string(), "ERR Command 'nosuch' not found");
}

#[test]
fn sort_by_what_the_data_name_takes_the_right_to_read_all_keys() {
    for (rules, may) in [
        ("+sort ~*", true),
        ("+sort %R~*", false),
        ("+sort %R~* ~l*", false),
        ("+sort %R~* %RW~list", true),
        ("+sort ~list", false),
        ("-sort ~list (+sort ~*)", true),
        ("+sort ~list (+get ~*)", false),
        ("+@all ~* &*", true),
    ] {
        let mut users = users();
        set(&mut users, &format!("x {rules}")).map(drop).unwrap();
        let arguments = Words::new("sort list by w_*");
        let row = row(arguments.args());
        let id = users.catalog().find(b"sort").unwrap();
        let attempt = Attempt::new(id, row, arguments.args());
        let user = users.find(b"x").unwrap().0;
        let expected = may || rules.contains("%R~*") && users.check(user, &attempt).is_ok();
        assert_eq!(users.reads_all_keys(user, &attempt), expected, "{rules}");
    }
}

#[test]
fn who_has_all_rights_is_known_by_one_flag() {
    for (rules, all) in [
        ("+@all ~* &*", true),
        ("+@all ~* &* -get +get", true),
        ("(+@all ~* &*)", true),
        ("+@all ~* &* -get", false),
        ("+@all ~*", false),
        ("+@all ~a &*", false),
        ("~* &*", false),
        ("+@all (~* &*)", false),
    ] {
        let mut users = users();
        set(&mut users, &format!("x {rules}")).map(drop).unwrap();
        assert_eq!(users.find(b"x").unwrap().1.is_unrestricted(), all, "{rules}");
    }
    assert!(users().is_unrestricted(UserId::SUPERUSER));
    assert_eq!(users().name(UserId::SUPERUSER), b"(superuser)");
}

#[test]
fn the_deleted_are_told_of_and_may_do_nothing() {
    let mut users = users();
    for line in ["a on +@all ~* &*", "b", "c"] {
        set(&mut users, line).map(drop).unwrap();
    }
    let (a, c) = (users.find(b"a").unwrap().0, users.find(b"c").unwrap().0);
    let error = users.delete(&[b"a", b"default"]).unwrap_err();
    assert_eq!(error.to_string(), "ERR The 'default' user cannot be removed");
    let (count, closing) = users.delete(&[b"a", b"nobody", b"c", b"a"]).unwrap();
    assert_eq!((count, closing), (2, Closing { gone: vec![a, c], lost_channels: None }));
    users.verify();
    assert!(!users.is_unrestricted(a) && users.get(a).is_none());
    assert_eq!(users.name(a), b"");
    let arguments = Words::new("ping");
    let row = row(arguments.args());
    let id = users.catalog().find(b"ping").unwrap();
    let attempt = Attempt::new(id, row, arguments.args());
    assert_eq!(users.check(a, &attempt), Err(Denial::Command));
    // One of the same name is another.
    set(&mut users, "a on +@all ~* &*").map(drop).unwrap();
    assert_ne!(users.find(b"a").unwrap().0, a);
    assert!(!users.is_unrestricted(a));
}

#[test]
fn who_listens_is_asked_after_when_channels_are_lost() {
    let lost = |before: &str, after: &str| {
        let mut users = users();
        set(&mut users, &format!("x {before}")).map(drop).unwrap();
        let id = users.find(b"x").unwrap().0;
        let closing = set(&mut users, &format!("x {after}")).unwrap();
        assert_eq!(closing.gone, []);
        assert!(closing.lost_channels.is_none_or(|user| user == id));
        closing.lost_channels.is_some()
    };
    assert!(lost("&*", "resetchannels"));
    assert!(lost("&*", "resetchannels &a"));
    assert!(lost("&a &b", "resetchannels &a"));
    assert!(lost("&a (&b)", "clearselectors"));
    assert!(!lost("&a", "&b"));
    assert!(!lost("&a", "allchannels"));
    assert!(!lost("&*", "-subscribe off"));
    assert!(!lost("&a", "resetchannels (&a)"));

    let mut users = users();
    set(&mut users, "x &a* (&b)").map(drop).unwrap();
    let id = users.find(b"x").unwrap().0;
    for (channel, is_pattern, hears) in [
        (&b"ab"[..], false, true),
        (b"b", false, true),
        (b"c", false, false),
        (b"a*", true, true),
        (b"ab", true, false),
    ] {
        assert_eq!(users.hears(id, channel, is_pattern), hears, "{}", channel.escape_ascii());
    }
    assert!(users.hears(UserId::DEFAULT, b"any", true));
}

#[test]
fn declared_users_are_made_at_the_start() {
    let mut users = users();
    users.set_default_password(Some(b"secret"));
    let arguments = |line: &str| split_args(line.as_bytes()).unwrap();
    let mut seen = Vec::new();
    for line in ["alice on nopass ~a (~b +get)", "bob +nosuch", "default on nopass +@all ~*"] {
        seen.push(Declaration::parse(&arguments(line), &seen, users.catalog()).unwrap());
    }
    let error = |line: &str| Declaration::parse(&arguments(line), &seen, users.catalog()).unwrap_err();
    assert_eq!(error("alice on"), (b"alice".to_vec(), RuleError::DuplicateUser));
    assert_eq!(error("carol on badrule"), (b"carol".to_vec(), RuleError::Syntax));
    assert_eq!(error("carol badrule"), (b"user".to_vec(), RuleError::Syntax));
    assert_eq!(error("carol on off badrule"), (b"on".to_vec(), RuleError::Syntax));

    let log = users.declare_all(&seen, ResetChannels, |_| ()).unwrap_err();
    assert_eq!(
        log,
        "Error loading ACL rule '+nosuch' for the user named 'bob': Unknown command or category name in ACL"
    );
    seen[1] = Declaration::parse(&arguments("bob +get"), &[], users.catalog()).unwrap();
    let mut disabled = Vec::new();
    users.declare_all(&seen, ResetChannels, |name| disabled.push(name.to_vec())).unwrap();
    assert_eq!(disabled, [b"bob"]);
    users.verify();
    assert!(users.default_is_open());
    assert_eq!(line(&users, "default"), "user default on nopass sanitize-payload ~* resetchannels +@all");
    let spaces = Declaration::parse(&[b"a b".to_vec()], &[], users.catalog()).unwrap();
    assert_eq!(
        users.declare_all(&[spaces], ResetChannels, |_| ()).unwrap_err(),
        "Spaces not allowed in ACL usernames"
    );
}

/// Loads a user file with this text: the error, with the file's name replaced by `F`.
fn load(users: &mut Users, content: &[u8]) -> Result<Closing, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.acl");
    std::fs::write(&path, content).unwrap();
    let result = users.load(&path, ResetChannels);
    users.verify();
    result.map_err(|error| text(error).replace(&path.display().to_string(), "F"))
}

#[test]
fn a_user_file_is_loaded_whole_or_not_at_all() {
    let mut users = users();
    set(&mut users, "old on").map(drop).unwrap();
    let before: Vec<_> = users.iter().map(User::line).collect();
    let end = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    let unknown = "Unknown command or category name in ACL";
    for (content, expected) in [
        ("# a comment\n", "F:1 should start with user keyword followed by the username. ".to_owned()),
        ("\n\nuser\n", "F:3 should start with user keyword followed by the username. ".into()),
        ("USER a on\n", "F:1 should start with user keyword followed by the username. ".into()),
        (
            "user a +nosuch +nosuch2\n",
            format!(
                "F:1: Error in applying operation '+nosuch': {unknown}. F:1: Error in applying operation '+nosuch2': {unknown}. "
            ),
        ),
        ("user a bad worse\nuser b bad\n", "F:1: Syntax error. F:2: Syntax error. ".into()),
        ("user x on\nuser x off\n", "WARNING: Duplicate user 'x' found on line 2. ".into()),
        ("user a\tb on\n", "'F:1: username 'a\tb' contains invalid characters. ".into()),
        ("user a (~x +get\n", "F:1: Unmatched parenthesis in selector definition.".into()),
    ] {
        assert_eq!(load(&mut users, content.as_bytes()), Err(format!("{expected}{end}")), "{content}");
        assert_eq!(users.iter().map(User::line).collect::<Vec<_>>(), before);
    }
    let nowhere = users.load(std::path::Path::new("/nonexistent/users.acl"), ResetChannels).unwrap_err();
    assert_eq!(
        text(nowhere),
        "Error loading ACLs, opening file '/nonexistent/users.acl': No such file or directory"
    );
}

#[test]
fn a_user_file_takes_the_place_of_all_users() {
    let mut users = users();
    users.set_default_password(Some(b"secret"));
    set(&mut users, "old on").map(drop).unwrap();
    set(&mut users, "same on +get").map(drop).unwrap();
    let (old, same) = (users.find(b"old").unwrap().0, users.find(b"same").unwrap().0);
    let closing =
        load(&mut users, b"\n  user same on +get \r\nuser  off\nuser b (~a   +get) +set\n").unwrap();
    assert_eq!(closing, Closing { gone: vec![old, same], lost_channels: None });
    let lines: Vec<_> = users.iter().map(|user| text(user.line())).collect();
    assert_eq!(
        lines,
        [
            "user  off sanitize-payload resetchannels -@all",
            "user b off sanitize-payload resetchannels -@all +set (~a resetchannels -@all +get)",
            "user default on nopass sanitize-payload ~* &* +@all",
            "user same on sanitize-payload resetchannels -@all +get",
        ]
    );
    assert_ne!(users.find(b"same").unwrap().0, same);
    let _ = load(&mut users, b"user default on >p ~* +get").unwrap();
    assert_eq!(users.len(), 1);
    assert!(!users.default_is_open() && !users.is_unrestricted(UserId::DEFAULT));
}

#[test]
fn a_user_file_is_written_whole_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.acl");
    let mut users = users();
    set(&mut users, "alice on >pw ~a (~b +get)").map(drop).unwrap();
    users.save(&path, 1).unwrap();
    let written = std::fs::read_to_string(&path).unwrap();
    let hash = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4";
    assert_eq!(
        written,
        format!(
            "user alice on sanitize-payload #{hash} ~a resetchannels -@all (~b resetchannels -@all +get)\nuser default on nopass sanitize-payload ~* &* +@all\n"
        )
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no other file is left");
    let nowhere = users.save(&dir.path().join("none/users.acl"), 1).unwrap_err();
    assert_eq!(nowhere.to_string(), "Opening temp ACL file for ACL SAVE: No such file or directory");
    let error = users.save(dir.path(), 1).unwrap_err();
    assert!(error.to_string().starts_with("Renaming ACL file for ACL SAVE: "), "{error}");
}

/// A rule, mostly a right one.
fn rule() -> impl Strategy<Value = String> {
    let command = prop::sample::select(vec![
        "get",
        "set",
        "GETSET",
        "config",
        "config|get",
        "Config|Set",
        "client",
        "client|kill",
        "select",
        "select|0",
        "select|'1'",
        "get|K",
        "@read",
        "@write",
        "@ALL",
        "@all",
        "@slow",
        "@fast",
        "@dangerous",
        "@admin",
        "memory|usage",
        "nosuch",
        "config|x",
        "@nosuch",
    ]);
    let pattern =
        prop::sample::select(vec!["a", "a*", "b:[a-c]", "*", "", "x\"y", "q'", "\\x", "(", ")", "%"]);
    let prefix = prop::sample::select(vec!["~", "%R~", "%W~", "%rw~", "&", "&", "~"]);
    let argument = prop::sample::select(vec![
        "on",
        "off",
        "nopass",
        "resetpass",
        "reset",
        "resetkeys",
        "resetchannels",
        "allkeys",
        "allchannels",
        "clearselectors",
        "skip-sanitize-payload",
        "sanitize-payload",
        ">pw",
        "<pw",
        ">qw",
        "nocommands",
        "allcommands",
        "",
    ]);
    prop_oneof![
        4 => ("[+-]", command).prop_map(|(sign, name)| format!("{sign}{name}")),
        4 => (prefix, pattern).prop_map(|(prefix, pattern)| format!("{prefix}{pattern}")),
        2 => argument.prop_map(str::to_owned),
    ]
}

/// A rule or a selector of some.
fn rule_or_selector() -> impl Strategy<Value = String> {
    let quoted = |rules: Vec<String>| {
        let arguments = rules.into_iter().map(|rule| {
            let mut argument = Vec::new();
            crate::config::line::push_quoted(&mut argument, rule.as_bytes());
            String::from_utf8(argument).unwrap()
        });
        format!("({})", arguments.collect::<Vec<_>>().join(" "))
    };
    prop_oneof![6 => rule(), 1 => prop::collection::vec(rule(), 0..4).prop_map(quoted)]
}

/// Obeys those of the rules that are right by themselves.
fn obey(users: &mut Users, name: &[u8], rules: &[String]) {
    assert!(users.set_user(name, &[], ResetChannels).is_ok());
    for rule in rules {
        let before = users.find(name).unwrap().1.clone();
        match users.set_user(name, &[rule.as_bytes()], ResetChannels) {
            Ok(_) => users.verify(),
            Err(_) => assert_eq!(users.find(name).unwrap().1, &before, "a refused rule changes nothing"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_describes_a_user_makes_the_same_user(rules in prop::collection::vec(rule_or_selector(), 0..12)) {
        let mut users = users();
        obey(&mut users, b"x", &rules);
        obey(&mut users, b"", &rules);
        obey(&mut users, b"na'\"me", &rules);
        let lines: Vec<_> = users.iter().map(User::line).collect();

        let mut loaded = self::users();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.acl");
        users.save(&path, 0).unwrap();
        prop_assert!(loaded.load(&path, ResetChannels).is_ok());
        loaded.verify();
        prop_assert_eq!(loaded.iter().map(User::line).collect::<Vec<_>>(), lines.clone());

        let mut declared = self::users();
        let mut seen = Vec::new();
        for line in users.config_lines() {
            let arguments = split_args(&line).expect("a line that can be read");
            seen.push(Declaration::parse(&arguments[1..], &seen, users.catalog()).unwrap());
        }
        prop_assert!(declared.declare_all(&seen, ResetChannels, |_| ()).is_ok());
        declared.verify();
        prop_assert_eq!(declared.iter().map(User::line).collect::<Vec<_>>(), lines);
        for name in [&b"x"[..], b"", b"na'\"me"] {
            let user = users.find(name).unwrap().1;
            prop_assert_eq!(loaded.find(name).unwrap().1.root(), user.root());
            prop_assert_eq!(declared.find(name).unwrap().1.further_selectors(), user.further_selectors());
        }
    }

    #[test]
    fn any_bytes_are_rules_or_refused(arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..4)) {
        let mut users = users();
        let rules: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let _ = users.set_user(b"x", &rules, ResetChannels);
        users.verify();
    }

    #[test]
    fn any_file_is_loaded_or_refused(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut users = users();
        let _ = load(&mut users, &content);
        let _ = load(&mut users, &[b"user x ", &content[..]].concat());
    }
}
