//! What the program tells its operators: metrics and logs.

pub mod log;
pub mod metrics;
