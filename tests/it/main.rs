//! The product's promises, each proven against the real server over real sockets, with the simulated gateway behind it.
//! One file per promise; `support` has the shared helpers. `tests/otlp.rs` has `exported_spans`, which needs a feature.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test that fails may panic, and measures real time"
)]

mod admission_and_headers;
mod alert_rules;
mod alerts_fire;
mod architecture;
mod audit;
mod audit_page;
mod audit_trouble;
mod bad_answers;
mod being_the_gateway;
mod callers;
mod card_data;
mod check_online;
mod classes_kept_apart;
mod clients_never_write_twice;
mod commands;
mod connecting;
mod connection_limits;
mod connection_reuse;
mod control_commands;
mod cut_bodies;
mod dashboard_panels;
mod docs;
mod documented_calls;
mod drain;
mod drift;
mod egress_proxy;
mod entity_tags;
mod explain_and_purge;
mod failing_clocks;
mod faults;
mod fleet_at_rest;
mod fleet_bodies;
mod fleet_clocks;
mod fleet_demo;
mod fleet_engines;
mod fleet_fail_open;
mod fleet_failover;
mod fleet_faults;
mod fleet_flights;
mod fleet_history;
mod fleet_link;
mod fleet_operations;
mod fleet_promise;
mod fleet_restart;
mod fleet_shared;
mod fuzz_corpus;
mod gateway_proves_its_name;
mod guides;
mod healthcheck_and_wait;
mod help_and_completions;
mod hostile;
mod http2_callers;
mod image;
mod key_rotation;
mod kubernetes;
mod leaks;
mod links_lead_back;
mod logging_delays_nobody;
mod metrics_and_health;
mod name_servers;
mod odd_files;
mod one_token;
mod openapi_replay;
mod own_credentials;
mod passthrough;
mod path_meanings;
mod printed_commands;
mod read_your_writes;
mod release;
mod reload;
mod retries;
mod revalidation;
mod rfc9111;
mod same_for_every_client;
mod shared_fetches;
mod shortages;
mod simulate;
mod stale_if_error;
mod status_command;
mod status_conditions;
mod status_json;
mod status_page;
mod stored_sessions;
mod stream_limit;
mod support;
mod systemd;
mod tls_authorities;
mod tls_callers;
mod tls_certificates_that_end;
mod tls_floods;
mod unix_sockets;
mod unmodified_clients;
mod version_1;
mod webhook_subscription;
mod webhooks;
mod what_the_log_says;
mod writes;
mod writes_are_answered;
