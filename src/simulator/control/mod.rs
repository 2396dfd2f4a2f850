//! The control interface: over HTTP, a test can do all that it can do with [`Simulator`](crate::simulator::Simulator).
//!
//! The interface shares the gateway's port, below a prefix that Sezzle does not have. Rules do not apply to requests to
//! the interface, and the journal does not note them. [`parse`] turns a request into a [`Command`] without any I/O;
//! `calls` lists all commands.

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
