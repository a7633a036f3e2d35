//! The process: streams, lanes, locks, metrics and the command line.
