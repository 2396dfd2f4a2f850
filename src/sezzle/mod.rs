//! Sezzle's own words: what its bodies and dates mean to this program, and nothing about how they travel.

pub mod error;
pub mod session;
pub mod time;
