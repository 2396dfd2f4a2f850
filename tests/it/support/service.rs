//! A merchant's service. The sidecar forwards webhooks to it, and a test chooses its answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The service's reaction to a webhook.
#[derive(Clone, Debug)]
pub enum Conduct {
    /// Answers this status.
    Answer(u16),
    /// Answers nothing until the test chooses another conduct, and then follows that one.
    Hang,
    /// Closes the connection.
    Close,
}

/// A webhook as the service received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method and path.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A running service. Ends with the test's runtime.
#[derive(Clone)]
pub struct Service {
    pub address: SocketAddr,
    conduct: watch::Sender<Conduct>,
    received: watch::Sender<Vec<Received>>,
}

impl Service {
    pub async fn start(conduct: Conduct) -> Self {
        Self::serve(conduct, None).await
    }

    /// A service that speaks TLS.
    pub async fn start_tls(conduct: Conduct, tls: Arc<ServerConfig>) -> Self {
        Self::serve(conduct, Some(TlsAcceptor::from(tls))).await
    }

    async fn serve(conduct: Conduct, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let this = Self { address, conduct: watch::Sender::new(conduct), received: watch::Sender::default() };
        let service = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, tls) = (service.clone(), tls.clone());
                tokio::spawn(async move {
                    let answers = service_fn(move |request| service.clone().answer(request));
                    match tls {
                        None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await);
                        }
                    }
                });
            }
        });
        this
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let target = format!("{} {}", head.method, head.uri);
        let received = Received { target, headers: head.headers, body };
        self.received.send_modify(|all| all.push(received));
        let mut conduct = self.conduct.subscribe();
        let conduct =
            conduct.wait_for(|conduct| !matches!(conduct, Conduct::Hang)).await.expect("kept by this").clone();
        match conduct {
            Conduct::Answer(status) => {
                let answer = Response::builder().status(status).header("location", "http://127.0.0.1:1/");
                Ok(answer.body(Full::from("thanks")).expect("valid"))
            }
            Conduct::Hang | Conduct::Close => Err(std::io::Error::other("closed")),
        }
    }

    /// Sets the conduct from now on.
    pub fn conduct(&self, conduct: Conduct) {
        self.conduct.send_replace(conduct);
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }

    /// Waits, without a limit, until the service has received so many webhooks.
    pub async fn receives(&self, count: usize) {
        // The wait fails only once every sender is gone, and this handle is a sender.
        let _ = self.received.subscribe().wait_for(|received| received.len() >= count).await;
    }

    /// Waits until the service has received so many webhooks. Fails after 10 s.
    pub async fn has(&self, count: usize) {
        timeout(Duration::from_secs(10), self.receives(count)).await.expect("received within 10 s");
    }
}

/// HMAC-SHA256 in lower-case digits.
pub fn signature(key: &str, body: impl AsRef<[u8]>) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), body.as_ref());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
