//! The fleet: what many sidecars tell each other through Redis or Valkey, so that a lookup through one shows the writes
//! through all.
//!
//! Every pod appends the beginning and the end of its writes to one log, and reads that log at short intervals. [`log`]
//! decides and does no I/O: it is the state of one pod's link. [`link`] is the task that talks to the server, and
//! [`pod`] is what both the link and the session cache hold. [`life`] says how long a body lives that another pod
//! fetched, and [`crate::session::horizon`] what memory may still be trusted. Read next: [`entry`], for what stands in
//! the log. `docs/fleet-protocol.md` explains the protocol and its reasons.

mod apply;
pub mod bodies;
pub mod body;
pub mod commands;
pub mod connect;
mod conversation;
pub mod entry;
pub mod failure;
mod idle;
pub mod inspect;
mod join;
mod journal;
pub mod key_ring;
pub mod keys;
pub mod life;
pub mod link;
pub mod log;
pub mod names;
pub mod pace;
mod pause;
pub mod pod;
pub mod refusal;
pub mod replies;
pub mod seal;
mod sentinels;
pub mod slots;
mod stream;
