//! The directive table against a real server's list, the grammar, and the texts of refusals.

use super::*;
use crate::structures::glob;
use std::ffi::OsString;

const SETTER: Setter = Setter { is_local: true, loading: false };

fn load(text: &str) -> Result<Config, FatalConfig> {
    Invocation { stdin: true, ..Invocation::default() }.load_with(&mut text.as_bytes())
}

fn refusal(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

fn invocation(args: &[&str]) -> Invocation {
    Invocation::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
}

fn get(config: &Config, name: &str) -> String {
    let found = config.get(&[name.as_bytes()], glob::matches);
    let [(_, value)] = found.as_slice() else { panic!("{name}: {found:?}") };
    String::from_utf8_lossy(value).into_owned()
}

fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<Change>, SetError> {
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    config.set_many(&pairs, SETTER)
}
