//! Skeleton.
pub mod config;
pub mod secret;
#[cfg(feature = "simulator")]
pub mod simulator;
