//! The programs: operator, sweep, drain and the command line.

pub mod cli;
mod drain;
mod error;
mod operator;
mod stop;
mod sweep;
mod telemetry;
mod terminal;
