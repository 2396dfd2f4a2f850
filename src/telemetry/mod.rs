//! Everything the program tells its operators: metrics, logs, traces and recent errors.

pub mod last_time;
pub mod log;
pub mod metrics;
pub mod recent_errors;
pub mod spans;
pub mod trace;
pub mod unknown_writes;
