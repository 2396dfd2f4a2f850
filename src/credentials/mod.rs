//! The bearer token: one task obtains and refreshes it, and requests read it without a lock.
//!
//! Tokens have generations. When a request of an older generation gets a 401, it is sent again. A 401 to the current
//! generation makes the task exchange the keys, once for all requests that saw it. Read next: [`schedule`] for every
//! decision in time, [`rotation`] for changes of the key files, and [`refresher`] for the task that obeys both.

pub mod exchange;
pub mod keys;
mod pace;
pub mod refresher;
pub mod rotation;
pub mod schedule;
pub mod shop;
pub mod verifier;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use self::exchange::{ExchangeError, Granted};
use self::keys::KeyPair;
use self::schedule::{ExchangeState, FIRST_WAIT, OnNoToken, OnUnauthorized};
use self::verifier::{OVERLAP, Verifier};
use crate::clock::{Clock, Deadline, Mono, Now};
use crate::secret::Secret;
use crate::sezzle::clock::SezzleClock;
use crate::telemetry::metrics::Metrics;

#[derive(Debug)]
pub struct Token {
    /// 1 for the first token, then counting up.
    pub generation: u64,
    /// `Bearer …`, marked sensitive.
    pub authorization: HeaderValue,
    pub merchant: String,
    pub expires: Deadline,
}

/// No live token exists. Nothing was sent to Sezzle.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no live token: {}", .last.as_ref().map_or("none was obtained yet".to_owned(), ToString::to_string))]
pub struct NoToken {
    pub last: Option<ExchangeError>,
}

/// Holds the keys and the token.
#[derive(Debug)]
pub struct TokenManager {
    held: ArcSwap<Held>,
    state: Mutex<State>,
    /// Wakes the task: a request needs a token before the planned exchange.
    wanted: Notify,
    /// Wakes requests: an exchange has ended.
    ended: Notify,
    /// Learns the `Date` of each granted token.
    sezzle: Arc<SezzleClock>,
    clock: Clock,
    /// When the process began.
    began: Mono,
    metrics: Arc<Metrics>,
}

/// The keys and the token in use. Replaced as a whole, so that no reader sees one pair's token beside another pair's
/// keys.
#[derive(Clone, Debug)]
struct Held {
    keys: Arc<KeyPair>,
    verifier: Arc<Verifier>,
    /// The old public key, accepted for a while: services need not change theirs at the same moment.
    previous_public: Option<(Secret, Deadline)>,
    token: Option<Arc<Token>>,
}

/// The state of the task's work. A request that finds a live token does not touch this.
#[derive(Debug, Default)]
struct State {
    /// The merchant of the configuration, or else of the first token.
    merchant: Option<String>,
    failures: u32,
    last_error: Option<ExchangeError>,
    /// True from the request for an exchange to its end.
    refreshing: bool,
    last_forced: Option<Mono>,
    /// The end of a wait that Sezzle asked for before the next exchange.
    held_off: Option<Mono>,
    ever: bool,
    /// Why the pair in the changed key files is not in use; `None` if it is.
    unused_keys: Option<&'static str>,
    /// Whether the local clock differed too much from the gateway's at the last exchange.
    skewed: bool,
}

impl TokenManager {
    /// Creates a manager without a token. Its keys must authenticate as `merchant`, or if that is `None`, always as the
    /// merchant of the first token.
    pub fn new(keys: KeyPair, merchant: Option<String>, clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        let verifier = Arc::new(Verifier::new(&keys.private));
        Arc::new(Self {
            held: ArcSwap::from_pointee(Held { keys: Arc::new(keys), verifier, previous_public: None, token: None }),
            state: Mutex::new(State { merchant, refreshing: true, ..State::default() }),
            wanted: Notify::new(),
            ended: Notify::new(),
            sezzle: Arc::default(),
            began: clock.mono(),
            clock,
            metrics,
        })
    }

    /// Sezzle's clock by the `Date` of each answer with a token. Readers of other answers may note their `Date`, too.
    pub fn sezzle(&self) -> Arc<SezzleClock> {
        Arc::clone(&self.sezzle)
    }

    pub fn live(&self) -> Option<Arc<Token>> {
        self.live_at(self.clock.now())
    }

    /// The token that is live at this time.
    pub fn live_at(&self, now: Now) -> Option<Arc<Token>> {
        let held = self.held.load();
        held.token.as_ref().filter(|token| !token.expires.passed(now)).map(Arc::clone)
    }

    pub fn ever_had_token(&self) -> bool {
        self.state().ever
    }

    pub async fn first_token(&self) {
        loop {
            let ended = self.ended.notified();
            if self.ever_had_token() {
                return;
            }
            ended.await;
        }
    }

    pub fn merchant(&self) -> Option<String> {
        self.state().merchant.clone()
    }

    /// How the last exchange of the pair in use failed; `None` after a success.
    pub fn last_error(&self) -> Option<ExchangeError> {
        self.state().last_error.clone()
    }

    /// Why the pair in the changed key files is not in use, as `secret_reloads_total` has it; `None` if it is.
    pub fn unused_keys(&self) -> Option<&'static str> {
        self.state().unused_keys
    }

    fn set_unused_keys(&self, why: Option<&'static str>) {
        self.state().unused_keys = why;
    }

    /// Whether a caller's public key is ours, or was until an hour ago.
    pub fn is_our_public_key(&self, key: &str) -> bool {
        let held = self.held.load();
        let previous = held.previous_public.iter().filter(|(_, until)| !until.passed(self.clock.now()));
        held.keys.public.expose() == key || previous.into_iter().any(|(previous, _)| previous.expose() == key)
    }

    /// The `Authorization` of our public key, as Sezzle takes it.
    pub fn public_key(&self) -> Option<HeaderValue> {
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(self.held.load().keys.public.expose()));
        let mut authorization = HeaderValue::try_from(format!("Basic {}", *encoded)).ok()?;
        authorization.set_sensitive(true);
        Some(authorization)
    }

    /// Whether Sezzle signed the message: `tag` is its HMAC-SHA256 with the private key.
    pub fn is_signed(&self, message: &[u8], tag: &[u8]) -> bool {
        self.held.load().verifier.verify(message, tag, self.clock.now())
    }

    /// The live token. Waits for a token that is being obtained, for 7 s at most and no longer than `limit`; fails at
    /// once when exchanges are known to fail and the process is older than 7 s.
    pub async fn acquire(&self, limit: Duration) -> Result<Arc<Token>, NoToken> {
        // A few seconds from now cannot overflow.
        let deadline = Instant::now() + FIRST_WAIT.min(limit);
        loop {
            let ended = self.ended.notified();
            if let Some(token) = self.live() {
                return Ok(token);
            }
            {
                let mut state = self.state();
                // A second look, under the lock that guards the storing of tokens: an exchange may have ended since.
                if let Some(token) = self.live() {
                    return Ok(token);
                }
                let no_token = NoToken { last: state.last_error.clone() };
                let age = self.clock.mono().since(self.began);
                match schedule::on_no_token(state.exchange(), state.refreshing, age) {
                    OnNoToken::Ask => {
                        state.refreshing = true;
                        self.wanted.notify_one();
                    }
                    OnNoToken::Wait => {}
                    OnNoToken::Refuse => return Err(no_token),
                }
                if Instant::now() >= deadline {
                    return Err(no_token);
                }
            }
            let _ = timeout_at(deadline, ended).await;
        }
    }

    /// Handles a 401 to a request sent with the token of generation `sent`. Returns the token for sending the request
    /// again, or `None` if the caller gets the 401.
    pub async fn after_unauthorized(&self, sent: u64, limit: Duration) -> Option<Arc<Token>> {
        self.metrics.upstream_unauthorized.inc();
        let deadline = Instant::now() + FIRST_WAIT.min(limit);
        loop {
            let ended = self.ended.notified();
            {
                let mut state = self.state();
                // Read under the lock that guards the storing of tokens: otherwise an exchange that ends right here
                // would be missed.
                let current = self.generation();
                let now = self.clock.mono();
                let too_early = state.held_off.is_some_and(|until| now < until);
                match schedule::on_unauthorized(sent, current, state.refreshing, state.last_forced, too_early, now) {
                    OnUnauthorized::Replay => return self.live(),
                    OnUnauthorized::GiveUp => return None,
                    OnUnauthorized::Refresh if !state.refreshing => {
                        state.refreshing = true;
                        state.last_forced = Some(now);
                        self.wanted.notify_one();
                    }
                    OnUnauthorized::Refresh => {}
                }
            }
            if Instant::now() >= deadline {
                return None;
            }
            let _ = timeout_at(deadline, ended).await;
        }
    }

    fn keys(&self) -> Arc<KeyPair> {
        Arc::clone(&self.held.load().keys)
    }

    fn token_left(&self) -> Option<Duration> {
        self.live().map(|token| token.expires.remaining(self.clock.now()))
    }

    fn generation(&self) -> u64 {
        self.held.load().token.as_ref().map_or(0, |token| token.generation)
    }

    /// Marks the start of an exchange, whatever triggered it.
    fn begin(&self) {
        self.state().refreshing = true;
    }

    /// Takes note of the gateway's time less the local time, and warns when the clocks begin or cease to differ.
    fn note_skew(&self, millis: i64) {
        let mut state = self.state();
        let Some(skewed) = schedule::skew_changed(state.skewed, millis) else { return };
        state.skewed = skewed;
        drop(state);
        let skew_ms = millis;
        if skewed {
            tracing::warn!(skew_ms, "{}", if millis > 0 { BEHIND } else { AHEAD });
        } else {
            tracing::warn!(skew_ms, "this machine's clock agrees with Sezzle's again");
        }
    }

    fn is_refreshing(&self) -> bool {
        self.state().refreshing
    }

    /// Uses this token from now on. With `keys`, that pair replaces the old one and its token. Returns the generation.
    fn replace(&self, granted: Granted, expires: Deadline, keys: Option<KeyPair>) -> u64 {
        let mut state = self.state();
        let generation = self.generation().saturating_add(1);
        let merchant = granted.merchant;
        if !state.ever || state.last_error.is_some() {
            tracing::info!(merchant, generation, "token obtained");
        }
        if !merchant.is_empty() {
            state.merchant.get_or_insert_with(|| merchant.clone());
        }
        state.failures = 0;
        state.last_error = None;
        state.held_off = None;
        state.ever = true;
        state.refreshing = false;
        self.metrics.token_expiry.set(seconds(expires.wall().0));
        let mut held = Held::clone(&self.held.load());
        if let Some(keys) = keys {
            // Setting the same key twice would push out the previous key.
            if keys.private != held.keys.private {
                held.verifier = Arc::new(held.verifier.replaced(&keys.private, self.clock.now()));
            }
            // Sezzle never accepted the previous public key, so no caller can have been given it.
            if keys.public != held.keys.public && held.token.is_some() {
                let until = Deadline::after(self.clock.now(), OVERLAP);
                held.previous_public = Some((held.keys.public.clone(), until));
            }
            held.keys = Arc::new(keys);
        }
        let token = Token { generation, authorization: granted.authorization, merchant, expires };
        held.token = Some(Arc::new(token));
        self.held.store(Arc::new(held));
        drop(state);
        self.ended.notify_waiters();
        generation
    }

    /// Notes a failed exchange. Returns the number of failures in a row, and the wait until the next attempt.
    fn note_failure(&self, error: &ExchangeError) -> (u32, Duration) {
        let token_left = self.token_left();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.last_error = Some(error.clone());
        state.refreshing = false;
        let failures = state.failures;
        let wait = schedule::back_off(failures, token_left, error.retry_after(), fastrand::f64());
        state.held_off = error.retry_after().map(|_| self.clock.mono().plus(wait));
        drop(state);
        self.ended.notify_waiters();
        (failures, wait)
    }

    // Code under the lock cannot leave the state half changed, so the state stays usable after a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn exchange(&self) -> ExchangeState {
        match self.last_error {
            None => ExchangeState::Working,
            Some(ExchangeError::Failed { .. } | ExchangeError::Loop) if !self.ever => ExchangeState::Starting,
            Some(_) => ExchangeState::Failing,
        }
    }
}

const BEHIND: &str =
    "this machine's clock is behind Sezzle's: set it, because sessions with a token are stored shorter";
const AHEAD: &str =
    "this machine's clock is ahead of Sezzle's: set it, because sessions with a token are stored shorter";

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the epoch fit a float's 53 bits")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
