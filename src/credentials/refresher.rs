//! The only task that exchanges keys for tokens: on schedule, when a request needs a token, and when the key files hold
//! another pair. A new pair is used only once it has authenticated as the same merchant; until then the old pair stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exchange::{ExchangeError, Granted, exchange};
use super::keys::{KeyFiles, KeyPair};
use super::rotation::{INTERVAL, KeyFilesState, Rotation, Step, changed};
use super::{TokenManager, schedule, seconds};
use crate::clock::{Clock, Deadline, Mono};
use crate::supervisor::Heartbeat;
use crate::telemetry::log::millis;
use crate::telemetry::recent_errors::Kind;
use crate::threads::Threads;
use crate::upstream::Upstream;

pub struct TokenRefresher {
    tokens: Arc<TokenManager>,
    upstream: Upstream,
    files: KeyFiles,
    /// Receives other key files, or the same ones to be read at once.
    reloads: watch::Receiver<KeyFiles>,
    /// Files are read on these threads, so that a hanging file system cannot keep the token from being renewed.
    threads: Threads,
    rotation: Rotation,
    /// When the next exchange of the pair in use is due.
    refresh_at: Mono,
    heartbeat: Heartbeat,
}

/// The next read of the key files, or the one under way.
struct NextRead {
    due: Option<Mono>,
    under_way: Option<oneshot::Receiver<KeyFilesState>>,
}

enum Wake {
    RefreshDue,
    TokenWanted,
    Reloaded,
    ReadDue,
    Read(KeyFilesState),
    /// Only a sign of life is due.
    BeatDue,
}

impl TokenRefresher {
    /// Keeps the token of `tokens` live. The keys in use come from the current value of `files`; each value sent there
    /// is read soon, even if it equals the last one. `heartbeat` gets a sign of life more often than every
    /// [`HANG_TIMEOUT`].
    pub fn new(
        tokens: Arc<TokenManager>,
        upstream: Upstream,
        mut files: watch::Receiver<KeyFiles>,
        threads: Threads,
        heartbeat: Heartbeat,
    ) -> Self {
        let refresh_at = tokens.clock.mono();
        let first = files.borrow_and_update().clone();
        Self {
            tokens,
            upstream,
            files: first,
            reloads: files,
            threads,
            rotation: Rotation::default(),
            refresh_at,
            heartbeat,
        }
    }

    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(mut self) {
        let mut next_read = NextRead::at(&self.files, self.now());
        self.refresh("start", &mut next_read).await;
        loop {
            self.heartbeat.beat();
            let clock = self.tokens.clock.clone();
            let wake = tokio::select! {
                () = clock.sleep(self.refresh_at.since(self.now())) => Wake::RefreshDue,
                () = self.tokens.wanted.notified() => Wake::TokenWanted,
                Ok(()) = self.reloads.changed() => Wake::Reloaded,
                wake = next_read.next(&clock) => wake,
                () = clock.sleep(INTERVAL) => Wake::BeatDue,
            };
            match wake {
                Wake::RefreshDue => self.refresh("schedule", &mut next_read).await,
                // Skipped if an exchange has ended since the request.
                Wake::TokenWanted if self.tokens.is_refreshing() => self.refresh("demand", &mut next_read).await,
                Wake::TokenWanted | Wake::BeatDue => {}
                Wake::Reloaded => {
                    self.files = self.reloads.borrow_and_update().clone();
                    self.rotation.hurry(self.now());
                    next_read = NextRead::at(&self.files, self.now());
                }
                Wake::ReadDue => next_read = NextRead { due: None, under_way: Some(self.read()) },
                Wake::Read(found) => {
                    let wait = self.act_on(found).await;
                    next_read = NextRead::at(&self.files, self.now().plus(wait));
                }
            }
        }
    }

    fn read(&self) -> oneshot::Receiver<KeyFilesState> {
        let (tell, told) = oneshot::channel();
        let (sources, threads) = (self.files.sources.clone(), self.threads.clone());
        let read = move || {
            sources.reload().map_or_else(|error| KeyFilesState::Unusable(error.to_string()), KeyFilesState::Pair)
        };
        // Ends within the time limit.
        tokio::spawn(async move {
            let found = match timeout(READ_TIMEOUT, threads.run(read)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => KeyFilesState::Unusable(format!("the key files cannot be read: {error}")),
                Err(_) => KeyFilesState::Unusable(format!("the key files could not be read within {READ_TIMEOUT:?}")),
            };
            let _ = tell.send(found);
        });
        told
    }

    /// Exchanges the pair in use.
    async fn refresh(&mut self, trigger: &str, next_read: &mut NextRead) {
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
                if error.is_of_keys() {
                    let keys = self.files.sources.name();
                    tracing::error!(%error, keys, failures, have_token, retry_ms, "token exchange failed");
                    // The files may hold the right pair by now.
                    self.rotation.hurry(self.now());
                    next_read.soon(self.now());
                } else {
                    tracing::warn!(%error, failures, have_token, retry_ms, "token exchange failed");
                }
                wait
            }
        };
        self.refresh_at = self.now().plus(wait);
    }

    /// Acts on the result of a read of the key files. Returns the wait until the next read.
    async fn act_on(&mut self, found: KeyFilesState) -> Duration {
        let in_use = self.tokens.keys();
        match self.rotation.observe(&in_use, found, self.now()) {
            Step::ReadAgain(wait) => wait,
            Step::Restored => {
                self.tokens.set_unused_keys(None);
                tracing::warn!(keys = self.files.sources.name(), "the key files hold the pair in use again");
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
                self.tokens.set_unused_keys(None);
                // Operators wait for this line before they revoke the old pair, also at level `warn`.
                tracing::warn!(merchant, generation, keys = name, changed, "key pair changed");
                let (sources, threads) = (self.files.sources.clone(), self.threads.clone());
                tokio::spawn(async move { threads.run(move || sources.warn_of_readers()).await });
                // The files may have changed again during the exchange.
                Duration::ZERO
            }
            Err(error) => {
                let (failures, wait) = self.unused(result_label(&error), error.retry_after());
                let (have_token, retry_ms) = (self.tokens.live().is_some(), millis(wait));
                if error.is_of_keys() {
                    tracing::error!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                } else {
                    tracing::warn!(%error, keys = name, changed, failures, have_token, retry_ms, "{UNUSED}");
                }
                wait
            }
        }
    }

    fn unused(&mut self, result: &'static str, asked: Option<Duration>) -> (u32, Duration) {
        self.count(result);
        self.note("changed key files", result);
        self.tokens.set_unused_keys(Some(result));
        self.rotation.failed(self.tokens.token_left(), asked, fastrand::f64(), self.now())
    }

    fn count(&self, result: &str) {
        self.tokens.metrics.secret_reloads.with_label_values(&[result]).inc();
    }

    fn note(&self, about: &'static str, what: &'static str) {
        self.tokens.metrics.recent_errors.note(Kind { about, what, ..Kind::default() }, None);
    }

    /// Makes one exchange. Returns the token, its deadline and its life.
    async fn ask(&self, keys: &KeyPair, trigger: &str) -> Result<(Granted, Deadline, Duration), ExchangeError> {
        let TokenManager { sezzle, clock, metrics, .. } = &*self.tokens;
        let began = clock.now();
        let answer = exchange(&self.upstream, keys, self.tokens.merchant().as_deref(), clock).await;
        metrics.token_refresh_duration.observe(clock.mono().since(began.mono).as_secs_f64());
        let granted = answer.and_then(|granted| {
            if let Some(date) = granted.date {
                let now = clock.now();
                let skew = date.millis_since(now.wall);
                metrics.clock_skew.set(seconds(skew));
                self.tokens.note_skew(skew);
                sezzle.note(date, now);
            }
            // The life counts from before the request, since the token cannot be older than that.
            let life = schedule::life(granted.expiration, granted.date, began.wall);
            let life = life.ok_or_else(|| ExchangeError::failed("Sezzle's token has already ended"))?;
            Ok((granted, Deadline::after(began, life), life))
        });
        let result = granted.as_ref().map_or_else(result_label, |_| "success");
        metrics.token_refreshes.with_label_values(&[trigger, result]).inc();
        granted
    }

    fn now(&self) -> Mono {
        self.tokens.clock.mono()
    }
}

impl NextRead {
    /// Due at this time, if the files may change at all.
    fn at(files: &KeyFiles, due: Mono) -> Self {
        Self { due: files.may_change().then_some(due), under_way: None }
    }

    /// Brings a planned read forward to `now`. A read under way stays as it is.
    fn soon(&mut self, now: Mono) {
        self.due = self.due.map(|due| due.min(now));
    }

    /// Waits until the next read is due, or until the one under way ends. Without files, waits for ever.
    async fn next(&mut self, clock: &Clock) -> Wake {
        match (&mut self.under_way, self.due) {
            (Some(found), _) => {
                let found = found.await;
                Wake::Read(found.unwrap_or_else(|_| KeyFilesState::Unusable("the key files were not read".to_owned())))
            }
            (None, Some(due)) => {
                clock.sleep(due.since(clock.mono())).await;
                Wake::ReadDue
            }
            (None, None) => std::future::pending().await,
        }
    }
}

/// A task without a sign of life for this long hangs. Exchanges and pauses between signs are much shorter.
pub const HANG_TIMEOUT: Duration = Duration::from_secs(60);
const READ_TIMEOUT: Duration = Duration::from_secs(30);

const UNUSED: &str = "the changed key files are not used; the pair in use stays";

fn result_label(error: &ExchangeError) -> &'static str {
    match error {
        ExchangeError::Rejected(_) => "rejected",
        ExchangeError::WrongMerchant { .. } => "wrong_merchant",
        ExchangeError::Loop | ExchangeError::Failed { .. } => "failed",
    }
}
