//! Opens listening sockets.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::address::Address;
use crate::caller::{Caller, Peer};
use crate::systemd::sockets::{PassedSocket, PassedSockets};

/// A connection from a caller.
pub type Stream = Either<TcpStream, UnixStream>;

/// A connection whose bytes are requests and responses, by TLS or without.
pub(super) type Connection = Either<Stream, Box<TlsStream<TcpStream>>>;

/// A connection that is registered with no runtime.
pub(super) type Detached = Either<std::net::TcpStream, std::os::unix::net::UnixStream>;

/// Removes a connection from the runtime that accepted it.
pub(super) fn detach(stream: Stream) -> io::Result<Detached> {
    match stream {
        Either::Left(stream) => stream.into_std().map(Either::Left),
        Either::Right(stream) => stream.into_std().map(Either::Right),
    }
}

/// Registers a connection with the current runtime.
pub(super) fn attach(stream: Detached) -> io::Result<Stream> {
    match stream {
        Either::Left(stream) => TcpStream::from_std(stream).map(Either::Left),
        Either::Right(stream) => UnixStream::from_std(stream).map(Either::Right),
    }
}

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

#[derive(Debug, thiserror::Error)]
#[error("{listener}.listen: cannot listen on {address}: {cause}{}", advice(address, cause.kind()))]
pub struct BindError {
    listener: &'static str,
    address: Address,
    cause: io::Error,
}

/// The end of an error message: the next step, after an address could not be listened on.
fn advice(address: &Address, kind: io::ErrorKind) -> &'static str {
    match (kind, address.tcp()) {
        (io::ErrorKind::PermissionDenied, Some(_)) => {
            "; a port this low needs the capability CAP_NET_BIND_SERVICE, or a socket that systemd passes"
        }
        (io::ErrorKind::AddrInUse, Some(_)) => {
            "; end the process that listens there, which `ss -ltnp` names, or choose another address"
        }
        _ => "",
    }
}

/// Opens a socket for every address that has no passed socket; `mode` is for the files of Unix sockets. An address of a
/// family that this machine lacks is skipped with a warning, as long as another address is left.
pub fn bind(
    listener: &'static str,
    addresses: &[Address],
    mode: u32,
    passed: &mut PassedSockets,
) -> Result<Vec<Socket>, BindError> {
    let mut sockets = Vec::new();
    let mut skipped = None;
    for address in addresses {
        let opened = match (passed.take(listener, address), address) {
            (Some(socket), _) => take_over(socket),
            (None, Address::Tcp(address)) => open_tcp(*address).map(Socket::Tcp),
            (None, Address::Unix(path)) => open_unix(path, mode),
        };
        let failed = |cause| BindError { listener, address: address.clone(), cause };
        match opened {
            Ok(socket) => sockets.push(socket),
            Err(cause) if family_is_missing(&cause, address) => {
                tracing::warn!(listener, %address, %cause, "skipped, because this machine lacks the address family");
                skipped = Some(failed(cause));
            }
            Err(cause) => return Err(failed(cause)),
        }
    }
    match skipped {
        Some(error) if sockets.is_empty() => Err(error),
        Some(_) | None => Ok(sockets),
    }
}

/// Uses a passed socket. The process that passed the socket keeps it, too; that process made its file and will remove
/// that file.
fn take_over(socket: PassedSocket) -> io::Result<Socket> {
    match socket {
        PassedSocket::Tcp(socket, _) => {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket).map(Socket::Tcp)
        }
        PassedSocket::Unix(socket, path) => {
            socket.set_nonblocking(true)?;
            Ok(Socket::Unix(UnixListener::from_std(socket)?, SocketFile { path, identity: None }))
        }
    }
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Lets 0.0.0.0 and [::] be listened on at the same time.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for old connections to time out. Linux still refuses a second listener on the address.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Opens a Unix socket. The file gets its mode before `listen`, so nobody can connect under another mode.
fn open_unix(path: &Path, mode: u32) -> io::Result<Socket> {
    // Two processes that start at once must not take each other's file for a stale one.
    let _lock = lock_folder(path)?;
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(Socket::Unix(UnixListener::from_std(socket.into())?, file))
}

const BACKLOG: i32 = 1024;

/// Locks the folder of a socket against other processes that open one there. An unreadable folder cannot be locked.
fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) else { return Ok(None) };
    for _ in 0..LOCK_ATTEMPTS {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has locked the folder of the socket"))
}

// Other processes hold the lock for a few system calls.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Removes the socket file of a process that was killed. Nothing else is removed: neither a socket that somebody
/// listens on, nor a file of another kind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"));
    }
    let caller = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On a blocking socket, a listener with a full queue would make this connect wait.
    caller.set_nonblocking(true)?;
    match caller.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

fn family_is_missing(error: &io::Error, address: &Address) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    let Some(ip) = address.tcp().map(|address| address.ip()) else { return false };
    error.raw_os_error() == Some(EAFNOSUPPORT)
        || (ip == IpAddr::V6(std::net::Ipv6Addr::LOCALHOST) && error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// The file of a Unix socket. Dropping this removes the file, unless another process has put its own file there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode; `None` if another process is to remove the file.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: Some(identity(path)?) })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path).ok() == self.identity {
            // If this fails, the next start finds the file stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Socket {
    /// The bound address, with the port that the system chose for port 0.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Caller)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // Both calls can fail only when the caller has already gone. The first read then reports that.
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr().ok();
                Ok((Either::Left(stream), Caller { local, remote: Some(remote), ..Caller::default() }))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().ok().map(|peer| Peer { uid: peer.uid(), pid: peer.pid() });
                Ok((Either::Right(stream), Caller { unix: true, peer, ..Caller::default() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_listened_on_comes_with_advice() {
        let text =
            |address, kind: io::ErrorKind| BindError { listener: "proxy", address, cause: kind.into() }.to_string();
        let https = || Address::Tcp("127.0.0.1:443".parse().expect("an address"));
        for (address, kind, advice) in [
            (https(), io::ErrorKind::PermissionDenied, "; a port this low needs the capability CAP_NET_BIND_SERVICE"),
            (https(), io::ErrorKind::AddrInUse, "; end the process that listens there"),
            (https(), io::ErrorKind::AddrNotAvailable, ""),
            (Address::Unix("/run/proxy.sock".into()), io::ErrorKind::PermissionDenied, ""),
        ] {
            let text = text(address.clone(), kind);
            let (_, said) = text.split_once(&kind.to_string()).expect("the cause");
            assert!(said.starts_with(advice) && said.is_empty() == advice.is_empty(), "{address}: {said}");
        }
    }
}
