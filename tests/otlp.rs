//! The tests that a build with the feature `otlp` may change. `tests/it` has all tests; a second build of all of them
//! would show nothing more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test that fails may panic, and measures real time"
)]
#![allow(dead_code, reason = "most of the support is for the other tests")]

#[path = "it/architecture.rs"]
mod architecture;
#[path = "it/docs.rs"]
mod docs;
#[path = "it/exported_spans.rs"]
mod exported_spans;
#[path = "it/metrics_and_health.rs"]
mod metrics_and_health;
#[path = "it/support/mod.rs"]
mod support;
