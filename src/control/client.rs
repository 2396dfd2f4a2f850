//! The other end of the listeners for operators: what their commands ask a running sidecar with.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::address::Address;
use crate::units;

/// Why a running sidecar did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there, or not for this user.
    #[error("cannot reach the sidecar at {address}: {cause}")]
    Unreachable {
        /// Where.
        address: Address,
        /// Why.
        cause: std::io::Error,
    },
    /// The exchange broke off.
    #[error("the sidecar did not answer: {0}")]
    Broken(String),
    /// It said no.
    #[error("the sidecar refused: {0}")]
    Refused(String),
}

/// Asks the sidecar that listens for control at `address`, and returns its answer.
///
/// # Errors
/// Why there is none.
pub async fn call(address: &Address, method: Method, path: &str, body: &Value) -> Result<Value, CallError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(broken)?;
    let answer = send(address, request, PATIENCE).await?;
    let json: Value = serde_json::from_slice(answer.body()).map_err(broken)?;
    if answer.status() == StatusCode::OK {
        return Ok(json);
    }
    let why = json.get("error").and_then(Value::as_str).map_or_else(|| answer.status().to_string(), str::to_owned);
    Err(CallError::Refused(why))
}

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;

/// Sends one request to any listener of a running sidecar, over a connection of its own. The answer is whole, and comes
/// within `patience`.
///
/// # Errors
/// Why there is none.
pub async fn send(
    address: &Address,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Response<Bytes>, CallError> {
    let late = |_| CallError::Broken(format!("not within {}", units::shown(patience)));
    timeout(patience, exchange(address, request)).await.map_err(late)?
}

async fn exchange(address: &Address, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, CallError> {
    let stream = match address {
        Address::Tcp(address) => TcpStream::connect(address).await.map(Either::Left),
        Address::Unix(path) => UnixStream::connect(path).await.map(Either::Right),
    };
    let stream = stream.map_err(|cause| CallError::Unreachable { address: address.clone(), cause })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(broken)?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            // A sidecar that is about to end closes with its last answer.
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn broken(cause: impl std::fmt::Display) -> CallError {
    CallError::Broken(cause.to_string())
}
