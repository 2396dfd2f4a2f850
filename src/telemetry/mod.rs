//! What the program tells its operators: metrics, logs, which traces those belong to, and what went wrong lately.

pub mod log;
pub mod metrics;
pub mod spans;
pub mod trace;
pub mod troubles;
