//! Serves requests to the control interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::calls::parse;
use super::error::{CommandError, CommandResult};
use crate::simulator::browser::is_of_browser;
use crate::simulator::handle::Simulator;
use crate::simulator::payload::{ConnectionEnd, Payload};
use crate::simulator::shared::Core;

pub(in crate::simulator) async fn serve(
    core: &Arc<Core>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, ConnectionEnd> {
    let (head, body) = request.into_parts();
    if is_of_browser(&head.headers) {
        return Ok(response(Err(CommandError::new(
            StatusCode::FORBIDDEN,
            "the simulator refuses requests from browsers",
        ))));
    }
    if core.addr.ip().is_loopback() && !names_this_machine(&head.headers) {
        // A web page may have pointed a name of its own at this address.
        return Ok(response(Err(CommandError::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the simulator does not answer for this Host",
        ))));
    }
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            return Ok(response(Err(CommandError::new(StatusCode::PAYLOAD_TOO_LARGE, message))));
        }
        Ok(Err(_)) | Err(_) => return Err(ConnectionEnd::Close),
    };
    let command = parse(head.method.as_str(), head.uri.path(), head.uri.query(), &body);
    Ok(response(command.and_then(|command| command.run(&Simulator::for_task(core)))))
}

/// Whether `Host` is an address or `localhost`. HTTP/2 has no `Host`, and no browser speaks HTTP/2 without TLS.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    })
}

fn response(outcome: CommandResult) -> Response<Payload> {
    let (status, allow, content): (_, _, Value) = match outcome {
        Ok(content) => (StatusCode::OK, None, content),
        Err(refusal) => (refusal.status, refusal.allow, json!({"error": refusal.message})),
    };
    let mut response = Response::new(Payload::whole(format!("{content}\n").into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(allow) = allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    response
}

const MAX_BODY: usize = 1024 * 1024;
/// The longest wait for a body: long enough for a busy machine, and short enough that a silent caller does not stay.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
