//! What the program tells its operators: metrics, logs, and what went wrong lately.

pub mod log;
pub mod metrics;
pub mod troubles;
