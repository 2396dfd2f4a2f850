//! Serves a request: notes the request, reads it, holds it or cuts it off as a rule says, and lets the gateway answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::sleep;

use super::browser::is_of_browser;
use super::control;
use super::fault::Fault;
use super::gateway::{Answer, ApiError, ApiRequest, Content};
use super::idle::Busy;
use super::journal;
use super::payload::{ConnectionEnd, Payload, Piece};
use super::rule::{Action, Reset};
use super::shared::Core;

/// Serves a request in a task of its own, so that its effect at the gateway does not depend on how long its caller
/// waits. `number` is that of the connection, and `reused` says whether the connection had an earlier request.
pub(super) async fn run(
    core: Arc<Core>,
    number: usize,
    reused: bool,
    busy: Busy,
    request: Request<Incoming>,
) -> Result<Response<Payload>, ConnectionEnd> {
    let task = core.tasks.spawn({
        let core = core.clone();
        async move {
            let exchange = serve(&core, number, reused, request);
            core.stopping.run_until_cancelled(exchange).await.unwrap_or(Err(ConnectionEnd::Close))
        }
    });
    let response = task.await.unwrap_or(Err(ConnectionEnd::Close))?;
    Ok(response.map(|payload| payload.busy(busy)))
}

/// Serves a request, as [`run`] does in a task.
async fn serve(
    core: &Arc<Core>,
    connection: usize,
    reused: bool,
    request: Request<Incoming>,
) -> Result<Response<Payload>, ConnectionEnd> {
    if request.uri().path().starts_with(control::PREFIX) {
        return control::serve(core, request).await;
    }
    let (head, body) = request.into_parts();
    if is_of_browser(&head.headers) {
        let error = ApiError::new(
            StatusCode::FORBIDDEN,
            "browser_refused",
            "",
            "The simulator refuses requests from browsers: Origin, Sec-Fetch-Site, Sec-Fetch-Dest, Sec-Fetch-User.",
        );
        return Ok(response(core, &Action::default(), error.into()));
    }
    let entry = core.journal().push(journal::entry(connection, &head), 0);
    let action = core.rules().apply(&head.method, head.uri.path(), reused);

    end_if_asked(&action, Reset::BeforeReading)?;
    let answer = match read(body, head.version).await? {
        Err(error) => error.into(),
        Ok(body) => {
            core.journal().change(entry, body.len(), |entry| entry.body = body.clone());
            if let Some(gate) = &action.gate_before_effect {
                gate.pass().await;
            }
            end_if_asked(&action, Reset::BeforeEffect)?;
            decide(core, &action, &head, &body)
        }
    };
    core.journal().change(entry, 0, |entry| entry.effect = answer.effect);

    if let Some(gate) = &action.gate_after_effect {
        gate.pass().await;
    }
    end_if_asked(&action, Reset::AfterEffect)?;
    sleep(action.delay).await;
    let response = response(core, &action, answer);
    if action.fault.as_ref().is_none_or(Fault::shows_status) {
        core.journal().change(entry, 0, |entry| entry.status = Some(response.status().as_u16()));
    }
    match &action.fault {
        None => Ok(response),
        Some(fault) if head.version == Version::HTTP_2 => fault.apply_to_stream(response).await,
        Some(fault) => fault.apply(response),
    }
}

/// Ends the connection if the rule asks for that at this point.
fn end_if_asked(action: &Action, here: Reset) -> Result<(), ConnectionEnd> {
    match (action.reset, action.close) {
        (Some(at), _) if at == here => Err(ConnectionEnd::Reset),
        (_, Some(at)) if at == here => Err(ConnectionEnd::Close),
        _ => Ok(()),
    }
}

/// Reads the whole body; 413 if it is too large. A request that breaks off ends its connection, or over HTTP/2 its
/// stream.
async fn read(mut body: Incoming, version: Version) -> Result<Result<Bytes, ApiError>, ConnectionEnd> {
    match Limited::new(&mut body, MAX_REQUEST_BODY).collect().await {
        // hyper ends a body without an error when its stream is reset with NO_ERROR.
        Ok(_) if version == Version::HTTP_2 && !body.is_end_stream() => Err(ConnectionEnd::Reset),
        Ok(body) => Ok(Ok(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Ok(Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "body", "The body is too large.")))
        }
        Err(_) if version == Version::HTTP_2 => Err(ConnectionEnd::Reset),
        Err(_) => Err(ConnectionEnd::Close),
    }
}

/// The rule's own answer, or the gateway's.
fn decide(core: &Arc<Core>, action: &Action, head: &Parts, body: &[u8]) -> Answer {
    match action.status {
        None => {
            let call = ApiRequest {
                method: &head.method,
                path: head.uri.path(),
                query: head.uri.query(),
                headers: &head.headers,
                body,
            };
            core.act(|gateway| gateway.answer(call))
        }
        Some(status) if action.body.is_some() => {
            Answer { content: Content::Json(Bytes::new()), ..Answer::empty(status) }
        }
        Some(status) if status.is_client_error() || status.is_server_error() => {
            ApiError::new(status, "simulated", "", "A rule of the simulator asked for this answer.").into()
        }
        Some(status) => Answer::empty(status),
    }
}

fn response(core: &Core, action: &Action, answer: Answer) -> Response<Payload> {
    let (payload, kind) = match answer.content {
        Content::Empty => (Payload::whole(Bytes::new()), None),
        Content::Json(bytes) => (Payload::whole(bytes), Some("application/json")),
        Content::Text(kind, bytes) => (Payload::whole(bytes), Some(kind)),
        Content::Rows(rows) => {
            let (kind, length) = (rows.media_type(), rows.stated_length());
            (Payload::new(rows.map(Piece::now), length), Some(kind))
        }
    };
    let payload = action.body.clone().map_or(payload, Payload::whole);
    let mut response = Response::new(payload);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(core.gateway().clock())) {
        headers.insert(DATE, date);
    }
    action.edit(headers);
    response
}

/// The largest body of a request, in bytes: far above any that Sezzle takes.
const MAX_REQUEST_BODY: usize = 16 * 1024 * 1024;
