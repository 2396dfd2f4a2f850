//! The least that a reverse proxy on the sidecar's crates costs: hyper, tokio, rustls and mimalloc without limits,
//! deadlines, metrics, log lines or rules for headers. `benches/compare` measures this program beside the sidecar.
//!
//! `cargo bench --bench floor -- --listen PORT --gateway URL` starts a proxy that passes every request on. `--ca FILE` names
//! the authorities of an `https` gateway. With `--answer FILE` in place of `--gateway` the program answers every request
//! with the content of the file. With `--keep BYTES` as well, moka keeps a copy of the content for each UUID at the end
//! of a path, in so many bytes, and answers later requests from its copy. With `--whole HEADERS` the proxy receives each
//! body whole before it goes on, in both directions, as a proxy of writes must, and adds so many headers to a request.
//! With `--certificate FILE` and `--key FILE` callers speak TLS, and the only key exchange is X25519MLKEM768.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; it reads real files and starts real threads"
)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mimalloc::MiMalloc;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use uuid::Uuid;

// The allocator of the sidecar.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const USAGE: &str = "usage: floor --listen PORT (--gateway URL [--ca FILE] [--whole HEADERS] | \
                     --answer FILE [--keep BYTES]) [--certificate FILE --key FILE]";

type Error = Box<dyn std::error::Error + Send + Sync>;
type Options = HashMap<String, String>;
/// A body received whole, or one that is passed on as it comes.
type Passed = Either<Full<Bytes>, Incoming>;

// As long as the key of a write.
const ADDED: HeaderValue = HeaderValue::from_static("0b5e0b5e-0b5e-4b5e-8b5e-0b5e0b5e0b5e");

thread_local! {
    /// The worker's connections to the gateway.
    static KEPT: RefCell<Vec<SendRequest<Passed>>> = const { RefCell::new(Vec::new()) };
}

/// The work of this process. Cheap to clone.
#[derive(Clone)]
enum Role {
    Answer(Bytes),
    Keep(Arc<Kept>),
    Pass(Arc<Gateway>),
}

/// An answer, and the copies of it that were given out.
struct Kept {
    answer: Bytes,
    copies: Cache<Uuid, Bytes>,
}

struct Gateway {
    /// The host and port.
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The headers to add, if bodies are received whole.
    whole: Option<Vec<HeaderName>>,
}

fn main() {
    // Cargo adds a word of its own.
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    let options: Options =
        words.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect();
    let Some(port) = options.get("--listen") else {
        println!("{USAGE}");
        return;
    };
    let port = port.parse().expect("a port");
    let role = match options.get("--answer") {
        Some(file) => {
            let answer: Bytes = fs::read(file).expect("an answer").into();
            match options.get("--keep") {
                None => Role::Answer(answer),
                Some(bytes) => Role::Keep(Arc::new(Kept::new(answer, bytes.parse().expect("a number of bytes")))),
            }
        }
        None => Role::Pass(Arc::new(Gateway::new(&options))),
    };
    let acceptor = options.get("--certificate").map(|chain| acceptor(chain, named(&options, "--key")));
    // The sidecar's default number of workers.
    let count = thread::available_parallelism().map_or(1, usize::from).min(2);
    let workers: Vec<Handle> = (0..count).map(|_| start_worker()).collect();
    runtime().block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
        for worker in workers.iter().cycle() {
            let (stream, _) = listener.accept().await.expect("a connection");
            let stream = stream.into_std().expect("a socket");
            worker.spawn(accepted(stream, acceptor.clone(), role.clone()));
        }
    });
}

fn named<'a>(options: &'a Options, name: &str) -> &'a str {
    options.get(name).unwrap_or_else(|| panic!("{name} is missing: {USAGE}"))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn start_worker() -> Handle {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// Serves a connection. Callers that break off end it.
async fn accepted(stream: std::net::TcpStream, acceptor: Option<TlsAcceptor>, role: Role) {
    let stream = TcpStream::from_std(stream).expect("a socket");
    stream.set_nodelay(true).expect("a TCP socket");
    match acceptor {
        None => serve(stream, role).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, role).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, role: Role) {
    let service = service_fn(|request| respond(role.clone(), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    // hyper has no timer here.
    http.header_read_timeout(None);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(role: Role, request: Request<Incoming>) -> Result<Response<Passed>, Error> {
    match role {
        Role::Answer(body) => Ok(answer(body)),
        Role::Keep(kept) => {
            let key = Uuid::try_parse(request.uri().path().rsplit('/').next().unwrap_or_default())?;
            Ok(answer(kept.copy(key)))
        }
        Role::Pass(gateway) => gateway.pass(request).await,
    }
}

fn answer(body: Bytes) -> Response<Passed> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Kept {
    /// Bounded as the sidecar's store is: in bytes and in time, and the least recently used copy makes room.
    fn new(answer: Bytes, bytes: u64) -> Self {
        let copies = Cache::builder()
            .max_capacity(bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, body: &Bytes| u32::try_from(body.len()).unwrap_or(u32::MAX))
            .time_to_live(Duration::from_secs(3600))
            .build();
        Self { answer, copies }
    }

    fn copy(&self, key: Uuid) -> Bytes {
        self.copies.get(&key).unwrap_or_else(|| {
            let copy = Bytes::copy_from_slice(&self.answer);
            self.copies.insert(key, copy.clone());
            copy
        })
    }
}

impl Gateway {
    fn new(options: &Options) -> Self {
        let url: Uri = named(options, "--gateway").parse().expect("a URL");
        let host = url.host().expect("a host").to_owned();
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls =
            is_tls.then(|| (connector(named(options, "--ca")), ServerName::try_from(host.clone()).expect("a name")));
        let names =
            |count: usize| (0..count).map(|number| format!("x-added-{number}").parse().expect("a name")).collect();
        let whole = options.get("--whole").map(|count| names(count.parse().expect("a number of headers")));
        Self { address: format!("{host}:{port}"), tls, whole }
    }

    /// Passes a request on, and its answer back: as they come, or received whole with further headers.
    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Passed>, Error> {
        let Some(added) = &self.whole else {
            return Ok(self.send(request.map(Either::Right)).await?.map(Either::Right));
        };
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        head.headers.extend(added.iter().map(|name| (name.clone(), ADDED)));
        let response = self.send(Request::from_parts(head, Either::Left(Full::new(body)))).await?;
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(head, Either::Left(Full::new(body.collect().await?.to_bytes()))))
    }

    /// Sends the request over a connection of this worker that carries no other, or over a new one.
    async fn send(&self, request: Request<Passed>) -> Result<Response<Incoming>, Error> {
        let mut sender = match kept() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        // The connection is ready again once the body has been read.
        KEPT.with_borrow_mut(|kept| kept.push(sender));
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Passed>, Error> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => open(stream).await,
            Some((connector, name)) => open(connector.connect(name.clone(), stream).await?).await,
        }
    }
}

fn kept() -> Option<SendRequest<Passed>> {
    KEPT.with_borrow_mut(|kept| match kept.iter().rposition(SendRequest::is_ready) {
        Some(found) => Some(kept.swap_remove(found)),
        None => {
            kept.retain(|sender| !sender.is_closed());
            None
        }
    })
}

async fn open(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<SendRequest<Passed>, Error> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn connector(ca: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca));
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

fn acceptor(chain: &str, key: &str) -> TlsAcceptor {
    let provider = CryptoProvider { kx_groups: vec![kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() };
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certificates(chain), PrivateKeyDer::from_pem_file(key).expect("a key"));
    Arc::new(config.expect("a certificate with its key")).into()
}

fn certificates(file: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).expect("a file").collect::<Result<_, _>>().expect("certificates")
}
