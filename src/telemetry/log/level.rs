//! Decides which events are logged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, callsite};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The levels by name, the quietest first.
pub const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Prefix of the targets of this crate's own events.
pub(super) const OWN: &str = env!("CARGO_CRATE_NAME");

/// A log level that can change at run time.
#[derive(Clone, Debug)]
pub(super) struct Level(Arc<AtomicU8>);

impl Level {
    pub(super) fn new(level: LevelFilter) -> Self {
        Self(Arc::new(AtomicU8::new(number(level))))
    }

    pub(super) fn get(&self) -> LevelFilter {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        LEVELS.get(number).map_or(LevelFilter::OFF, |(_, level)| *level)
    }

    pub(super) fn set(&self, level: LevelFilter) {
        self.0.store(number(level), Ordering::Relaxed);
        // `tracing` caches the decision for each callsite.
        callsite::rebuild_interest_cache();
    }
}

/// The stored value of a level: its position in [`LEVELS`].
fn number(level: LevelFilter) -> u8 {
    LEVELS.iter().position(|(_, known)| *known == level).and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX)
}

/// Passes events of the level in force or of a more severe one. The decision for a callsite changes only with the
/// level, so `tracing` asks once for each callsite.
pub(super) struct LevelLayer(pub(super) Level);

impl LevelLayer {
    /// Whether an event passes. An event of a library below a warning never passes, because libraries log whole header
    /// blocks at such levels, and the bearer token is in them.
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.0.get();
        let own = metadata.target().strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        *metadata.level() <= if own { level } else { level.min(LevelFilter::WARN) }
    }
}

impl<S: Subscriber> Layer<S> for LevelLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.lets_through(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.get())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn libraries_stop_at_warnings_and_the_level_can_change() {
        let level = Level::new(LevelFilter::INFO);
        let log = tracing_subscriber::registry().with(LevelLayer(level.clone()));
        let seen = || {
            [
                tracing::enabled!(tracing::Level::DEBUG),
                tracing::enabled!(tracing::Level::INFO),
                tracing::enabled!(tracing::Level::ERROR),
                tracing::enabled!(target: "hyper::proto", tracing::Level::INFO),
                tracing::enabled!(target: "hyper::proto", tracing::Level::WARN),
                tracing::enabled!(target: "sezzle_sidecar_like", tracing::Level::INFO),
            ]
        };
        tracing::subscriber::with_default(log, || {
            for (name, expected) in [
                ("info", [false, true, true, false, true, false]),
                ("trace", [true, true, true, false, true, false]),
                ("error", [false, false, true, false, false, false]),
                ("warn", [false, false, true, false, true, false]),
            ] {
                let (_, wanted) = LEVELS.into_iter().find(|(word, _)| *word == name).expect("a level");
                level.set(wanted);
                assert_eq!((seen(), level.get()), (expected, wanted), "{name}");
            }
        });
    }
}
