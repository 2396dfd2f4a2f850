//! The control interface: all that a test does with [`Simulator`](crate::simulator::Simulator), over HTTP.
//!
//! The interface shares the gateway's port, below a prefix that Sezzle does not have. Rules do not apply to its
//! requests, and the journal does not note them. [`parse`] turns a request into a [`Command`] without any I/O; `calls`
//! lists all commands.

mod calls;
mod command;
mod error;
mod gates;
mod input;
mod page;
mod rules;
mod serve;
mod settings;

pub use self::calls::parse;
pub use self::command::Command;
pub use self::error::CommandError;
pub(super) use self::gates::Gates;
pub use self::input::PREFIX;
pub(super) use self::serve::serve;

#[cfg(test)]
mod tests;
