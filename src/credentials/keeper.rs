//! The one task that exchanges keys for tokens: in time, when a request needs one, and when the key files hold another
//! pair. A new pair is used only once it has authenticated as the same merchant; until then the one before stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::exchange::{ExchangeError, Granted, exchange};
use super::keys::{KeyPair, KeySources};
use super::rotation::{INTERVAL, Rotation, Seen, Step, changed};
use super::watch::{Events, Folders, watch as watch_folders};
use super::{TokenManager, schedule, seconds};
use crate::clock::{Clock, Deadline, Mono};
use crate::telemetry::log::millis;
use crate::telemetry::troubles::Kind;
use crate::upstream::Upstream;

/// Keeps a token live.
pub struct Keeper {
    tokens: Arc<TokenManager>,
    upstream: Upstream,
    sources: Arc<KeySources>,
    /// Other sources, or the same ones to be looked at now.
    told: watch::Receiver<KeySources>,
    rotation: Rotation,
    /// When the next exchange of the pair in use is due.
    refresh_at: Mono,
}

/// The key files, where there are any.
struct Files {
    folders: Option<Folders>,
    events: Events,
    /// A look that is under way. Nothing else waits for it, since a file system may hang.
    look: Option<JoinHandle<(Folders, Seen)>>,
    look_at: Mono,
    /// Further events change nothing until the next look.
    told: bool,
}

/// What the task wakes up for.
enum Wake {
    Due,
    Wanted,
    Told,
    Look,
    Event,
    Seen(Option<(Folders, Seen)>),
}

impl Keeper {
    /// Keeps the token of `tokens` live, whose keys came from `sources`. Whenever these are sent anew, they are looked at
    /// soon, be they others or not.
    pub fn new(tokens: Arc<TokenManager>, upstream: Upstream, mut sources: watch::Receiver<KeySources>) -> Self {
        let refresh_at = tokens.clock.now().mono;
        let first = Arc::new(sources.borrow_and_update().clone());
        Self { tokens, upstream, sources: first, told: sources, rotation: Rotation::default(), refresh_at }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(mut self) {
        let mut files = Files::watch(self.sources.files(), self.now());
        self.refresh("start", &mut files).await;
        loop {
            let clock = self.tokens.clock.clone();
            let wake = tokio::select! {
                () = clock.sleep(self.refresh_at.since(self.now())) => Wake::Due,
                () = self.tokens.wanted.notified() => Wake::Wanted,
                Ok(()) = self.told.changed() => Wake::Told,
                wake = files.next(&clock) => wake,
            };
            match wake {
                Wake::Due => self.refresh("schedule", &mut files).await,
                // Unless an exchange has ended since it was wanted.
                Wake::Wanted if self.tokens.is_refreshing() => self.refresh("demand", &mut files).await,
                Wake::Wanted => {}
                Wake::Told => {
                    self.sources = Arc::new(self.told.borrow_and_update().clone());
                    self.rotation.hurry(self.now());
                    files = Files::watch(self.sources.files(), self.now());
                }
                Wake::Event => files.event(self.now()),
                Wake::Look => files.begin(Arc::clone(&self.sources)),
                Wake::Seen(seen) => {
                    let wait = match seen {
                        Some((folders, seen)) => {
                            files.folders = Some(folders);
                            self.act_on(seen).await
                        }
                        // It has panicked, and what it held is gone.
                        None => {
                            files = Files::watch(self.sources.files(), self.now().plus(INTERVAL));
                            INTERVAL
                        }
                    };
                    files.look_at = files.look_at.min(self.now().plus(wait));
                }
            }
        }
    }

    /// Exchanges the pair in use.
    async fn refresh(&mut self, trigger: &str, files: &mut Files) {
        self.tokens.begin();
        let keys = self.tokens.keys();
        let wait = match self.ask(&keys, trigger).await {
            Ok((granted, expires, life)) => {
                self.tokens.replace(granted, expires, None);
                schedule::refresh_after(life, fastrand::f64())
            }
            Err(error) => {
                self.note("token exchange", result_label(&error));
                let (failures, wait) = self.tokens.note_failure(&error);
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                let refused = !matches!(error, ExchangeError::Failed(_));
                if refused {
                    let keys = self.sources.name();
                    tracing::error!(%error, keys, failures, have_token, retry_ms, "token exchange failed");
                    // Perhaps the files hold the pair to use by now.
                    self.rotation.hurry(self.now());
                    files.look_at = self.now();
                } else {
                    tracing::warn!(%error, failures, have_token, retry_ms, "token exchange failed");
                }
                wait
            }
        };
        self.refresh_at = self.now().plus(wait);
    }

    /// Does what follows from a look at the key files. Returns how long to wait until the next.
    async fn act_on(&mut self, seen: Seen) -> Duration {
        let in_use = self.tokens.keys();
        match self.rotation.observe(&in_use, seen, self.now()) {
            Step::Look(wait) => wait,
            Step::Restored => {
                tracing::info!(keys = self.sources.name(), "the key files hold the pair in use again");
                INTERVAL
            }
            Step::Try(keys) => self.change_to(keys, &in_use).await,
            Step::Report(why) => {
                let (failures, wait) = self.unused("unusable");
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                tracing::error!(error = why, failures, have_token, retry_ms, "{UNUSED}");
                wait
            }
        }
    }

    async fn change_to(&mut self, keys: KeyPair, in_use: &KeyPair) -> Duration {
        let (name, changed) = (self.sources.name(), changed(in_use, &keys));
        match self.ask(&keys, "rotation").await {
            Ok((granted, expires, life)) => {
                let merchant = granted.merchant.clone();
                let generation = self.tokens.replace(granted, expires, Some(keys));
                self.refresh_at = self.now().plus(schedule::refresh_after(life, fastrand::f64()));
                self.rotation.done();
                self.count("success");
                tracing::info!(merchant, generation, keys = name, changed, "key pair changed");
                let sources = Arc::clone(&self.sources);
                drop(spawn_blocking(move || sources.warn_of_readers()));
                // What was written meanwhile may be a third one.
                Duration::ZERO
            }
            Err(error) => {
                let (failures, wait) = self.unused(result_label(&error));
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                if matches!(error, ExchangeError::Failed(_)) {
                    tracing::warn!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                } else {
                    tracing::error!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                }
                wait
            }
        }
    }

    fn unused(&mut self, result: &'static str) -> (u32, Duration) {
        self.count(result);
        self.note("changed key files", result);
        self.rotation.failed(self.tokens.token_left(), fastrand::f64(), self.now())
    }

    fn count(&self, result: &str) {
        self.tokens.metrics.secret_reloads.with_label_values(&[result]).inc();
    }

    fn note(&self, about: &'static str, what: &'static str) {
        self.tokens.metrics.troubles.note(Kind { about, what, ..Kind::default() }, None);
    }

    /// One exchange: the token, its end, and its life.
    async fn ask(&self, keys: &KeyPair, trigger: &str) -> Result<(Granted, Deadline, Duration), ExchangeError> {
        let TokenManager { clock, metrics, .. } = &*self.tokens;
        let began = clock.now();
        let answer = exchange(&self.upstream, keys, self.tokens.merchant().as_deref(), clock).await;
        metrics.token_refresh_duration.observe(clock.now().mono.since(began.mono).as_secs_f64());
        let granted = answer.and_then(|granted| {
            if let Some(date) = granted.date {
                metrics.clock_skew.set(seconds(date.millis_since(clock.now().wall)));
            }
            // Counted from before the request: the token is never younger than that.
            let life = schedule::life(granted.expiration, granted.date, began.wall);
            let life = life.ok_or_else(|| ExchangeError::Failed("the token has ended already".to_owned()))?;
            Ok((granted, Deadline::after(began, life), life))
        });
        let result = granted.as_ref().map_or_else(result_label, |_| "success");
        metrics.token_refreshes.with_label_values(&[trigger, result]).inc();
        granted
    }

    fn now(&self) -> Mono {
        self.tokens.clock.now().mono
    }
}

impl Files {
    fn watch(files: Vec<PathBuf>, now: Mono) -> Self {
        let any = !files.is_empty();
        let (folders, events) = watch_folders(files);
        Self { folders: any.then_some(folders), events, look: None, look_at: now, told: false }
    }

    /// Waits for a look that is due, its end, or an event. Without files, for ever.
    async fn next(&mut self, clock: &Clock) -> Wake {
        let due = self.look_at.since(clock.now().mono);
        tokio::select! {
            seen = ended(&mut self.look) => {
                self.look = None;
                Wake::Seen(seen)
            }
            () = clock.sleep(due), if self.folders.is_some() => Wake::Look,
            () = self.events.changed(), if !self.told => Wake::Event,
        }
    }

    /// Looks soon: what happened is probably one of several steps.
    fn event(&mut self, now: Mono) {
        self.told = true;
        self.look_at = self.look_at.min(now.plus(GATHER));
    }

    fn begin(&mut self, sources: Arc<KeySources>) {
        let Some(mut folders) = self.folders.take() else { return };
        (self.told, self.look_at) = (false, Mono(Duration::MAX));
        self.look = Some(spawn_blocking(move || {
            folders.renew();
            let seen = sources.reload().map_or_else(|error| Seen::Unusable(error.to_string()), Seen::Pair);
            (folders, seen)
        }));
    }
}

async fn ended(look: &mut Option<JoinHandle<(Folders, Seen)>>) -> Option<(Folders, Seen)> {
    match look {
        Some(look) => look.await.ok(),
        None => std::future::pending().await,
    }
}

const UNUSED: &str = "the changed key files are not used; the pair in use stays";
const GATHER: Duration = Duration::from_millis(100);

fn result_label(error: &ExchangeError) -> &'static str {
    match error {
        ExchangeError::Rejected(_) => "rejected",
        ExchangeError::WrongMerchant { .. } => "wrong_merchant",
        ExchangeError::Failed(_) => "failed",
    }
}
