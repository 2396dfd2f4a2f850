//! The meaning of Sezzle's bodies and dates for this program, apart from their transport.

pub mod clock;
pub mod error;
pub mod identifier;
pub mod session;
pub mod time;
pub mod write_answer;
