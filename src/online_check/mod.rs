//! `check --online`: tests whether this configuration reaches the gateway, and reports the result.
//!
//! The test exchanges the keys for a token and looks up one session that does not exist. The test creates nothing, and
//! reads nobody's data. Each finding is reported at once on a line of its own, so that a delay shows its step. A
//! problem ends the test, with advice. Read next: [`failure`].

mod ask;
mod caching;
pub mod failure;
pub mod fleet;

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use uuid::Uuid;

pub use self::caching::caching_headers;
use self::failure::{CheckFailure, Hints, in_ca_file};
use self::fleet::FleetCheck;
use crate::clock::{Clock, Now, Wall};
use crate::credentials::exchange::{Granted, exchange, foreign};
use crate::credentials::keys::KeyPair;
use crate::session::freshness::Policy;
use crate::sezzle::error::is_error;
use crate::sezzle::time::format_rfc3339;
use crate::telemetry::log::new_request_id;
use crate::telemetry::metrics::LabelValue;
use crate::upstream::certificate::Certificate;
use crate::upstream::connector::Connector;
use crate::upstream::probe::{self, PeerCertificate};
use crate::upstream::{Deadlines, Outgoing, Upstream, own_headers};

pub struct OnlineCheck {
    /// Scheme and authority of the gateway.
    pub gateway: Uri,
    /// `gateway.environment`.
    pub environment: &'static str,
    /// A line for each setting that is probably a mistake.
    pub warnings: Vec<String>,
    /// The environment to which `gateway.url` belongs, if that is not `gateway.environment`.
    pub other_environment: Option<&'static str>,
    /// The sources of the keys, for messages.
    pub key_names: String,
    pub keys: KeyPair,
    /// The only merchant that the keys may belong to, if set.
    pub merchant: Option<String>,
    /// Whether `gateway.egress_proxy` is used.
    pub through_proxy: bool,
    /// The environment variable that names a proxy, if one is set and the sidecar ignores it.
    pub ignored_proxy: Option<&'static str>,
    /// The environment variable that names certificates to trust, if one is set. The sidecar ignores such variables.
    pub ignored_trust: Option<&'static str>,
    /// The names of the issuers in `gateway.ca_file`.
    pub issuers: Vec<String>,
    pub connector: Connector,
    /// The certificate that the last handshake showed.
    pub peer_certificate: PeerCertificate,
    pub upstream: Upstream,
    /// The rules for storing sessions.
    pub policy: Policy,
    /// Time limit until the head of the response to a lookup.
    pub lookup_timeout: Duration,
    /// `None` for a sidecar that is in no fleet.
    pub fleet: Option<FleetCheck>,
    pub clock: Clock,
}

impl OnlineCheck {
    /// Runs the test, and reports each finding by `say` as a topic and a text. The topic of a further line is empty.
    pub async fn run(&self, mut say: impl FnMut(&str, &str)) -> Result<(), CheckFailure> {
        say("gateway", &format!("{} ({})", without_slash(&self.gateway), self.environment));
        let way = match (self.through_proxy, self.ignored_proxy) {
            (true, _) => "through gateway.egress_proxy".to_owned(),
            (false, None) => "direct".to_owned(),
            (false, Some(variable)) => format!("direct; the sidecar ignores {variable}, which is set"),
        };
        say("way", &way);
        if !self.issuers.is_empty() {
            say("trust", &format!("the bundled web roots, and {}", in_ca_file(&self.issuers)));
        }
        for warning in &self.warnings {
            say("note", warning);
        }
        if let Some(other) = self.other_environment {
            say("note", &format!("gateway.url belongs to {other}, but gateway.environment is {}", self.environment));
        }
        self.connect(&mut say).await?;
        let granted = self.authenticate(&mut say).await?;
        self.look_up(&granted, &mut say).await?;
        match &self.fleet {
            Some(fleet) => {
                let merchant = self.merchant.as_ref().unwrap_or(&granted.merchant);
                fleet.run(merchant, &self.clock, &mut say).await
            }
            None => Ok(()),
        }
    }

    async fn connect(&self, say: &mut impl FnMut(&str, &str)) -> Result<(), CheckFailure> {
        let began = self.clock.now();
        let connected = probe::connect(&self.connector, self.gateway.clone()).await;
        let secured = connected.map_err(|error| CheckFailure::unreachable(&error, &self.hints()))?;
        say("connection", &format!("made in {}: name, TCP and TLS together", self.took(began)));
        match secured {
            None => say("TLS", "none: gateway.url is http, which is for tests"),
            Some(secured) => {
                let spoken = if secured.http2 { "HTTP/2" } else { "HTTP/1.1" };
                say("TLS", &format!("{}, with {spoken}", secured.version));
            }
        }
        if let Some(certificate) = self.peer_certificate.certificate() {
            say("certificate", &described(&certificate, self.clock.now().wall));
        }
        Ok(())
    }

    async fn authenticate(&self, say: &mut impl FnMut(&str, &str)) -> Result<Granted, CheckFailure> {
        let began = self.clock.now();
        let granted = exchange(&self.upstream, &self.keys, self.merchant.as_deref(), &self.clock).await;
        let granted = granted.map_err(|error| CheckFailure::of_keys(error, &self.hints()))?;
        let now = self.clock.now();
        say("keys", &format!("accepted in {}", self.took(began)));
        let pinned = if self.merchant.is_some() { "as credentials.merchant_uuid says" } else { "not pinned" };
        say("merchant", &format!("{} ({pinned})", named(&granted.merchant)));
        let life = granted.expiration.map(|end| end.since(granted.date.unwrap_or(now.wall)));
        say(
            "token",
            &life.map_or("has no end that the sidecar can read".to_owned(), |life| {
                // To the nearest minute: the exchange itself takes some of the last one.
                format!("lasts {} min", (life.as_secs() + 30) / 60)
            }),
        );
        say("clock", &skew(granted.date, began.wall, now.wall));
        Ok(granted)
    }

    async fn look_up(&self, granted: &Granted, say: &mut impl FnMut(&str, &str)) -> Result<(), CheckFailure> {
        // A random id, so that no session has it.
        let session = new_request_id();
        let began = self.clock.now();
        let sent = self.upstream.send(&mut self.lookup_of(session, granted)).await;
        let answer = sent.map_err(|error| CheckFailure::unreachable(&error, &self.hints()))?;
        let status = answer.status();
        let took = self.took(began);
        say("lookup", &format!("{} in {took}, for a session that does not exist", status.as_u16()));
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map(Collected::to_bytes).unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
                if !body.is_empty() && !is_error(&body) =>
            {
                return Err(CheckFailure::foreign(&foreign(status, &head.headers)));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(CheckFailure::refused(status)),
            status if status.is_server_error() => return Err(CheckFailure::failed(status)),
            _ => {}
        }
        let now = self.clock.now();
        caching::report(&self.policy, session, &head.headers, now.since(began), now, say);
        Ok(())
    }

    fn lookup_of(&self, session: Uuid, granted: &Granted) -> Outgoing {
        let target = PathAndQuery::try_from(format!("/v2/session/{session}"));
        Outgoing {
            method: Method::GET,
            target: target.unwrap_or(PathAndQuery::from_static("/v2/session/0")),
            headers: headers(&granted.authorization),
            body: Bytes::new(),
            deadlines: Deadlines::new(self.lookup_timeout, Duration::from_secs(1)),
            route: LabelValue::unnumbered("/v2/session/{session}"),
            class: LabelValue::unnumbered("session"),
        }
    }

    fn hints(&self) -> Hints<'_> {
        Hints {
            gateway: without_slash(&self.gateway),
            environment: self.environment,
            key_names: &self.key_names,
            through_proxy: self.through_proxy,
            ignored_proxy: self.ignored_proxy,
            ignored_trust: self.ignored_trust,
            issuers: &self.issuers,
            certificate: self.peer_certificate.certificate().map(|shown| described(&shown, self.clock.now().wall)),
            now: self.clock.now().wall,
        }
    }

    fn took(&self, began: Now) -> String {
        format!("{} ms", self.clock.mono().since(began.mono).as_millis())
    }
}

fn headers(authorization: &HeaderValue) -> HeaderMap {
    let mut headers = own_headers();
    headers.insert(AUTHORIZATION, authorization.clone());
    headers
}

/// The URL without the slash of an empty path.
fn without_slash(gateway: &Uri) -> String {
    gateway.to_string().trim_end_matches('/').to_owned()
}

const MAX_ANSWER: usize = 64 * 1024;

fn named(text: &str) -> &str {
    if text.is_empty() { "unnamed" } else { text }
}

/// A certificate in words.
fn described(certificate: &Certificate, now: Wall) -> String {
    let Certificate { subject, issuer, not_before, not_after } = certificate;
    let moment = |wall| format_rfc3339(wall).unwrap_or_else(|| "another age".to_owned());
    let holds = match not_after.since(now) {
        _ if *not_before > now => format!("only from {} on", moment(*not_before)),
        Duration::ZERO => format!("ended at {}", moment(*not_after)),
        left => format!("until {}, {} days from now", moment(*not_after), left.as_secs() / 86_400),
    };
    format!("for {}, by {}, {holds}", named(subject), named(issuer))
}

/// The difference between this machine's clock and Sezzle's, in words. A `Date` has whole seconds, and was written at
/// some moment of the exchange.
fn skew(date: Option<Wall>, began: Wall, ended: Wall) -> String {
    let Some(date) = date else { return "unknown: the answer has no Date".to_owned() };
    let (behind, ahead) = (date.millis_since(ended), began.millis_since(date).saturating_sub(1000));
    match (behind, ahead) {
        (1.., _) => format!("this machine's clock is {} behind Sezzle's{CLOCK}", about(behind)),
        (_, 1..) => format!("this machine's clock is {} ahead of Sezzle's{CLOCK}", about(ahead)),
        _ => "agrees with Sezzle's to the second".to_owned(),
    }
}

/// A difference of clocks in words, rounded up to seconds.
fn about(millis: i64) -> String {
    format!("about {} s", millis.saturating_add(999) / 1000)
}

const CLOCK: &str = ". Tokens are not affected, but sessions are stored for less time: set the clock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_only_where_the_second_does_not_explain_it() {
        let at = |millis: i64| Wall(1_600_000_000_000 + millis);
        for (date, began, ended, expected) in [
            (0, 0, 50, "agrees with Sezzle's to the second"),
            (0, 999, 1400, "agrees with Sezzle's to the second"),
            (1000, 900, 1100, "agrees with Sezzle's to the second"),
            (0, 1001, 1100, "this machine's clock is about 1 s ahead"),
            (1000, 100, 900, "this machine's clock is about 1 s behind"),
            (90_000, 0, 100, "this machine's clock is about 90 s behind"),
            (-3_600_000, 0, 100, "this machine's clock is about 3599 s ahead"),
        ] {
            let text = skew(Some(at(date)), at(began), at(ended));
            assert!(text.starts_with(expected), "{date} {began} {ended}: {text}");
        }
        assert!(skew(None, at(0), at(0)).contains("no Date"));
    }

    #[test]
    fn certificates_in_words() {
        let day = 86_400_000;
        let certificate = |from, until| Certificate {
            subject: "gateway.example".to_owned(),
            issuer: String::new(),
            not_before: Wall(from),
            not_after: Wall(until),
        };
        for (from, until, expected) in [
            (0, 40 * day, "until 1970-02-10T00:00:00Z, 38 days from now"),
            (0, day, "ended at 1970-01-02T00:00:00Z"),
            (3 * day, 9 * day, "only from 1970-01-04T00:00:00Z on"),
        ] {
            let text = described(&certificate(from, until), Wall(2 * day));
            assert_eq!(text, format!("for gateway.example, by unnamed, {expected}"));
        }
    }
}
