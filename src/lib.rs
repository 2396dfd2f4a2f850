//! sezzle-sidecar: a caching reverse proxy that runs beside a service and is called instead of the Sezzle payment
//! gateway.
//!
//! # Layout
//! In the order a request meets them:
//!
//! - [`server`]: sockets to requests. Accept, connection limits and timers, drain.
//! - [`proxy`]: one request, top to bottom.
//! - [`session`]: the session cache. What is stored, what is served, what a write does to it.
//! - [`credentials`]: keys to bearer tokens.
//! - [`upstream`]: the way out to Sezzle.
//!
//! Beside the request's way: [`webhook`] (what Sezzle tells by itself), [`ops`] (metrics and health), [`status`] (the page
//! for people), [`control`] (what steers the process), [`contact`] (the first contact with Sezzle), [`telemetry`],
//! [`config`]. Leaves that know nothing of the others: [`address`], [`caller`], [`sezzle`] (Sezzle's own words), [`systemd`]
//! (who starts and stops it), [`clock`], [`hop_by_hop`], [`secret`], [`worker`], [`threads`] (calls that block), [`mod@file`]
//! (files that an operator names), [`method`] (which are safe), [`units`] (durations and sizes), [`names`] (name resolution), [`peer_body`] (a body that is
//! whole or an error), [`supervisor`] (tasks that must live as long as the
//! process). [`app`] puts it all together.
//!
//! Imports point one way: `app` to `server`, `control`, `status`, `ops`, `webhook` and `proxy`, those to `session`,
//! `credentials` and `upstream`, those to the leaves. The simulated gateway in `simulator` shares nothing with the rest but [`units`].

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests read files of their own and start threads"))]

pub mod app;
pub mod cli;
pub mod server;

pub mod proxy;

pub mod credentials;
pub mod session;
pub mod upstream;

pub mod contact;
pub mod control;
pub mod ops;
pub mod status;
pub mod webhook;

pub mod config;
pub mod telemetry;

pub mod address;
pub mod caller;
pub mod clock;
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
pub mod threads;
pub mod units;
pub mod worker;

#[cfg(feature = "simulator")]
pub mod demo;
#[cfg(feature = "simulator")]
pub mod simulate;
#[cfg(feature = "simulator")]
pub mod simulator;
