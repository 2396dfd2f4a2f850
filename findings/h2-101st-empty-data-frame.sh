#!/usr/bin/env bash
# The 101st empty DATA frame of a connection ends it, with every other call on it.
#
# Of:       h2 0.4.20 (Rust), client and server; libraries built on it, such as hyper, reqwest, tonic and axum
# Input:    on one connection, many bodies one after the other, each read at once: 4 KiB, an empty DATA frame, 4 KiB.
#           Implementations that flush their buffers send such frames.
# Expected: empty frames are allowed (RFC 9113, 6.1), and so few in each call cause no harm, however many calls follow.
#           RFC 9113, 10.5, lets the receiver limit them; a limit would apply to a period or to a call.
# Seen:     h2 counts empty frames over the connection's whole life. The 101st ends it with GOAWAY(ENHANCE_YOUR_CALM,
#           "too_many_data_frames"); the limit cannot be set. So the 101st call breaks off.
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
tokio = { version = "1", features = ["io-util", "macros", "rt"] }
TOML
cat >src/main.rs <<'RUST'
use bytes::Bytes;
use http::{Request, Response};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (near, far) = tokio::io::duplex(65536);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(&[b'x'; 4096]), false).unwrap();
            body.send_data(Bytes::new(), false).unwrap();
            body.send_data(Bytes::from_static(&[b'x'; 4096]), true).unwrap();
        }
    });
    let (mut client, connection) = h2::client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    for number in 1..=200 {
        if call(&mut client).await.is_err() {
            return println!("call {number} breaks off");
        }
    }
    println!("200 calls are well");
}

async fn call(client: &mut h2::client::SendRequest<Bytes>) -> Result<(), h2::Error> {
    let mut ready = client.clone().ready().await?;
    let (answer, _) = ready.send_request(Request::get("http://localhost/").body(()).unwrap(), true)?;
    let mut body = answer.await?.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}
RUST
cargo run --quiet >found
echo "call 101 breaks off" >seen
diff seen found && cat found
