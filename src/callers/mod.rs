//! Callers, and the calls that each of them may make: the decisions behind `[[callers]]`. All are functions of their
//! arguments; `app` reads the files, and `proxy` asks and obeys.
//!
//! Read [`table`] first, which tells callers apart. [`permission`] has the words of `allow`, [`amount`] and [`body`]
//! read what `max_amount` bounds, [`issued`] makes the tokens that callers get for their own keys, and [`secrets`]
//! decides for how long a replaced secret counts.

pub mod amount;
pub mod body;
pub mod issued;
mod memo;
pub mod named;
pub mod permission;
pub mod secrets;
pub mod table;
