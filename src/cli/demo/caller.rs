//! The service of a tour, which calls a sidecar, and the failure of a tour.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::failure::Failure;

/// A service that calls the sidecar at `at`.
#[derive(Clone)]
pub(super) struct Caller {
    pub client: Client<HttpConnector, Full<Bytes>>,
    pub at: SocketAddr,
}

/// A session and its order.
pub(super) struct Ids {
    pub session: String,
    pub order: String,
}

impl Ids {
    pub fn session_path(&self) -> String {
        format!("/v2/session/{}", self.session)
    }
}

/// An answer of the sidecar.
pub(super) struct Answer {
    pub status: StatusCode,
    /// The value of `Cache-Status`.
    pub cache: String,
    pub body: Bytes,
    pub json: Value,
}

impl Answer {
    /// The amount captured of the session's order, in cents.
    pub fn captured(&self) -> Option<i64> {
        self.json.pointer("/order/captured_amount_in_cents").and_then(Value::as_i64)
    }
}

impl Caller {
    pub fn new(at: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), at }
    }

    /// Creates a session with an order of 100.00 USD.
    pub async fn create(&self) -> Result<(Ids, StatusCode), Failure> {
        let body = r#"{"cancel_url":{"href":"https://shop.example/no"},"complete_url":{"href":"https://shop.example/yes"},"order":{"intent":"AUTH","reference_id":"demo","description":"demo","order_amount":{"amount_in_cents":10000,"currency":"USD"}}}"#;
        let answer = self.call(Method::POST, "/v2/session", body).await?;
        expect(answer.status == StatusCode::CREATED, "the session was not created")?;
        let text = |pointer| answer.json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let ids = (text("/uuid"), text("/order/uuid"));
        let (Some(session), Some(order)) = ids else { return Err(failed("the new session names no order")) };
        Ok((Ids { session, order }, answer.status))
    }

    pub async fn look_up(&self, ids: &Ids) -> Result<Answer, Failure> {
        self.call(Method::GET, &ids.session_path(), "").await
    }

    /// Captures 25.00 USD of the order.
    pub async fn capture(&self, ids: &Ids) -> Result<StatusCode, Failure> {
        let path = format!("/v2/order/{}/capture", ids.order);
        let capture = r#"{"capture_amount":{"amount_in_cents":2500,"currency":"USD"},"partial_capture":true}"#;
        Ok(self.call(Method::POST, &path, capture).await?.status)
    }

    pub async fn call(&self, method: Method, path: &str, body: &'static str) -> Result<Answer, Failure> {
        let request = self.request(method, path, body)?;
        let answer: Response<_> = self.client.request(request).await.map_err(|error| failed(&error.to_string()))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error.to_string()))?.to_bytes();
        let cache = head.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status: head.status, cache: cache.to_owned(), body, json })
    }

    pub fn request(&self, method: Method, path: &str, body: &'static str) -> Result<Request<Full<Bytes>>, Failure> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.at))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .map_err(|error| failed(&error.to_string()))
    }
}

/// Fails the tour with the message `otherwise`, unless the tour went as it should.
pub(super) fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(failed(otherwise)) }
}

pub(super) fn failed(message: &str) -> Failure {
    Failure::Tour(message.to_owned())
}
