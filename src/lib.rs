//! sezzle-sidecar: a caching reverse proxy that runs beside a service and is called instead of the Sezzle payment
//! gateway.
//!
//! # Layout
//! Modules in the order in which a request meets them:
//!
//! - [`server`]: from sockets to requests. Accept, connection limits and timers, drain.
//! - [`proxy`]: the handling of one request, from top to bottom.
//! - [`session`]: the session cache: what is stored, what is served, and what a write invalidates.
//! - [`credentials`]: from keys to bearer tokens.
//! - [`upstream`]: connections to Sezzle.
//!
//! Not on the path of a request: [`webhook`] (notifications from Sezzle), [`ops`] (metrics and health), [`status`] (the
//! status page), [`control`] (the commands of operators), [`online_check`] (`check --online`), [`telemetry`],
//! [`config`].
//!
//! Also: [`audit`] (a record of the calls that move money) and [`fleet`] (what the sidecars of a merchant tell each
//! other about their writes).
//!
//! Leaves, which use none of the modules above: [`address`], [`caller`] (what a connection tells of its caller),
//! [`callers`] (which caller may make which call), [`sezzle`] (Sezzle's formats), [`drift`] (whether Sezzle's bodies
//! keep to these formats), [`mod@boxed`] (boxes whose content is made in them), [`systemd`] (the service manager's
//! protocol), [`clock`], [`hop_by_hop`], [`http_client`] (limits of the HTTP client), [`secret`], [`text`] (texts for
//! the log), [`worker`], [`threads`] (blocking calls), [`mod@file`] (files that an operator names), [`method`] (safe
//! methods), [`units`] (durations and sizes), [`names`] (name resolution), [`peer_body`] (a complete body or an error),
//! [`supervisor`] (tasks that must live as long as the process).
//!
//! [`app`] puts everything together.
//!
//! Imports point one way: `app` to `server`, `control`, `status`, `ops`, `webhook` and `proxy`, these to `session`,
//! `credentials` and `upstream`, and these to the leaves. The simulated gateway in `simulator` shares only [`units`]
//! with the rest.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests read files of their own and start threads"))]

pub mod app;
pub mod cli;
pub mod server;

pub mod audit;
pub mod proxy;

pub mod credentials;
pub mod fleet;
pub mod session;
pub mod upstream;

pub mod control;
pub mod online_check;
pub mod ops;
pub mod status;
pub mod webhook;

pub mod config;
pub mod telemetry;

pub mod address;
pub mod boxed;
pub mod caller;
pub mod callers;
pub mod clock;
pub mod drift;
pub mod file;
pub mod hop_by_hop;
pub mod http_client;
pub mod method;
pub mod names;
pub mod peer_body;
pub mod secret;
pub mod sezzle;
pub mod supervisor;
pub mod systemd;
pub mod text;
pub mod threads;
pub mod units;
pub mod worker;

#[cfg(feature = "simulator")]
pub mod simulator;
