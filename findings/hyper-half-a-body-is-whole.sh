#!/usr/bin/env bash
# Half an HTTP/2 body is handed on as a whole one when the stream ends by RST_STREAM(NO_ERROR).
#
# Of:       hyper 1.12.0 with h2 0.4.20 (Rust), client and server; libraries built on them, such as reqwest and axum
# Input:    HEADERS with `content-length: 8`, DATA of 4 bytes without END_STREAM, RST_STREAM with the code NO_ERROR: an
#           answer to a client, and a request to a server.
# Expected: an error, as with every other code. RFC 9113, 8.1: the code lets a server stop a request after an answer
#           that is complete, and only END_STREAM completes a message; 8.1.1: a body that differs from its
#           `content-length` is malformed.
# Seen:     the body ends well after 4 of 8 bytes, on both sides. With CANCEL in place of NO_ERROR the body ends with an
#           error.
# Needs:    cargo
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
bytes = "1"
h2 = "=0.4.20"
http = "1"
http-body-util = "0.1"
hyper = { version = "=1.12.0", features = ["client", "server", "http2"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "1", features = ["io-util", "macros", "rt", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        println!("{reason:?}, answer: {}", answer(reason).await);
        println!("{reason:?}, request: {}", request(reason).await);
    }
}

/// A hyper client reads an answer that an h2 server breaks off.
async fn answer(reason: Reason) -> String {
    let (near, far) = tokio::io::duplex(65536);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            let head = Response::builder().header("content-length", 8).body(()).unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                body.send_reset(reason);
            });
        }
    });
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
    told(client.send_request(request).await.unwrap().into_body()).await
}

/// A hyper server reads a request that an h2 client breaks off.
async fn request(reason: Reason) -> String {
    let (near, far) = tokio::io::duplex(65536);
    let (seen, mut see) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                seen.send(told(request.into_body()).await).unwrap();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.serve_connection(TokioIo::new(far), service).await
    });
    let (client, connection) = h2::client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    let head = Request::post("http://localhost/").header("content-length", 8).body(()).unwrap();
    let (_answer, mut body) = client.ready().await.unwrap().send_request(head, false).unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    body.send_reset(reason);
    match tokio::time::timeout(Duration::from_secs(5), see.recv()).await {
        Ok(Some(told)) => told,
        _ => "given up".to_owned(),
    }
}

async fn told(body: Incoming) -> String {
    match body.collect().await {
        Ok(body) => format!("whole, {} bytes", body.to_bytes().len()),
        Err(_) => "broken off".to_owned(),
    }
}
RUST
cat >seen <<'TEXT'
NO_ERROR, answer: whole, 4 bytes
NO_ERROR, request: whole, 4 bytes
CANCEL, answer: broken off
CANCEL, request: broken off
TEXT
cargo run --quiet >found
diff seen found && cat found
