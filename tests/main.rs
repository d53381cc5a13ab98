//! Every test that drives the real program, in one crate: it is linked once, and the harness is compiled once.
//!
//! `cargo test --test main replication` runs one file of it. Each module below is a chapter of its own; `support` is the
//! harness they share, and `tidy` reads the sources themselves.

mod support;

mod acl;
mod admin;
mod advisories;
mod aof;
mod bridge;
mod burdens;
mod clients;
mod command_table;
mod config_example;
mod connection;
mod crash;
mod crossing;
mod debian_cli;
mod differential;
mod disk_full;
mod end_of_input;
mod endings;
mod exporter;
mod failover;
mod first_hour;
mod fuzz_smoke;
mod harness;
mod hash_field_times;
mod lists;
mod memory_limits;
mod migrate;
mod newer_admin;
mod peers;
mod pipelines;
mod rdb;
mod redis_cli;
mod refusals;
mod replication;
mod replication_backlog;
mod replication_diskless;
mod replication_faults;
mod replication_load;
mod replication_real;
mod replication_shield;
mod scripts;
mod streams;
mod tidy;
mod tracking;
