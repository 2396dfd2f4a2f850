//! `explain`: shows how the sidecar would handle a request and Sezzle's response.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use tokio::runtime::Builder;

use super::failure::Failure;
use super::files::ConfigFiles;
use super::headers;
use super::process::{is_set, report, say, with_runtime};
use crate::app::{self, StartError};
use crate::caller::{Caller, Hosts, Peer};
use crate::clock::Clock;
use crate::config::Settings;
use crate::online_check::caching_headers;
use crate::proxy::explain;

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The method of the request.
    method: Method,
    /// The path of the request, with its query.
    path: Uri,
    /// A header of the request, as for curl; may repeat. @FILE is a file with
    /// a header on each line, and @- is standard input. A header that holds a
    /// secret, such as Authorization, is taken from these two only.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE|@FILE", verbatim_doc_comment)]
    headers: Vec<String>,
    /// Look the session up at Sezzle, with the keys of the configuration,
    /// and explain that answer. Only for GET /v2/session/{uuid}.
    #[arg(long, verbatim_doc_comment)]
    ask: bool,

    /// The user of the caller's process, on a Unix socket.
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// A DNS name or URI of the caller's client certificate; may repeat.
    #[arg(long = "certificate", value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Explain {
    /// Explains the request. Also explains Sezzle's answer: the one on standard input, or with `--ask` a fresh one.
    pub(super) fn run(self, settings: &Settings) -> ExitCode {
        let (ask, connection) = (self.ask, self.connection());
        let reads_answer = !self.headers.iter().any(|value| value == headers::STDIN);
        let head = match self.head() {
            Ok(head) => head,
            Err(failure) => return report(Err(failure)),
        };
        let hosts = Hosts::new(&settings.proxy.hosts);
        match explain_request(settings, &hosts, &head, &connection) {
            Err(failure) => report(Err(failure)),
            Ok(()) if ask => with_runtime(&mut Builder::new_current_thread(), ask_and_explain(settings, &hosts, &head)),
            Ok(()) if !reads_answer => report(Ok(())),
            Ok(()) => report(
                answer_on_stdin()
                    .map(|answer| answer.iter().for_each(|answer| explain_answer(settings, &hosts, &head, answer))),
            ),
        }
    }

    /// The connection over which the request would come, by `--uid` and `--certificate`.
    fn connection(&self) -> Caller {
        let peer = self.uid.map(|uid| Peer { uid, pid: None });
        // The TLS listener has DNS names in lower case, and URIs unchanged.
        let name = |name: &String| if name.contains("://") { name.clone() } else { name.to_ascii_lowercase() };
        let names: Vec<String> = self.names.iter().map(name).collect();
        let tls = !names.is_empty();
        Caller { unix: peer.is_some(), peer, tls, certificate: tls.then(|| names.into()), ..Caller::default() }
    }

    fn head(self) -> Result<Parts, Failure> {
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.path;
        for (name, value) in headers::read(&self.headers)? {
            request.headers_mut().append(name, value);
        }
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        Ok(request.into_parts().0)
    }
}

/// Prints how the sidecar would handle a request over this connection.
fn explain_request(settings: &Settings, hosts: &Hosts, head: &Parts, connection: &Caller) -> Result<(), Failure> {
    let clock = Clock::system();
    let table = app::callers::read_table(settings, &clock).map_err(StartError::Callers)?;
    let admission = explain::Admission { hosts, forwarded: app::forwarded(settings), callers: table.as_ref() };
    say(&explain::request(admission, head, connection, clock.now()));
    Ok(())
}

/// Prints how the sidecar would handle an answer of Sezzle's.
fn explain_answer(settings: &Settings, hosts: &Hosts, head: &Parts, answer: &Response<Bytes>) {
    let admission = explain::Admission { hosts, forwarded: app::forwarded(settings), callers: None };
    say(&explain::answer(admission, &app::policy(settings), head, answer, Clock::system().now()));
}

/// Looks the session up at Sezzle, and explains the answer.
async fn ask_and_explain(settings: &Settings, hosts: &Hosts, head: &Parts) -> Result<(), Failure> {
    let session =
        explain::looked_up(head).ok_or(Failure::Usage("--ask needs GET and the path /v2/session/{uuid}".into()))?;
    let (answer, took) = app::online_check(settings, Clock::system(), is_set)?.ask(session).await?;
    say(&format!("{:<12}{} in {} ms\n", "Sezzle says", answer.status().as_u16(), took.as_millis()));
    let headers = caching_headers(answer.headers());
    say(&format!("{:<12}{}\n", "headers", if headers.is_empty() { "no caching headers" } else { &headers }));
    explain_answer(settings, hosts, head, &answer);
    Ok(())
}

/// Reads an answer from standard input: the output of `curl -i`, or a body alone, which counts as a 200 of JSON. `None`
/// if standard input is a terminal or empty.
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
        "standard input begins like an HTTP answer but is none; expected the output of curl -i, or a body alone".into(),
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
        let (name, value) = headers::parse(line).ok()?;
        answer.headers_mut().append(name, value);
    }
    Some(answer)
}
