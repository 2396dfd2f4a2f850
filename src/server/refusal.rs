//! Responses that are sent without reading a request: to a connection over the limit, and in place of hyper's own
//! responses, which have no body.

use std::io;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::Connection;
use crate::telemetry::log::new_request_id;

/// Answers a connection over the limit, whatever its request is.
pub(super) async fn turn_away(stream: Connection) -> io::Result<()> {
    let answer = answer(
        StatusCode::SERVICE_UNAVAILABLE,
        "overloaded",
        "the sidecar has too many connections open, so it sent nothing to Sezzle; repeat the call after Retry-After",
        "connection_limit_reached",
    );
    send(stream, &answer).await
}

/// Answers a caller that speaks plain HTTP where TLS is expected.
pub(super) async fn turn_away_plain(stream: TcpStream) -> io::Result<()> {
    let answer = answer(
        StatusCode::BAD_REQUEST,
        "https_required",
        "this port speaks HTTPS, and the request came as plain HTTP, so the sidecar sent nothing to Sezzle; call \
         https:// in place of http://",
        "http_request_error",
    );
    send(stream, &answer).await
}

async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> io::Result<()> {
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // A close with unread bytes would reset the connection and lose the response.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

/// The response to send instead of `written`, if that is hyper's bare response to bytes that it could not parse.
pub(super) fn in_place_of(written: &[u8]) -> Option<Bytes> {
    let status = written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?;
    let (status, code, message) = match status.get(..3)? {
        b"400" => (StatusCode::BAD_REQUEST, "bad_request", "this is not an HTTP request"),
        b"414" => (StatusCode::URI_TOO_LONG, "target_too_long", "the request's path and query are too long"),
        b"431" => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head_too_large",
            "the request's head is larger than limits.head, or has more than 100 lines",
        ),
        _ => return None,
    };
    Some(answer(status, code, message, "http_request_error"))
}

/// A response in the form of Sezzle's errors, after which the connection is closed. The request was not read, so the
/// request id is new and appears in no log line.
fn answer(status: StatusCode, code: &str, message: &str, proxy_status: &str) -> Bytes {
    let id = new_request_id();
    let body = format!(r#"[{{"code":"sidecar.{code}","location":"","message":"{message}","debug_uuid":"{id}"}}]"#);
    let retry = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{retry}cache-control: no-store\r\n\
         proxy-status: sezzle-sidecar; error={proxy_status}\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    answer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_says_of_its_own_is_replaced() {
        let replaced = in_place_of(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n").expect("replaced");
        assert!(replaced.starts_with(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        for other in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 4", b"[{}]", b"HTTP/1.1 404 Not Found\r\n"] {
            assert!(in_place_of(other).is_none());
        }
    }
}
