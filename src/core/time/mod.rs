//! Durations, instants, windows.

pub mod deadline_queue;
pub mod duration;
pub mod timestamp;
pub mod window;
