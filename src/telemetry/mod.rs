//! Everything the program tells its operators: metrics, logs, traces and recent errors.

pub mod log;
pub mod metrics;
pub mod recent_errors;
pub mod spans;
pub mod trace;
