//! One exchange with Sezzle: the token, the attempts, and the changes to the answer before caller or cache get it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::sleep;

use super::attempt_log::{UnauthorizedAnswers, log_attempt, log_retry};
use super::attempts::{Attempts, Event, Next, Retry, Step};
use super::content::{Content, GatewayResponse, Reading, read, require_content};
use super::decision::Rights;
use super::error::ProxyError;
use super::etag;
use super::headers::{clean, is_readable};
use super::links::answers::AnswerLinks;
use super::pressure::{Permit, SendPermit};
use super::record::RequestId;
use super::route::remedy::Remedy;
use super::sending::Sending;
use super::upstream_stats::UpstreamStats;
use crate::clock::{Clock, Mono, Now};
use crate::credentials::{Token, TokenManager};
use crate::drift::Drift;
use crate::drift::shape::Subject;
use crate::session::Fetched;
use crate::session::response::SessionResponse;
use crate::session::revalidation::{Conditions, validator};
use crate::telemetry::metrics::Metrics;
use crate::upstream::body::Arrival;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::{Failure, RetrySafety};
use crate::upstream::retry_after::retry_after;
use crate::upstream::{Outgoing, Upstream};

/// The authorization of one attempt.
enum Credential {
    Token(Arc<Token>),
    PublicKey(Arc<HeaderValue>),
}

impl Credential {
    fn authorization(&self) -> &HeaderValue {
        match self {
            Self::Token(token) => &token.authorization,
            Self::PublicKey(authorization) => authorization,
        }
    }

    /// The generation of the token, if a token is sent.
    fn generation(&self) -> Option<u64> {
        match self {
            Self::Token(token) => Some(token.generation),
            Self::PublicKey(_) => None,
        }
    }
}

/// Makes calls to Sezzle with the merchant's token, and leads the links of the answers back here.
pub struct Exchange {
    pub(super) upstream: Upstream,
    pub(super) tokens: Arc<TokenManager>,
    /// Without these, bodies pass as they are.
    pub(super) links: Option<Arc<AnswerLinks>>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) unauthorized: UnauthorizedAnswers,
    pub(super) drift: Drift,
}

impl Exchange {
    /// Whether the sidecar must be able to read the answers.
    pub fn rewrites_links(&self) -> bool {
        self.links.is_some()
    }

    /// Sends a call and passes its answer on. `carries_links` says whether the answer may have links.
    pub async fn call(
        &self,
        sending: &mut Sending,
        carries_links: bool,
        permit: &Permit,
    ) -> Result<GatewayResponse, ProxyError> {
        let links = self.links.as_deref();
        let reading = Reading::of_call(sending.retry_safety, &sending.outgoing.method, links.is_some(), carries_links);
        let in_body = links.filter(|_| carries_links && sending.retry_safety != RetrySafety::DestructiveRead);
        let unmarked = in_body.is_some_and(|links| links.unmark_conditions(&mut sending.outgoing.headers));
        let mut answer = self.run(sending, reading, permit, permit.since).await?;
        if let Some(links) = in_body {
            links.rewrite(&sending.outgoing, &sending.request_id, &mut answer);
            // Only the tag says whether the caller's copy of the answer was rewritten.
            if unmarked && answer.status == StatusCode::NOT_MODIFIED && sending.outgoing.method != Method::HEAD {
                links.mark_unchanged(&mut answer.headers);
            }
        }
        if let Some(links) = links {
            links.rewrite_headers(&mut answer.headers);
        }
        Ok(answer)
    }

    /// Fetches a session for the cache, or asks whether the stored answer is still right.
    ///
    /// After a 304 to a request without conditions, or with another validator, the whole session is fetched.
    pub async fn session(
        &self,
        mut sending: Sending,
        mut conditions: Option<Conditions>,
        permit: &Permit,
    ) -> Fetched<GatewayResponse, ProxyError> {
        let (began, limit) = (permit.since, sending.outgoing.deadlines.head);
        let mut now = began;
        for _ in 0..2 {
            if sending.outgoing.deadlines.head.is_zero() {
                break;
            }
            let mut asking = sending.clone();
            if let Some(conditions) = &conditions {
                conditions.apply(&mut asking.outgoing.headers);
            }
            match self.fetch_once(&mut asking, permit, now).await {
                Fetched::Unchanged(headers) => match conditions.take() {
                    Some(conditions) if conditions.concern(&headers) => return Fetched::Unchanged(headers),
                    Some(_) | None => {
                        now = self.clock.now();
                        sending.outgoing.deadlines.head = limit.saturating_sub(now.mono.since(began.mono));
                    }
                },
                fetched => return fetched,
            }
        }
        let detail = "Sezzle answered 304 to a request without conditions".to_owned();
        Fetched::Failed(ProxyError::Upstream(UpstreamError::new(ErrorKind::Protocol, Sent::Maybe, detail)))
    }

    async fn fetch_once(
        &self,
        sending: &mut Sending,
        permit: &Permit,
        now: Now,
    ) -> Fetched<GatewayResponse, ProxyError> {
        let mut answer = match self.run(sending, Reading::Session, permit, now).await {
            Ok(answer) => answer,
            Err(error) => return Fetched::Failed(error),
        };
        let (status, links) = (answer.status, self.links.as_deref());
        if let Some(links) = links {
            links.rewrite_headers(&mut answer.headers);
        }
        if status == StatusCode::NOT_MODIFIED {
            return Fetched::Unchanged(answer.headers);
        }
        let Content::Whole(body) = &mut answer.content else { return Fetched::Streaming(answer, status) };
        let (mut body, mut headers) = (body.take().unwrap_or_default(), answer.headers);
        let own = validator(&headers);
        if status == StatusCode::OK {
            self.drift.offer(Subject::Session, &body);
        }
        if let Some(links) = links.filter(|_| is_readable(&headers)) {
            body = links.rewrite_body(&sending.outgoing, &sending.request_id, status, &mut headers, body);
        }
        if status == StatusCode::OK && !headers.contains_key(ETAG) {
            headers.insert(ETAG, etag::of_body(&body));
        }
        Fetched::Whole(SessionResponse { status, fwd_status: status, headers, etag: own, body })
    }

    /// Sends a request with the live token, and again where `Attempts` says so. `began` is the current time. The deadline
    /// covers everything up to the head of the last answer; a body that is read has time of its own. `run` lowers the
    /// deadline in `sending`: do not send it again.
    async fn run(
        &self,
        sending: &mut Sending,
        reading: Reading,
        permit: &Permit,
        began: Now,
    ) -> Result<GatewayResponse, ProxyError> {
        let Sending { outgoing, retry_safety, remedy, rights, judges_token, request_id, stats } = sending;
        let (retry_safety, judges_token, limit) = (*retry_safety, *judges_token, outgoing.deadlines.head);
        let latest = began.mono.plus(limit.saturating_sub(outgoing.deadlines.reserve));
        let attempts = Attempts::new(retry_safety, latest);
        let (credential, now) = self.credential(rights, began, limit).await?;
        let send_permit = permit.acquire_send(now).map_err(|refusal| permit.shed(refusal))?;
        let (end, begins, ended) = (began.mono.plus(limit), now.mono, now.mono);
        let mut running = Running {
            exchange: self,
            outgoing,
            request_id,
            permit,
            attempts,
            credential,
            send_permit,
            end,
            begins,
            ended,
        };
        let result = loop {
            let result = self.attempt(&mut running, reading, stats).await;
            running.ended = result.as_ref().map_or_else(|_| self.clock.mono(), |answer| answer.at);
            stats.took(running.ended.since(now.mono));
            if tracing::enabled!(tracing::Level::DEBUG) {
                log_attempt(&result, running.outgoing, request_id, stats, running.ended.since(running.begins));
            }
            let judged = running.credential.generation().filter(|_| judges_token);
            let next = running.after(event(&result, judged, &running.send_permit), running.ended);
            if matches!(next, Next::Stop) || !running.obey(next, result.as_ref().err()).await {
                break result;
            }
        };
        let Running { outgoing, attempts, credential, send_permit, ended, .. } = running;
        let is_refused = result.as_ref().is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED);
        if is_refused && judges_token && credential.generation().is_some() {
            self.metrics.unauthorized_passed_on.inc();
            self.unauthorized.warn(outgoing, request_id, ended);
        }
        send_permit.finish(result.as_ref().map(|answer| answer.status), ended);
        concluded(result, retry_safety, remedy, attempts.doubt)
    }

    /// The authorization of the next attempt, and the time after the wait for a token.
    async fn credential(&self, rights: &Rights, began: Now, limit: Duration) -> Result<(Credential, Now), ProxyError> {
        match rights {
            Rights::PublicKey(authorization) => {
                self.metrics.public_key_calls.inc();
                Ok((Credential::PublicKey(Arc::clone(authorization)), began))
            }
            Rights::Merchant => match self.tokens.live_at(began) {
                Some(token) => Ok((Credential::Token(token), began)),
                None => {
                    let token = self.tokens.acquire(limit).await.map_err(ProxyError::NoToken)?;
                    Ok((Credential::Token(token), self.clock.now()))
                }
            },
        }
    }

    async fn attempt(
        &self,
        running: &mut Running<'_>,
        reading: Reading,
        stats: &UpstreamStats,
    ) -> Result<GatewayResponse, UpstreamError> {
        let Running { outgoing, credential, send_permit, end, begins, .. } = running;
        outgoing.deadlines.head = end.since(*begins);
        if outgoing.deadlines.head < outgoing.deadlines.reserve || outgoing.deadlines.head.is_zero() {
            return Err(UpstreamError::unsent(ErrorKind::Timeout, "too little time was left to send the request"));
        }
        outgoing.headers.insert(AUTHORIZATION, credential.authorization().clone());
        stats.attempted(credential.generation());
        let (head, body) = self.upstream.send_at(*begins, outgoing).await?.into_parts();
        let Arrival { at, reused } = body.arrival;
        stats.answered(reused);
        let (status, mut headers) = (head.status, head.headers);
        send_permit.head_received(status, &headers);
        clean(&mut headers);
        let Some(ahead) = reading.ahead(&headers, &body) else {
            let content = Content::Streamed { read: None, rest: body };
            return Ok(GatewayResponse { status, headers, content, at, in_doubt: false });
        };
        let read = read(body, ahead).await;
        let is_required = reading == Reading::Start;
        let read = if is_required { read.and_then(|content| require_content(status, content)) } else { read };
        let content = match read {
            // Sezzle did not process the call, so a failure of the body does not matter.
            Err(_) if status == StatusCode::UNAUTHORIZED => Content::Whole(None),
            content => content?,
        };
        if matches!(content, Content::Whole(_)) {
            // The caller's connection states the length anew.
            headers.remove(CONTENT_LENGTH);
        }
        Ok(GatewayResponse { status, headers, content, at: self.clock.mono(), in_doubt: false })
    }
}

/// A call between its first attempt and its last.
struct Running<'r> {
    exchange: &'r Exchange,
    outgoing: &'r mut Outgoing,
    request_id: &'r RequestId,
    permit: &'r Permit,
    attempts: Attempts,
    credential: Credential,
    send_permit: SendPermit<'r>,
    /// The deadline for the head of the last answer.
    end: Mono,
    /// When the next attempt begins.
    begins: Mono,
    /// When the last attempt ended, or the token was renewed after it.
    ended: Mono,
}

impl Running<'_> {
    /// The next step after this event at this time, once the event is counted.
    fn after(&mut self, event: Event, now: Mono) -> Next {
        let Step { next, count } = self.attempts.after(event, now);
        if let Some((reason, result)) = count {
            self.exchange.metrics.upstream_retries.with_label_values(&[reason, result]).inc();
        }
        next
    }

    /// Takes one step after the other. Returns whether the call is to be sent again; else the result of its last attempt
    /// stands. `cause` is the error of that attempt.
    async fn obey(&mut self, mut next: Next, cause: Option<&UpstreamError>) -> bool {
        loop {
            next = match next {
                Next::Stop => return false,
                Next::Send => return true,
                Next::Renew(generation) => self.renew(generation).await,
                Next::Withdraw(retry) => {
                    let has_room = self.permit.withdraw_retry(self.ended);
                    self.after(Event::Budget(retry, has_room), self.ended)
                }
                Next::Wait(retry) => self.wait(retry, cause).await,
            };
        }
    }

    async fn renew(&mut self, generation: u64) -> Next {
        let left = self.end.since(self.ended);
        let Some(fresh) = self.exchange.tokens.after_unauthorized(generation, left).await else {
            return self.after(Event::NotRenewed, self.ended);
        };
        self.credential = Credential::Token(fresh);
        self.begins = self.exchange.clock.mono();
        self.ended = self.begins;
        self.after(Event::Renewed, self.ended)
    }

    async fn wait(&mut self, retry: Retry, cause: Option<&UpstreamError>) -> Next {
        sleep(retry.wait).await;
        let now = self.exchange.clock.now();
        self.begins = now.mono;
        let again = self.permit.acquire_send(now).ok();
        let next = self.after(Event::Waited(retry, again.is_some()), now.mono);
        if let (Next::Send, Some(again)) = (next, again) {
            log_retry(retry, cause, self.outgoing, self.request_id);
            self.send_permit = again;
        }
        next
    }
}

/// The result of an attempt as `Attempts` reads it. `judged` is the generation of the token that a 401 would judge.
fn event(result: &Result<GatewayResponse, UpstreamError>, judged: Option<u64>, send_permit: &SendPermit<'_>) -> Event {
    let failure = match (result, judged) {
        (Ok(answer), Some(generation)) if answer.status == StatusCode::UNAUTHORIZED => {
            return Event::Unauthorized(generation);
        }
        (Ok(answer), _) => match Failure::of_status(answer.status, || retry_after(&answer.headers)) {
            Some(failure) => failure,
            None => return Event::Answered(answer.status),
        },
        (Err(error), _) => Failure::Error(error.kind, error.sent),
    };
    Event::Failed { failure, is_trial: send_permit.is_trial(), random: fastrand::f64() }
}

/// The caller's result of the last attempt. `doubt` says how an earlier attempt failed that may have had its effect. A
/// write that may have been done must not look undone, and a call that was sent must not look unsent.
fn concluded(
    result: Result<GatewayResponse, UpstreamError>,
    retry_safety: RetrySafety,
    remedy: &Remedy,
    doubt: Option<&'static str>,
) -> Result<GatewayResponse, ProxyError> {
    let is_write = retry_safety != RetrySafety::Safe;
    match result {
        Ok(answer) => {
            Ok(GatewayResponse { in_doubt: is_write && doubt.is_some() && !answer.status.is_success(), ..answer })
        }
        Err(mut cause) => {
            if let Some(doubt) = doubt {
                cause.sent = Sent::Maybe;
                cause.detail = format!("{}, after an earlier attempt that ended with {doubt}", cause.detail);
            }
            if is_write && cause.sent == Sent::Maybe {
                Err(ProxyError::OutcomeUnknown { remedy: remedy.clone(), cause })
            } else {
                Err(ProxyError::Upstream(cause))
            }
        }
    }
}
