//! ams2: connects. The rooms stand in the order of an alert's way.

pub mod alertmanager;
pub mod cli;
pub mod config;
pub mod console;
mod denied;
pub mod flight;
pub mod handler;
pub mod hosts;
pub mod journal;
pub mod originator;
pub mod poison;
pub mod pool;
pub mod router;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod upkeep;
pub mod wording;
