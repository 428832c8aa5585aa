//! The deterministic alert router of ams2: inputs in, effects out, no I/O.
//!
//! `core` holds one state machine, [`Machine`], folded over the journal. It is `#![no_std]`, so files, sockets,
//! threads, clocks and the environment cannot even be named here: the same journal gives the same effects, byte
//! for byte, on every machine. Time is always an argument ([`At`]), and arrives with the journal's record.
//!
//! Where to start reading: [`input`] (what can happen), [`effect`] (what follows), [`config`] (what the admin
//! wants), then `machine`.
#![no_std]

extern crate alloc;

pub mod batch;
pub mod calendar;
pub mod config;
pub mod decimal;
pub mod effect;
pub mod fingerprint;
pub mod input;
pub mod machine;
pub mod matcher;
mod printable;
mod re2;
pub mod severity;
pub mod silence;
pub mod time;
pub mod trail;

pub use batch::{AlertBatch, AlertError, AlertRef, BatchBuilder};
pub use config::Config;
pub use effect::{Effect, Reason, Record};
pub use fingerprint::Fingerprint;
pub use input::{DeliveryId, Input, Position};
pub use machine::Machine;
pub use severity::{Severities, Severity};
pub use time::{At, Wall};
