//! Answers that are broken on the wire: slow, cut short, endless, or no HTTP at all.

use std::fmt::Write;
use std::iter::{once, repeat};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use serde::{Deserialize, Deserializer};
use tokio::time::sleep;

use super::payload::{ConnectionEnd, Payload, Piece};
use super::span;

/// How an answer is spoilt on its way. The request has taken effect by then.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Fault {
    /// Sends these bytes, which may be none, in place of an HTTP answer. Then closes the connection.
    Garbage(#[serde(deserialize_with = "bytes")] Bytes),
    /// Waits this long in the middle of the head; closes the connection after the answer.
    SlowHead(#[serde(with = "span::one")] Duration),
    /// Sends the head at once and waits this long before the body.
    LateBody(#[serde(with = "span::one")] Duration),
    /// Waits this long in the middle of the body; in a report, in the middle of its first rows.
    SlowBody(#[serde(with = "span::one")] Duration),
    /// Closes the connection after this many bytes of the body, before its stated or chunked end.
    CutBody(usize),
    /// Sends the body a few bytes at a time.
    DrippingBody {
        /// How many bytes at a time, at least one.
        bytes: usize,
        /// The wait before each time.
        #[serde(with = "span::one")]
        wait: Duration,
    },
    /// Sends spaces in place of the body, in chunks and without end.
    EndlessBody,
    /// States this length, too short or too long, sends the body as it is and closes the connection.
    StatedLength(u64),
}

impl Fault {
    /// Whether the peer sees a status.
    pub(super) fn shows_status(&self) -> bool {
        !matches!(self, Self::Garbage(_))
    }

    /// As [`Self::apply`], for an answer that shares its connection with others, so that no bytes are sent past the
    /// framing.
    pub(super) async fn apply_to_stream(
        &self,
        mut response: Response<Payload>,
    ) -> Result<Response<Payload>, ConnectionEnd> {
        match *self {
            Self::Garbage(_) => Err(ConnectionEnd::Close),
            Self::SlowHead(wait) => {
                sleep(wait).await;
                Ok(response)
            }
            Self::StatedLength(length) => {
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
                Ok(response)
            }
            _ => self.apply(response),
        }
    }

    /// Spoils an answer. The error ends the connection.
    pub(super) fn apply(&self, response: Response<Payload>) -> Result<Response<Payload>, ConnectionEnd> {
        match *self {
            Self::Garbage(ref bytes) => Err(ConnectionEnd::Raw(vec![Piece::now(bytes.clone())])),
            Self::SlowHead(wait) => {
                let (mut head, body) = raw(response, None);
                let rest = head.split_off(head.len() / 2);
                Err(ConnectionEnd::Raw(vec![Piece::now(head), Piece { wait, bytes: rest }, Piece::now(body)]))
            }
            Self::StatedLength(length) => {
                let (head, body) = raw(response, Some(length));
                Err(ConnectionEnd::Raw(vec![Piece::now(head), Piece::now(body)]))
            }
            Self::LateBody(wait) => Ok(response.map(|payload| payload.reshape(|pieces| delay_first(pieces, wait)))),
            Self::SlowBody(wait) => Ok(response.map(|payload| payload.reshape(|pieces| halve_first(pieces, wait)))),
            Self::CutBody(kept) => Ok(response.map(|payload| payload.cut(kept))),
            Self::DrippingBody { bytes, wait } => Ok(response.map(|payload| {
                payload.reshape(|pieces| {
                    pieces.flat_map(move |piece| drops(piece.bytes, bytes)).map(move |bytes| Piece { wait, bytes })
                })
            })),
            Self::EndlessBody => Ok(response.map(|_| {
                let blank = Bytes::from_static(&[b' '; 1024]);
                Payload::new(repeat(Piece::now(blank)), None)
            })),
        }
    }
}

/// Reads bytes from a text.
fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    String::deserialize(from).map(Bytes::from)
}

/// The bytes of an answer, head and body, with this stated length. A long report has only its first rows here.
fn raw(response: Response<Payload>, stated: Option<u64>) -> (Bytes, Bytes) {
    let (parts, payload) = response.into_parts();
    let body = payload.beginning(RAW_BODY);
    let mut head = format!("{:?} {}\r\n", parts.version, parts.status);
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", stated.unwrap_or(body.len() as u64));
    (head.into(), body)
}

fn delay_first(
    mut pieces: impl Iterator<Item = Piece> + Send + 'static,
    wait: Duration,
) -> impl Iterator<Item = Piece> + Send {
    pieces.next().map(|first| Piece { wait, ..first }).into_iter().chain(pieces)
}

fn halve_first(
    mut pieces: impl Iterator<Item = Piece> + Send + 'static,
    wait: Duration,
) -> impl Iterator<Item = Piece> + Send {
    let mut first = pieces.next().map(|piece| piece.bytes).unwrap_or_default();
    let rest = first.split_off(first.len() / 2);
    once(Piece::now(first)).chain(once(Piece { wait, bytes: rest })).chain(pieces)
}

fn drops(mut bytes: Bytes, size: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let size = size.clamp(1, bytes.len().max(1));
        (!bytes.is_empty()).then(|| bytes.split_to(size))
    })
}

/// The most bytes of a raw body, which is more than any answer has but a report.
const RAW_BODY: usize = 1024 * 1024;
