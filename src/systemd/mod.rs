//! What systemd and its like offer a service: sockets that were opened before it started, and a way to say how it fares.
//!
//! Both come by environment variables, and without those nothing of it happens. The process is not bound to systemd:
//! nothing is linked, and whoever speaks the same two protocols will do.

pub mod notify;
pub mod sockets;
