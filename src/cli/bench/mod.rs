//! cli::bench — a load generator that is honest about latency, for any server of etcd's API.
//! On no step of a write: it stands where clients stand. In: a scenario and endpoints. Out: one
//! `Run` for each, shown as a table, JSON, a log of histograms or a page.
//! Owns: what was measured, until it is written.
//! Invariants: (1) a latency counts from the moment a request was due, not from when it could be
//!             sent; (2) no latency is clamped or left out: what did not finish is counted as
//!             such; (3) what the generator itself cost and how late it was stands beside the
//!             figures.
//! Limits: `recorder::ERROR_TEXTS_MAX`.
//! Must not: know which server it measures.
//! Tests: at the bottom of each file.

mod args;
mod chart;
mod command;
pub mod cost;
mod engine;
pub mod hdrlog;
pub mod html;
pub mod json;
pub mod latencies;
pub mod recorder;
pub mod result;
mod run;
#[cfg(test)]
mod samples;
mod saved;
mod scenarios;
mod schedule;
mod search;
pub mod table;
mod values;
mod verdict;

pub use command::main;

use super::units;
