//! The product's promises, each proven against the real server over real sockets, with the simulated gateway behind it.
//! One file per promise; `support` has the shared helpers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test that fails may panic, and measures real time"
)]

mod answered;
mod architecture;
mod bad_input;
mod binary;
mod cache;
mod calls;
mod card_data;
mod clients;
mod clocks;
mod command_line;
mod contact;
mod contract;
mod control;
mod corpus;
mod credentials;
mod cut_bodies;
mod dashboard;
mod docs;
mod drain;
mod egress;
mod entity_tags;
mod faults;
mod flight;
mod health;
mod hostile;
mod http2;
mod image;
mod inbound;
mod kubernetes;
mod leaks;
mod links;
mod listener;
mod logs;
mod metrics;
mod odd_files;
mod openapi;
mod operators;
#[cfg(feature = "otlp")]
mod otlp;
mod own_credentials;
mod passthrough;
mod pool;
mod pressure;
mod prometheus;
mod read_your_writes;
mod reload;
mod retries;
mod revalidation;
mod rfc9111;
mod rotation;
mod rules;
mod shortages;
mod silence;
mod simulate;
mod stacks;
mod stale;
mod status_page;
mod streams;
mod support;
mod systemd;
mod tls;
mod unix;
mod upstream;
mod webhooks;
mod writes;
