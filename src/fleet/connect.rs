//! Connects to the fleet's server: files, name, TCP, TLS, user and password, each step under a deadline.
//!
//! redis-rs encodes commands and decodes replies over a stream that this file makes. So the sidecar resolves names,
//! sets socket options and checks certificates as for all its connections. A deadline that passes ends the connection,
//! so a server that hangs cannot keep one.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::commands;
use super::failure::Failure;
use super::replies::Replies;
use super::stream::Bounded;
use crate::address::{HostPort, ServerAddress};
use crate::names::Resolver;
use crate::secret::Secret;
use crate::text::with_causes;
use crate::threads::Threads;

/// The part of the configuration that connections need.
#[derive(Clone, Debug)]
pub struct Options {
    pub server: ServerAddress,
    /// `None` for the server's default user.
    pub username: Option<String>,
    pub files: Arc<dyn ServerFiles>,
}

/// The files that a connection needs.
pub trait ServerFiles: fmt::Debug + Send + Sync {
    /// Reads the files. [`Connector`] calls this function for each connection, on a thread that may block, so that a
    /// new password or certificate is used without a restart.
    ///
    /// # Errors
    /// A message that names the file and holds nothing of its content.
    fn read(&self) -> Result<FromFiles, String>;
}

#[derive(Clone, Debug, Default)]
pub struct FromFiles {
    pub password: Option<Secret>,
    /// `None` for a connection without TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// A handle that sends commands over a connection of somebody else. Several handles may share one connection.
#[derive(Clone, Debug)]
pub struct Line(MultiplexedConnection);

/// Makes connections to the server.
#[derive(Debug)]
pub struct Connector {
    pub(super) options: Options,
    resolver: Resolver,
    /// The threads on which files are read.
    threads: Threads,
}

/// A connection to the server. The connection ends when this is dropped.
#[derive(Debug)]
pub struct Connection {
    line: Line,
    _driver: AbortOnDropHandle<()>,
    /// The server, for messages.
    pub at: String,
    /// Whether another node of a cluster named this server.
    pub is_moved: bool,
}

impl Connector {
    pub fn new(options: Options, resolver: Resolver, threads: Threads) -> Self {
        Self { options, resolver, threads }
    }

    /// Connects to the server, or to the node that another node named for the keys.
    pub async fn connect(&self, moved_to: Option<&HostPort>) -> Result<Connection, Failure> {
        let files = self.read_files().await?;
        let (connection, database) = match (&self.options.server, moved_to) {
            (_, Some(at)) => (Connection { is_moved: true, ..self.tcp(at, &files).await? }, 0),
            (ServerAddress::Tcp { at, database }, None) => (self.tcp(at, &files).await?, *database),
            (ServerAddress::Sentinels { sentinels, primary }, None) => {
                let at = self.primary(sentinels, primary, &files).await?;
                (self.tcp(&at, &files).await?, 0)
            }
            (ServerAddress::Unix(path), None) => {
                let at = format!("unix:{}", path.display());
                let stream = within(STEP, UnixStream::connect(path)).await?;
                let stream =
                    stream.map_err(|error| Failure::Unreachable { at: at.clone(), cause: error.to_string() })?;
                (Connection::begin(Bounded::new(stream), at).await?, 0)
            }
        };
        let (username, password) = (self.options.username.as_deref(), files.password.as_ref());
        if let Some(pipeline) = commands::authenticate(username, password, database) {
            let replies = connection.ask(&pipeline, STEP).await?;
            commands::authenticated(replies, password.is_some(), database)?;
        }
        Ok(connection)
    }

    pub(super) async fn read_files(&self) -> Result<FromFiles, Failure> {
        let files = Arc::clone(&self.options.files);
        match within(STEP, self.threads.run(move || files.read())).await? {
            Ok(read) => read.map_err(Failure::Files),
            Err(error) => Err(Failure::Files(error.to_string())),
        }
    }

    /// Connects to an address, without authentication.
    pub(super) async fn tcp(&self, at: &HostPort, files: &FromFiles) -> Result<Connection, Failure> {
        let unreachable =
            |error: &(dyn Error + 'static)| Failure::Unreachable { at: at.to_string(), cause: with_causes(error) };
        let uri: Uri = format!("redis://{at}").parse().map_err(|error: http::uri::InvalidUri| unreachable(&error))?;
        let mut sockets = HttpConnector::new_with_resolver(self.resolver.clone());
        sockets.enforce_http(false);
        sockets.set_connect_timeout(Some(STEP));
        sockets.set_happy_eyeballs_timeout(Some(HEAD_START));
        sockets.set_nodelay(true);
        sockets.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let stream = within(STEP, sockets.call(uri)).await?.map_err(|error| unreachable(&error))?.into_inner();
        let Some(tls) = &files.tls else { return Connection::begin(Bounded::new(stream), at.to_string()).await };
        let name = ServerName::try_from(at.host.clone()).map_err(|error| unreachable(&error))?;
        let stream = within(STEP, TlsConnector::from(Arc::clone(tls)).connect(name, stream)).await?;
        let stream = stream.map_err(|error| Failure::Tls { at: at.to_string(), cause: with_causes(&error) })?;
        Connection::begin(Bounded::new(stream), at.to_string()).await
    }
}

impl Connection {
    async fn begin(stream: Bounded, at: String) -> Result<Self, Failure> {
        // redis-rs sets its name by a command that an ACL may forbid.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = within(STEP, MultiplexedConnection::new_with_config(&info, stream, config)).await?;
        let (commands, driver) = made.map_err(|error| Failure::lost(&error.to_string()))?;
        Ok(Self { line: Line(commands), _driver: AbortOnDropHandle::new(tokio::spawn(driver)), at, is_moved: false })
    }

    /// As [`Line::ask`]. After a failure the link gives the connection up, because the server may still carry out the
    /// commands.
    pub async fn ask(&self, pipeline: &Pipeline, limit: Duration) -> Result<Replies, Failure> {
        self.line.ask(pipeline, limit).await
    }

    /// A handle to this connection, for others who send commands over it.
    pub fn line(&self) -> &Line {
        &self.line
    }
}

impl Line {
    /// Sends commands in one pipeline and waits for all replies. A reply that comes too late is dropped.
    pub async fn ask(&self, pipeline: &Pipeline, limit: Duration) -> Result<Replies, Failure> {
        let mut commands = self.0.clone();
        let values = within(limit, commands.send_packed_commands(pipeline, 0, pipeline.len())).await?;
        values.map(Replies::new).map_err(|error| Failure::lost(&error.to_string()))
    }
}

async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(limit, step).await.map_err(|_| Failure::Late(limit))
}

/// The longest time for one step of a connection.
pub const STEP: Duration = Duration::from_secs(1);
// The head start of the address family that the resolver prefers, as RFC 8305 recommends.
const HEAD_START: Duration = Duration::from_millis(250);
// Bytes that are stuck in a dead connection must not arrive long after this time.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
