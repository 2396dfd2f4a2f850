use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{io, mem};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::simulator::tests::{Caller, soon, tls};
use crate::simulator::{Fault, Gate, Options, Reset, Rule, Simulator};

type Sender = SendRequest<Full<Bytes>>;

async fn both_versions() -> Simulator {
    Simulator::start(Options { http2: true, ..Options::default() }).await.unwrap()
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = soon(handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn connect(simulator: &Simulator) -> Sender {
    speak(TcpStream::connect(simulator.addr()).await.unwrap()).await
}

async fn get(sender: &mut Sender, path: &str) -> hyper::Result<(StatusCode, Bytes)> {
    let request = Request::get(format!("http://localhost{path}")).body(Full::default()).unwrap();
    soon(sender.ready()).await?;
    let answer = soon(sender.send_request(request)).await?;
    Ok((answer.status(), soon(answer.into_body().collect()).await?.to_bytes()))
}

#[tokio::test]
async fn prior_knowledge_and_the_first_version_share_a_port() {
    let simulator = both_versions().await;
    let mut new = connect(&simulator).await;
    assert_eq!(get(&mut new, "/new").await.unwrap().0, 404);
    assert_eq!(Caller::connect(&simulator).await.get("/old").await.status, 404);
    // A method that begins like the preface, in two parts.
    let mut slow = TcpStream::connect(simulator.addr()).await.unwrap();
    slow.write_all(b"PRI").await.unwrap();
    slow.write_all(b"NT / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.unwrap();
    soon(tokio::io::copy(&mut slow, &mut tokio::io::sink())).await.unwrap();
    let versions: Vec<Version> = simulator.journal().iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_11, Version::HTTP_11]);
    soon(simulator.stop()).await;
    assert!(get(&mut new, "/new").await.is_err());
}

#[tokio::test]
async fn over_tls_the_version_is_agreed() {
    for (offered, spoken) in
        [(&[b"h2".as_slice(), b"http/1.1"][..], true), (&[b"http/1.1".as_slice()][..], false), (&[][..], false)]
    {
        let (server, connector) = tls(offered);
        let options = Options { tls: Some(server), http2: true, ..Options::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let stream = TcpStream::connect(simulator.addr()).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), spoken);
        if spoken {
            assert_eq!(get(&mut speak(stream).await, "/").await.unwrap().0, 404);
        } else {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.unwrap();
            soon(tokio::io::copy(&mut stream, &mut tokio::io::sink())).await.unwrap();
        }
        let version = if spoken { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(simulator.journal().pop().unwrap().version, version);
    }
}

#[tokio::test]
async fn it_is_not_spoken_unless_asked_for() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert!(get(&mut sender, "/").await.is_err());
    let (server, connector) = tls(&[b"h2"]);
    let simulator = Simulator::start(Options { tls: Some(server), ..Options::default() }).await.unwrap();
    let stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn a_reset_ends_its_stream_and_nothing_else() {
    let simulator = both_versions().await;
    let mut sender = connect(&simulator).await;
    let gate = Gate::new();
    simulator.script(Rule::path("/parked").gate(&gate));
    simulator.script(Rule::path("/reset").reset(Reset::AfterEffect));
    simulator.script(Rule::path("/cut").fault(Fault::CutBody(1)));
    simulator.script(Rule::path("/wrong").fault(Fault::StatedLength(1)));
    let mut other = sender.clone();
    let parked = tokio::spawn(async move { get(&mut other, "/parked").await });
    soon(gate.arrived(1)).await;
    for path in ["/reset", "/cut", "/wrong"] {
        assert!(get(&mut sender, path).await.is_err(), "{path}");
    }
    gate.release();
    assert_eq!(soon(parked).await.unwrap().unwrap().0, 404);
    assert_eq!(simulator.connections(), 1);
}

#[tokio::test]
async fn garbage_closes_the_connection_and_a_slow_head_is_late() {
    let simulator = both_versions().await;
    let mut sender = connect(&simulator).await;
    let wait = Duration::from_millis(30);
    simulator.script(Rule::path("/slow").fault(Fault::SlowHead(wait)));
    let begin = Instant::now();
    assert_eq!(get(&mut sender, "/slow").await.unwrap().0, 404);
    assert!(begin.elapsed() >= wait);
    simulator.script(Rule::path("/garbage").fault(Fault::Garbage(Bytes::new())));
    assert!(get(&mut sender, "/garbage").await.is_err());
    assert!(get(&mut sender, "/").await.is_err());
    assert_eq!(simulator.journal().len(), 2);
}

/// A body of one frame, which may break off after it.
struct Half {
    sent: bool,
    breaks: bool,
}

impl Body for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let sent = mem::replace(&mut self.sent, true);
        Poll::Ready(match (sent, self.breaks) {
            (false, _) => Some(Ok(Frame::data(Bytes::from("{")))),
            (true, true) => Some(Err(io::Error::other("no more"))),
            (true, false) => None,
        })
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_ends_its_stream_only() {
    let simulator = both_versions().await;
    let stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let (mut sender, connection) = soon(handshake(TokioExecutor::new(), TokioIo::new(stream))).await.unwrap();
    tokio::spawn(connection);
    let gate = Gate::new();
    simulator.script(Rule::path("/parked").gate(&gate));
    let request = |path: &str, breaks| {
        Request::post(format!("http://localhost{path}")).body(Half { sent: false, breaks }).unwrap()
    };
    let parked = tokio::spawn(sender.send_request(request("/parked", false)));
    soon(gate.arrived(1)).await;
    assert!(soon(sender.send_request(request("/broken", true))).await.is_err());
    // The simulator has seen the break before it sees this.
    assert_eq!(soon(sender.send_request(request("/next", false))).await.unwrap().status(), 404);
    gate.release();
    assert_eq!(soon(parked).await.unwrap().unwrap().status(), 404);
}
