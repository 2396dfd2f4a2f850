//! Responses that are sent without reading a request: to a connection over the limit or at its end, and in place of
//! hyper's own responses, which have no body.

use std::io;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket::Connection;
use crate::telemetry::log::new_request_id;

/// Answers a connection over the limit, whatever its request is.
pub(super) async fn turn_away(stream: Connection) -> io::Result<()> {
    send(stream, &OVERLOADED.over_http1()).await
}

/// Answers a caller that speaks plain HTTP where TLS is expected.
pub(super) async fn turn_away_plain(stream: TcpStream) -> io::Result<()> {
    send(stream, &HTTPS_REQUIRED.over_http1()).await
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
    let refusal = match status.get(..3)? {
        b"400" => BAD_REQUEST,
        b"414" => TARGET_TOO_LONG,
        b"431" => HEAD_TOO_LARGE,
        _ => return None,
    };
    Some(refusal.over_http1())
}

const OVERLOADED: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "overloaded",
    message: "the sidecar has too many connections open, so it sent nothing to Sezzle; repeat the call after Retry-After",
    proxy_status: "connection_limit_reached",
};

const HTTPS_REQUIRED: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    code: "https_required",
    message: "this port speaks HTTPS, and the request came as plain HTTP, so the sidecar sent nothing to Sezzle; call \
              https:// in place of http://",
    proxy_status: "http_request_error",
};

const BAD_REQUEST: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    code: "bad_request",
    message: "this is not an HTTP request",
    proxy_status: "http_request_error",
};

const TARGET_TOO_LONG: Refusal = Refusal {
    status: StatusCode::URI_TOO_LONG,
    code: "target_too_long",
    message: "the request's path and query are too long",
    proxy_status: "http_request_error",
};

pub(super) const HEAD_TOO_LARGE: Refusal = Refusal {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "head_too_large",
    message: "the request's head is larger than limits.head, or has more than 100 lines",
    proxy_status: "http_request_error",
};

/// For a request on a connection that takes no further ones.
pub(super) const CLOSING: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "stopping",
    message: "the sidecar has ended this connection by GOAWAY, so it sent nothing to Sezzle; repeat the call over another \
              connection",
    proxy_status: "destination_unavailable",
};

/// A response in the form of Sezzle's errors. The request was not read, so each response has a new request id, which
/// appears in no log line.
pub(super) struct Refusal {
    status: StatusCode,
    /// The `code` of the body, less its prefix `sidecar.`.
    code: &'static str,
    message: &'static str,
    /// The error type of RFC 9209, 2.3.
    proxy_status: &'static str,
}

impl Refusal {
    /// The response over HTTP/2, which has no header that closes a connection.
    pub fn response(&self) -> Response<Bytes> {
        let (headers, body) = self.parts();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        for (name, value) in headers {
            // Each value is a word of ours or an id, and so valid.
            if let Ok(value) = value.try_into() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// The bytes of a response over HTTP/1.1, after which the connection is closed.
    fn over_http1(&self) -> Bytes {
        let (headers, body) = self.parts();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (status, length) = (self.status, body.len());
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}").into()
    }

    /// Headers and body, for every protocol.
    fn parts(&self) -> (Vec<(&'static str, String)>, String) {
        let Self { status, code, message, proxy_status } = self;
        let id = new_request_id();
        let body = format!(r#"[{{"code":"sidecar.{code}","location":"","message":"{message}","debug_uuid":"{id}"}}]"#);
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("proxy-status", format!("sezzle-sidecar; error={proxy_status}")),
            ("x-request-id", id.to_string()),
        ];
        if *status == StatusCode::SERVICE_UNAVAILABLE {
            headers.push(("retry-after", "1".to_owned()));
        }
        (headers, body)
    }
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
