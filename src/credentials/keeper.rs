//! The one task that exchanges keys for tokens: in time, when a request needs one, and when the key files hold another
//! pair. A new pair is used only once it has authenticated as the same merchant; until then the one before stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exchange::{ExchangeError, Granted, exchange};
use super::keys::{KeyFiles, KeyPair};
use super::rotation::{INTERVAL, Rotation, Seen, Step, changed};
use super::{TokenManager, schedule, seconds};
use crate::clock::{Clock, Deadline, Mono};
use crate::supervisor::Pulse;
use crate::telemetry::log::millis;
use crate::telemetry::troubles::Kind;
use crate::threads::Threads;
use crate::upstream::Upstream;

/// Keeps a token live.
pub struct Keeper {
    tokens: Arc<TokenManager>,
    upstream: Upstream,
    files: KeyFiles,
    /// Other files, or the same ones to be read now.
    told: watch::Receiver<KeyFiles>,
    /// Files are read on these: a file system that hangs must not keep the token from being renewed.
    threads: Threads,
    rotation: Rotation,
    /// When the next exchange of the pair in use is due.
    refresh_at: Mono,
    pulse: Pulse,
}

/// The next look at the key files, or the one under way.
struct Look {
    due: Option<Mono>,
    under_way: Option<oneshot::Receiver<Seen>>,
}

/// What the task wakes up for.
enum Wake {
    Due,
    Wanted,
    Told,
    Look,
    Seen(Seen),
    /// Nothing: a sign of life is due.
    Beat,
}

impl Keeper {
    /// Keeps the token of `tokens` live, whose keys came from `files`. Whenever these are sent anew, they are read soon, be
    /// they others or not. `pulse` is given a sign of life more often than every [`LONGEST_SILENCE`].
    pub fn new(
        tokens: Arc<TokenManager>,
        upstream: Upstream,
        mut files: watch::Receiver<KeyFiles>,
        threads: Threads,
        pulse: Pulse,
    ) -> Self {
        let refresh_at = tokens.clock.now().mono;
        let first = files.borrow_and_update().clone();
        Self { tokens, upstream, files: first, told: files, threads, rotation: Rotation::default(), refresh_at, pulse }
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(mut self) {
        let mut look = Look::at(&self.files, self.now());
        self.refresh("start", &mut look).await;
        loop {
            self.pulse.beat();
            let clock = self.tokens.clock.clone();
            let wake = tokio::select! {
                () = clock.sleep(self.refresh_at.since(self.now())) => Wake::Due,
                () = self.tokens.wanted.notified() => Wake::Wanted,
                Ok(()) = self.told.changed() => Wake::Told,
                wake = look.next(&clock) => wake,
                () = clock.sleep(INTERVAL) => Wake::Beat,
            };
            match wake {
                Wake::Due => self.refresh("schedule", &mut look).await,
                // Unless an exchange has ended since it was wanted.
                Wake::Wanted if self.tokens.is_refreshing() => self.refresh("demand", &mut look).await,
                Wake::Wanted | Wake::Beat => {}
                Wake::Told => {
                    self.files = self.told.borrow_and_update().clone();
                    self.rotation.hurry(self.now());
                    look = Look::at(&self.files, self.now());
                }
                Wake::Look => look = Look { due: None, under_way: Some(self.read()) },
                Wake::Seen(seen) => {
                    let wait = self.act_on(seen).await;
                    look = Look::at(&self.files, self.now().plus(wait));
                }
            }
        }
    }

    /// Begins to read the key files.
    fn read(&self) -> oneshot::Receiver<Seen> {
        let (tell, told) = oneshot::channel();
        let (sources, threads) = (self.files.sources.clone(), self.threads.clone());
        let read = move || sources.reload().map_or_else(|error| Seen::Unusable(error.to_string()), Seen::Pair);
        // Ends within the time it has.
        tokio::spawn(async move {
            let seen = match timeout(READ, threads.run(read)).await {
                Ok(Ok(seen)) => seen,
                Ok(Err(error)) => Seen::Unusable(format!("the key files cannot be read: {error}")),
                Err(_) => Seen::Unusable(format!("the key files could not be read within {READ:?}")),
            };
            let _ = tell.send(seen);
        });
        told
    }

    /// Exchanges the pair in use.
    async fn refresh(&mut self, trigger: &str, look: &mut Look) {
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
                let refused = !matches!(error, ExchangeError::Failed { .. });
                if refused {
                    let keys = self.files.sources.name();
                    tracing::error!(%error, keys, failures, have_token, retry_ms, "token exchange failed");
                    // Perhaps the files hold the pair to use by now.
                    self.rotation.hurry(self.now());
                    look.soon(self.now());
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
                tracing::info!(keys = self.files.sources.name(), "the key files hold the pair in use again");
                INTERVAL
            }
            Step::Try(keys) => self.change_to(keys, &in_use).await,
            Step::Report(why) => {
                let (failures, wait) = self.unused("unusable", None);
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                tracing::error!(error = why, failures, have_token, retry_ms, "{UNUSED}");
                wait
            }
        }
    }

    async fn change_to(&mut self, keys: KeyPair, in_use: &KeyPair) -> Duration {
        let (name, changed) = (self.files.sources.name(), changed(in_use, &keys));
        match self.ask(&keys, "rotation").await {
            Ok((granted, expires, life)) => {
                let merchant = granted.merchant.clone();
                let generation = self.tokens.replace(granted, expires, Some(keys));
                self.refresh_at = self.now().plus(schedule::refresh_after(life, fastrand::f64()));
                self.rotation.done();
                self.count("success");
                tracing::info!(merchant, generation, keys = name, changed, "key pair changed");
                let (sources, threads) = (self.files.sources.clone(), self.threads.clone());
                tokio::spawn(async move { threads.run(move || sources.warn_of_readers()).await });
                // What was written meanwhile may be a third one.
                Duration::ZERO
            }
            Err(error) => {
                let (failures, wait) = self.unused(result_label(&error), error.retry_after());
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                if matches!(error, ExchangeError::Failed { .. }) {
                    tracing::warn!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                } else {
                    tracing::error!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                }
                wait
            }
        }
    }

    fn unused(&mut self, result: &'static str, asked: Option<Duration>) -> (u32, Duration) {
        self.count(result);
        self.note("changed key files", result);
        self.rotation.failed(self.tokens.token_left(), asked, fastrand::f64(), self.now())
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
            let life = life.ok_or_else(|| ExchangeError::failed("the token has ended already"))?;
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

impl Look {
    /// At this moment, if there is anything that may change.
    fn at(files: &KeyFiles, due: Mono) -> Self {
        Self { due: files.may_change().then_some(due), under_way: None }
    }

    /// Not later than at this moment, unless one is under way or there is none.
    fn soon(&mut self, now: Mono) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// Waits for the look that is due, or for its end. Without files, for ever.
    async fn next(&mut self, clock: &Clock) -> Wake {
        match (&mut self.under_way, self.due) {
            (Some(seen), _) => {
                let seen = seen.await;
                Wake::Seen(seen.unwrap_or_else(|_| Seen::Unusable("the key files were not read".to_owned())))
            }
            (None, Some(due)) => {
                clock.sleep(due.since(clock.now().mono)).await;
                Wake::Look
            }
            (None, None) => std::future::pending().await,
        }
    }
}

/// Without a sign of life for so long, the task hangs. An exchange and the pauses between signs end much sooner.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(60);
const READ: Duration = Duration::from_secs(30);

const UNUSED: &str = "the changed key files are not used; the pair in use stays";

fn result_label(error: &ExchangeError) -> &'static str {
    match error {
        ExchangeError::Rejected(_) => "rejected",
        ExchangeError::WrongMerchant { .. } => "wrong_merchant",
        ExchangeError::Failed { .. } => "failed",
    }
}
