//! The fleet: what many sidecars tell each other through Redis or Valkey, so that a lookup through one shows the writes
//! through all.
//!
//! Every pod appends the beginning and the end of its writes to one log, and reads that log at short intervals. [`log`]
//! is the state of one pod's link, which decides and does no I/O. [`link`] is the task that talks to the server, and
//! [`pod`] is the state that the link and the session cache share. [`life`] says how long a pod may serve a body of
//! another pod, and [`crate::session::horizon`] how long memory may be trusted. Read next: [`entry`], for the entries
//! of the log. `docs/fleet-protocol.md` explains the protocol and its reasons.

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
