//! Sends one webhook over one connection, signed, and reads the status. Sends to this machine only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::select;
use tokio::time::timeout;

use crate::simulator::Encoding;

/// The address of a webhook's receiver on this machine.
#[derive(Debug)]
pub(super) struct Target {
    addrs: Vec<SocketAddr>,
    host: String,
    path: String,
}

impl Target {
    /// Reads a URL. The error says why nothing is delivered there: the simulator never talks to another machine.
    pub(super) fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "the URL cannot be read")?;
        if uri.scheme_str() != Some("http") {
            return Err("the simulator delivers over plain http only");
        }
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ips = match bare.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => vec![ip],
            Err(_) if bare.eq_ignore_ascii_case("localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            _ => return Err("the simulator delivers to loopback addresses only"),
        };
        let port = uri.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let addrs = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Self { addrs, host: format!("{host}:{port}"), path })
    }
}

/// The status that the receiver answers within `limit`; `None` without an answer in time.
pub(super) async fn attempt(target: &Target, signature: &str, body: &Bytes, limit: Duration) -> Option<u16> {
    let mut status = None;
    let _ = timeout(limit, send(target, signature, body.clone(), &mut status)).await;
    status
}

/// Sends the webhook. Sets `status` as soon as the status has arrived. `None` if the exchange failed.
async fn send(target: &Target, signature: &str, body: Bytes, status: &mut Option<u16>) -> Option<()> {
    let stream = TcpStream::connect(target.addrs.as_slice()).await.ok()?;
    let request = Request::post(&target.path)
        .header(HOST, &target.host)
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .header("sezzle-signature", signature)
        .body(Full::new(body))
        .ok()?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        *status = Some(head.status.as_u16());
        // The body is read to its end, so that the receiver does not see its answer cut off.
        let _ = Limited::new(body, MAX_ANSWER).collect().await;
        Some(())
    };
    let mut exchange = pin!(exchange);
    select! {
        done = &mut exchange => done,
        // The connection may end together with the answer.
        _ = connection => exchange.await,
    }
}

/// The HMAC-SHA256 of a body, in this encoding.
pub(super) fn signature(key: &str, body: &[u8], encoding: Encoding) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, body);
    match encoding {
        Encoding::Base64 => BASE64_STANDARD.encode(tag),
        Encoding::Hex => hex::encode(tag),
    }
}

/// The most bytes of the answer's body, which nobody looks at.
const MAX_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_on_this_machine_is_a_target() {
        let target = Target::parse("http://localhost/hook?a=b#c").unwrap();
        assert_eq!(target.addrs, ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        assert_eq!((target.host.as_str(), target.path.as_str()), ("localhost:80", "/hook?a=b"));
        assert_eq!(Target::parse("http://[::1]:81").unwrap().host, "[::1]:81");
        assert_eq!(Target::parse("http://me:secret@127.0.0.9:81").unwrap().host, "127.0.0.9:81");
        for url in
            ["https://127.0.0.1/", "http://192.0.2.1/", "http://localhost.example/", "http://127.0.0.1.nip.io/", "/"]
        {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let signed = |encoding| signature("Jefe", b"what do ya want for nothing?", encoding);
        assert_eq!(signed(Encoding::Hex), expected);
        assert_eq!(signed(Encoding::Base64), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    }
}
