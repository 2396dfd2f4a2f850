//! Callers, and the calls that each of them may make: the decisions behind `[[callers]]`. All are functions of their
//! arguments; `app` reads the files, and `proxy` asks and obeys.
//!
//! Read [`table`] first: it tells callers apart. [`permission`] has the words of `allow`, [`amount`] and [`body`] what
//! `max_amount` bounds, [`issued`] the tokens that callers get for their own keys, and [`secrets`] how a secret changes.

pub mod amount;
pub mod body;
pub mod issued;
mod memo;
pub mod named;
pub mod permission;
pub mod secrets;
pub mod table;
