//! The interfaces of systemd for services: sockets opened before the start, and status reports.
//!
//! Environment variables configure both; without them nothing happens. The process does not depend on systemd: it links
//! no library of systemd, and any manager with the same two protocols works.

pub mod notify;
pub mod sockets;
