//! The fleet: what many sidecars tell each other through Redis or Valkey, so that a lookup through one shows the writes
//! through all. Nothing of the running sidecar uses this module so far.
//!
//! Every pod appends the beginning and the end of its writes to one log, and reads that log at short intervals. This
//! folder decides and does no I/O: [`log`] is the state of one pod's link, and [`life`] says how long a body lives that
//! another pod fetched. [`crate::session::horizon`] says what memory may still be trusted. Read next: [`entry`], for
//! what stands in the log. `docs/fleet-protocol.md` explains the protocol and its reasons.

pub mod body;
pub mod commands;
pub mod connect;
pub mod entry;
pub mod failure;
pub mod keys;
pub mod life;
pub mod log;
pub mod names;
pub mod pace;
pub mod refusal;
pub mod replies;
pub mod seal;
mod stream;
