//! Makes the proxy from the parts that it is given, and creates the series that only the proxy counts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::attempt_log::UnauthorizedAnswers;
use super::authentication::Authentication;
use super::error::CODES;
use super::exchange::Exchange;
use super::links::LinkRewriter;
use super::links::answers::AnswerLinks;
use super::options::Options;
use super::pressure::Pressure;
use super::record::RecordSink;
use super::request_key::KeySource;
use super::route::Route;
use super::writes::Writes;
use super::{Proxy, Sessions};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::credentials::TokenManager;
use crate::credentials::shop::Shops;
use crate::drift::Drift;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::worker::PerWorker;

pub struct Dependencies {
    pub sessions: Arc<Sessions>,
    pub upstream: Upstream,
    pub tokens: Arc<TokenManager>,
    /// Leads links in answers back here. Without it, bodies pass as they are.
    pub links: Option<LinkRewriter>,
    pub writes: Writes,
    pub audit: Option<Arc<Audit>>,
    pub drift: Drift,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Proxy {
    pub fn new(
        workers: usize,
        options: Options,
        Dependencies { sessions, upstream, tokens, links, writes, audit, drift, clock, metrics }: Dependencies,
    ) -> Self {
        for code in CODES.iter().filter(|code| code.is_refusal) {
            metrics.requests_refused.with_label_values(&[code.word]).inc_by(0);
        }
        for route in Route::ALL.iter().filter(|route| **route != Route::Authentication) {
            metrics.outcome_unknown.with_label_values(&[route.template()]).inc_by(0);
            metrics.refused_in_doubt.with_label_values(&[route.template()]).inc_by(0);
        }
        for source in KeySource::WORDS {
            metrics.idempotency_keys.with_label_values(&[source]).inc_by(0);
        }
        let links = links.map(|rewriter| Arc::new(AnswerLinks::new(rewriter, Arc::clone(&metrics))));
        let shops = Shops::new(upstream.clone(), Arc::clone(&tokens), clock.clone(), Arc::clone(&metrics));
        let authentication =
            Authentication { shops, tokens: Arc::clone(&tokens), links: links.clone(), metrics: Arc::clone(&metrics) };
        let exchange = Exchange {
            upstream,
            tokens,
            links,
            clock: clock.clone(),
            metrics: Arc::clone(&metrics),
            unauthorized: UnauthorizedAnswers::default(),
            drift,
        };
        Self {
            pressure: Arc::new(Pressure::new(options.limits.in_flight, &clock, &metrics)),
            exchange: Arc::new(exchange),
            authentication: Arc::new(authentication),
            draining: Arc::new(AtomicBool::new(false)),
            unserved_paths: Arc::default(),
            ambiguous_certificates: Arc::default(),
            sinks: PerWorker::new(workers, || {
                Arc::new(RecordSink::new(clock.clone(), Arc::clone(&metrics), options.sample_hits))
            }),
            options,
            sessions,
            writes,
            audit,
            clock,
            metrics,
        }
    }
}
