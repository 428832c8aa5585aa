//! End to end: the program as it ships, on loopback, in temporary folders. One binary, so that it links once.
//!
//! Nothing sleeps for a fixed time: a condition is polled until a deadline that says what it waited for. Ports are 0.
//! `AMS2_TEST_LONG=1` kills five times as often, and plays ten times as many scripts beside Alertmanager; `AMS2_TEST_SEED=n`
//! repeats the choices of a random test, `AMS2_DIFF_SEED=n` plays one script.
// Figures that a person compares between runs (lost, duplicated, points, the seed) go to the test's output.
#![allow(clippy::print_stderr)]

mod access;
mod amtool;
mod authority;
mod bad_input;
mod brought_over;
mod check;
mod clients;
mod differential;
mod disk;
mod docs;
mod examples;
mod fair;
mod files;
mod filesystems;
mod forward;
mod four_actions;
mod harness;
mod heartbeats;
mod hostile;
mod hosts;
mod inbound;
mod isolation;
mod kill;
mod mail;
mod operate;
mod postfix;
mod power;
mod prometheus;
mod readme;
mod reload;
mod rsyslog;
mod schema;
mod snmp;
mod snmp_in;
mod snmptrapd;
mod sns;
mod syscalls;
mod syslog;
mod syslog_in;
mod syslog_senders;
mod template;
mod webhook;
