//! One exchange with Sezzle: the token, the attempts, and the changes to the answer before caller or cache get it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body as _;
use tokio::time::sleep;

use super::attempt_log::{UnauthorizedAnswers, log_attempt, log_retry};
use super::attempts::{Attempts, Event, Next};
use super::content::{Content, GatewayResponse, MAX_LINKED, ReadAhead, Reading, read, require_content};
use super::decision::Rights;
use super::error::ProxyError;
use super::etag;
use super::headers::{clean, is_readable};
use super::links::answers::AnswerLinks;
use super::pressure::{Permit, SendPermit};
use super::record::RequestId;
use super::route::remedy::Remedy;
use super::upstream_stats::UpstreamStats;
use crate::clock::{Clock, Mono, Now};
use crate::credentials::{Token, TokenManager};
use crate::drift::Drift;
use crate::drift::shape::Subject;
use crate::session::Fetched;
use crate::session::freshness::MAX_BODY;
use crate::session::response::SessionResponse;
use crate::session::revalidation::{Conditions, validator};
use crate::telemetry::metrics::Metrics;
use crate::upstream::body::Arrival;
use crate::upstream::error::{ErrorKind, Sent, UpstreamError};
use crate::upstream::retry::{Failure, RetrySafety};
use crate::upstream::retry_after::retry_after;
use crate::upstream::{Outgoing, Upstream};

/// A request to Sezzle, and facts about it that are not sent.
#[derive(Clone, Debug)]
pub struct Sending {
    pub outgoing: Outgoing,
    /// When the request may be sent again.
    pub retry_safety: RetrySafety,
    /// The caller's next step if the outcome is unknown.
    pub remedy: Remedy,
    pub rights: Rights,
    /// Whether a 401 says that the token is not live any more.
    pub judges_token: bool,
    /// The id of the caller's request, for logs.
    pub request_id: RequestId,
    /// The cost of the exchange, for logs.
    pub stats: Arc<UpstreamStats>,
}

impl Sending {
    /// Takes a wait off the time until the head of the answer.
    pub fn shorten(&mut self, waited: Duration) {
        let limit = &mut self.outgoing.deadlines.head;
        *limit = limit.saturating_sub(waited);
    }
}

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
            match self.fetch(&mut asking, permit, now).await {
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

    async fn fetch(&self, sending: &mut Sending, permit: &Permit, now: Now) -> Fetched<GatewayResponse, ProxyError> {
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

    /// Sends a request with the live token, and again where `Attempts` says so. The deadline covers everything up to
    /// the head of the last answer; a body that is read has time of its own. `began` is now. Do not send `sending`
    /// again afterwards: its time is used up.
    async fn run(
        &self,
        sending: &mut Sending,
        reading: Reading,
        permit: &Permit,
        began: Now,
    ) -> Result<GatewayResponse, ProxyError> {
        let Sending { outgoing, retry_safety, remedy, rights, judges_token, request_id, stats } = sending;
        let (retry_safety, judges_token) = (*retry_safety, *judges_token);
        let end = began.mono.plus(outgoing.deadlines.head);
        let latest = began.mono.plus(outgoing.deadlines.head.saturating_sub(outgoing.deadlines.reserve));
        let mut attempts = Attempts::new(retry_safety, latest);
        let (mut credential, mut now) = self.credential(rights, began, outgoing.deadlines.head).await?;
        let mut send_permit = permit.acquire_send(now).map_err(|refusal| permit.shed(refusal))?;
        let sent = now.mono;
        let (result, ended) = 'sending: loop {
            outgoing.deadlines.head = end.since(now.mono);
            let result = self.attempt(outgoing, &credential, now.mono, reading, &send_permit, stats).await;
            let mut ended = result.as_ref().map_or_else(|_| self.clock.mono(), |answer| answer.at);
            stats.took(ended.since(sent));
            if tracing::enabled!(tracing::Level::DEBUG) {
                log_attempt(&result, outgoing, request_id, stats, ended.since(now.mono));
            }
            let judged = credential.generation().filter(|_| judges_token);
            let mut step = attempts.after(event(&result, judged, &send_permit), ended);
            loop {
                if let Some((reason, result)) = step.count {
                    self.metrics.upstream_retries.with_label_values(&[reason, result]).inc();
                }
                step = match step.next {
                    Next::Stop => break 'sending (result, ended),
                    Next::Send => break,
                    Next::Renew(generation) => {
                        match self.tokens.after_unauthorized(generation, end.since(ended)).await {
                            Some(fresh) => {
                                (credential, now) = (Credential::Token(fresh), self.clock.now());
                                ended = now.mono;
                                attempts.after(Event::Renewed, ended)
                            }
                            None => attempts.after(Event::NotRenewed, ended),
                        }
                    }
                    Next::Withdraw(retry) => attempts.after(Event::Budget(retry, permit.withdraw_retry(ended)), ended),
                    Next::Wait(retry) => {
                        sleep(retry.wait).await;
                        now = self.clock.now();
                        let again = permit.acquire_send(now).ok();
                        let step = attempts.after(Event::Waited(retry, again.is_some()), now.mono);
                        if let (Next::Send, Some(again)) = (step.next, again) {
                            log_retry(retry, &result, outgoing, request_id);
                            send_permit = again;
                        }
                        step
                    }
                };
            }
        };
        let refused = result.as_ref().is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED);
        if refused && judges_token && credential.generation().is_some() {
            self.metrics.unauthorized_passed_on.inc();
            self.unauthorized.count(outgoing, request_id, ended);
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
        outgoing: &mut Outgoing,
        credential: &Credential,
        now: Mono,
        reading: Reading,
        send_permit: &SendPermit<'_>,
        stats: &UpstreamStats,
    ) -> Result<GatewayResponse, UpstreamError> {
        if outgoing.deadlines.head < outgoing.deadlines.reserve || outgoing.deadlines.head.is_zero() {
            return Err(UpstreamError::unsent(ErrorKind::Timeout, "too little time was left to send the request"));
        }
        outgoing.headers.insert(AUTHORIZATION, credential.authorization().clone());
        stats.attempted(credential.generation());
        let (head, body) = self.upstream.send_at(now, outgoing).await?.into_parts();
        let Arrival { at, reused } = body.arrival;
        stats.answered(reused);
        let (status, mut headers) = (head.status, head.headers);
        send_permit.head_received(status, &headers);
        clean(&mut headers);
        let ahead = match reading {
            Reading::Links if is_readable(&headers) => ReadAhead::whole(MAX_LINKED, &body),
            Reading::Write => ReadAhead::whole(MAX_LINKED, &body),
            Reading::Session => ReadAhead::whole(MAX_BODY, &body),
            Reading::Start => ReadAhead::START,
            Reading::First | Reading::Links if !body.is_end_stream() => ReadAhead::FIRST,
            Reading::Nothing | Reading::First | Reading::Links => {
                let content = Content::Streamed { read: None, rest: body };
                return Ok(GatewayResponse { status, headers, content, at, in_doubt: false });
            }
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
