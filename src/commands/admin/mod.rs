//! Commands for who administers a server: configuration, introspection, saving, debugging.

pub mod acl;
pub mod command;
pub mod commandlog;
pub mod config;
pub mod debug;
pub mod debug_values;
pub mod hotkeys;
pub mod info;
pub mod introspect;
pub mod latency;
pub mod modules;
pub mod saving;
