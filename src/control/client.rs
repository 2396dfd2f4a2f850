//! The client of the control and ops listeners, for commands that ask a running sidecar.

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

/// Why a running sidecar did not obey.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing listens at the address, or the user has no permission.
    #[error("cannot reach the sidecar at {address}: {cause}")]
    Unreachable { address: Address, cause: std::io::Error },
    #[error("the sidecar did not answer: {0}")]
    Broken(String),
    #[error("the sidecar refused: {0}")]
    Refused(String),
}

/// Sends a request to the control listener at `address`, and returns its response.
pub async fn call(address: &Address, method: Method, path: &str, body: &Value) -> Result<Value, CallError> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(broken)?;
    let answer = send(address, request, CALL_TIMEOUT).await?;
    let json: Value = serde_json::from_slice(answer.body()).map_err(broken)?;
    if answer.status() == StatusCode::OK {
        return Ok(json);
    }
    let why = json.get("error").and_then(Value::as_str).map_or_else(|| answer.status().to_string(), str::to_owned);
    Err(CallError::Refused(why))
}

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1024 * 1024;

/// Sends one request to any listener of a running sidecar, over a new connection, and returns the whole response.
pub async fn send(
    address: &Address,
    request: Request<Full<Bytes>>,
    limit: Duration,
) -> Result<Response<Bytes>, CallError> {
    let late = |_| CallError::Broken(format!("timed out after {}", units::shown(limit)));
    timeout(limit, exchange(address, request)).await.map_err(late)?
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
            // A sidecar that is about to end closes the connection after its last response.
            Ok(()) => answer.await,
            Err(error) => Err(broken(error)),
        },
    }
}

fn broken(cause: impl std::fmt::Display) -> CallError {
    CallError::Broken(cause.to_string())
}
