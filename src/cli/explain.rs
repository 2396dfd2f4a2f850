//! `explain`: shows how the sidecar would handle a request and Sezzle's response.

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::failure::Failure;
use super::files::ConfigFiles;
use super::process::say;
use crate::app::{self, StartError};
use crate::caller::{Caller, Hosts, Peer};
use crate::clock::Clock;
use crate::config::Settings;
use crate::proxy::explain;

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The method of the request.
    method: Method,
    /// The path of the request, with its query.
    path: Uri,
    /// A header of the request, as for curl; may repeat.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// The user of the caller's process, on a Unix socket.
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Explain {
    /// Explains the request, and Sezzle's response if standard input holds one.
    pub(super) fn run(self, settings: &Settings) -> Result<(), Failure> {
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path;
        request.headers_mut().extend(self.headers);
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        let (head, ()) = request.into_parts();
        let (hosts, clock) = (Hosts::new(&settings.proxy.hosts), Clock::system());
        let table = app::callers::read_table(settings, &clock).map_err(StartError::Callers)?;
        let peer = self.uid.map(|uid| Peer { uid, pid: None });
        let connection = Caller { unix: peer.is_some(), peer, ..Caller::default() };
        let admission = explain::Admission {
            hosts: &hosts,
            forward_card_data: app::forwards_card_data(settings),
            callers: table.as_ref(),
        };
        say(&explain::request(admission, &head, &connection, clock.now()));
        if let Some(answer) = answer_on_stdin()? {
            say(&explain::answer(&hosts, &app::policy(settings), &head, &answer, clock.now()));
        }
        Ok(())
    }
}

/// Reads a response as `curl -i` prints it, or a body, which counts as a 200 of JSON. `None` for a terminal or nothing.
fn answer_on_stdin() -> Result<Option<Response<Bytes>>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.lock().take(MAX_ANSWER).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(&bytes).map(Some).ok_or(Failure::Usage(
        "standard input begins like an HTTP answer but is none; expected the output of curl -i, or a body alone",
    ))
}

const MAX_ANSWER: u64 = 16 * 1024 * 1024;

fn parse(bytes: &[u8]) -> Option<Response<Bytes>> {
    if !bytes.starts_with(b"HTTP/") {
        let mut answer = Response::new(Bytes::copy_from_slice(bytes));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Some(answer);
    }
    let (end, gap) = ["\r\n\r\n", "\n\n"].into_iter().find_map(|gap| {
        let at = bytes.windows(gap.len()).position(|window| window == gap.as_bytes())?;
        Some((at, gap.len()))
    })?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut answer = Response::new(Bytes::copy_from_slice(bytes.get(end.checked_add(gap)?..)?));
    *answer.status_mut() = StatusCode::from_u16(status).ok()?;
    for line in lines {
        let (name, value) = header(line).ok()?;
        answer.headers_mut().append(name, value);
    }
    Some(answer)
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| "this is not the name of a header")?;
    let value = value.trim().parse().map_err(|_| "this is not the value of a header")?;
    Ok((name, value))
}
