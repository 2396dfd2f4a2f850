//! Exports spans to an OpenTelemetry collector: OTLP over HTTP, in batches.
//!
//! A slow or missing collector costs only spans, which are counted.

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use prometheus::IntCounterVec;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Span, Spans};
use crate::http_client::lenient;
use crate::names::Resolver;

/// Takes spans from their queue and exports them.
pub struct Exporter {
    otlp: Otlp,
    scope: InstrumentationScope,
    spans: mpsc::Receiver<Span>,
    counted: IntCounterVec,
    /// Whether the last export succeeded.
    works: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

// Spans in one request.
const BATCH: usize = 512;
// Time to wait for more spans to share a request.
const REST: Duration = Duration::from_secs(1);
// Time limit of one request.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
// Limit of the collector's response, which is short.
const MOST: usize = 64 * 1024;

impl Exporter {
    /// Opens the queue of spans, for export to the URL `endpoint`. `tls` is for https. Of the requests whose callers
    /// name no trace, one in `sample` begins a trace.
    pub fn new(
        endpoint: &str,
        tls: ClientConfig,
        resolver: Resolver,
        spans: &Spans,
        sample: u64,
    ) -> Result<Self, EndpointError> {
        let mut http = HttpConnector::new_with_resolver(resolver);
        http.enforce_http(false);
        http.set_connect_timeout(Some(EXPORT_TIMEOUT));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = lenient(&mut Client::builder(TokioExecutor::new()))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(https.wrap_connector(http));
        let mut otlp = Otlp::builder()
            .with_http()
            .with_http_client(Http(client))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| EndpointError(error.to_string()))?;
        // The variable OTEL_RESOURCE_ATTRIBUTES can say where the process runs.
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        otlp.set_resource(&Resource::builder().with_service_name("sezzle-sidecar").with_attribute(version).build());
        let scope = InstrumentationScope::builder("sezzle-sidecar").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { otlp, scope, spans: spans.open(sample), counted: spans.counted.clone(), works: true })
    }

    /// Exports spans until `stop`, and then the rest of the queue.
    pub async fn run(&mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => None,
                first = self.spans.recv() => first,
            };
            let Some(first) = first else { break };
            let _ = timeout(REST, stop.cancelled()).await;
            self.export(vec![first]).await;
        }
        self.export(Vec::new()).await;
    }

    /// Exports the batch and the whole queue.
    async fn export(&mut self, mut batch: Vec<Span>) {
        loop {
            while batch.len() < BATCH
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            let count = batch.len() as u64;
            let spans = batch.drain(..).map(|span| self.data(span)).collect();
            let error = match timeout(EXPORT_TIMEOUT, self.otlp.export(spans)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {EXPORT_TIMEOUT:?}")),
            };
            let result = if error.is_none() { "exported" } else { "export_failed" };
            self.counted.with_label_values(&[result]).inc_by(count);
            match error {
                // A failure is logged once, until exports work again.
                Some(error) if self.works => tracing::warn!(error, "the sidecar cannot export spans"),
                None if !self.works => tracing::info!("the sidecar exports spans again"),
                Some(_) | None => {}
            }
            self.works = result == "exported";
        }
    }

    fn data(&self, span: Span) -> SpanData {
        let end = UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(span.ended).unwrap_or(0)));
        let end_time = end.unwrap_or(UNIX_EPOCH);
        let start_time: SystemTime = end_time.checked_sub(span.length).unwrap_or(UNIX_EPOCH);
        let place = span.place;
        let failed = span.code.is_some_and(|code| code >= 500);
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(place.trace_id),
                SpanId::from(place.span_id),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: place.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: place.parent.is_some(),
            span_kind: SpanKind::Server,
            name: span.route.map_or(span.method.into(), |route| format!("{} {route}", span.method).into()),
            start_time,
            end_time,
            attributes: attributes(span),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Attributes by OpenTelemetry's semantic conventions for HTTP servers, as far as they have names.
fn attributes(span: Span) -> Vec<KeyValue> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    // An error of Sezzle has its status as error type.
    let of_sezzle = span.code.filter(|code| *code >= 500).map(|code| code.to_string().into());
    [
        Some(KeyValue::new("http.request.method", span.method)),
        Some(KeyValue::new("url.scheme", span.scheme)),
        span.route.map(|route| KeyValue::new("http.route", route)),
        span.code.map(|code| KeyValue::new("http.response.status_code", i64::from(code))),
        span.error.map(Into::into).or(of_sezzle).map(|kind: opentelemetry::Value| KeyValue::new("error.type", kind)),
        span.bytes_in.map(|bytes| KeyValue::new("http.request.body.size", number(bytes))),
        span.bytes_out.map(|bytes| KeyValue::new("http.response.body.size", number(bytes))),
        Some(KeyValue::new("sezzle_sidecar.request_id", span.request_id)),
        span.caller.map(|caller| KeyValue::new("sezzle_sidecar.caller", caller)),
        Some(KeyValue::new("sezzle_sidecar.source", span.source)),
        Some(KeyValue::new("sezzle_sidecar.cache", span.cache)),
        span.cache_detail.map(|detail| KeyValue::new("sezzle_sidecar.cache_detail", detail)),
        span.attempts.map(|attempts| KeyValue::new("sezzle_sidecar.attempts", number(attempts))),
        span.aborted.map(|who| KeyValue::new("sezzle_sidecar.aborted", who)),
        span.upstream_ms.map(|time| KeyValue::new("sezzle_sidecar.upstream_ms", time)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The exporter's HTTP client. The exporter sets the deadline of each request.
#[derive(Debug)]
struct Http(Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>);

impl HttpClient for Http {
    fn send_bytes<'h, 'f>(
        &'h self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'h: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let (head, body) = self.0.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MOST).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        })
    }
}
