//! Logs panics as events. Without this, a panic would be text on standard error.

use std::panic;
use std::thread;

use tracing::Level;

/// Logs every panic from now on. A panic inside the log still goes to standard error.
pub fn log_panics() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        // `enabled!` is false while this thread is inside the log.
        if !tracing::enabled!(Level::ERROR) {
            return usual(panicked);
        }
        let place = panicked.location().map(ToString::to_string);
        let reason = panicked.payload_as_str().map(without_quotations);
        let thread = thread::current();
        tracing::error!(
            thread = thread.name(),
            place,
            reason,
            "the sidecar panicked: this is a defect of sezzle-sidecar, please report it"
        );
    }));
}

/// The message of a panic up to the first quoted value, which could be a secret.
fn without_quotations(reason: &str) -> String {
    reason.split(['`', '"', '\n']).next().unwrap_or_default().chars().take(LONGEST).collect()
}

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out() {
        for (reason, logged) in [
            ("OS can't spawn worker thread: Resource temporarily unavailable", None),
            (
                "byte index 1 is not a char boundary; it is inside 'c' of `sz_pr_canary`",
                Some("byte index 1 is not a char boundary; it is inside 'c' of "),
            ),
            ("called `Result::unwrap()` on an `Err` value: \"canary\"", Some("called ")),
        ] {
            assert_eq!(without_quotations(reason), logged.unwrap_or(reason));
        }
        assert_eq!(without_quotations(&"x".repeat(500)).len(), 200);
    }
}
