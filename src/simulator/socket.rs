//! Plain and encrypted sockets, and the ways to end a connection.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::payload::Piece;

/// A plain or an encrypted stream, with the socket below it.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    fn tcp(&self) -> &TcpStream;

    /// Drops the unsent bytes, and resets the connection.
    fn reset(self) {
        let _ = self.tcp().set_zero_linger();
    }

    /// Sends bytes past HTTP, and closes the connection.
    async fn send(mut self, pieces: &[Piece]) {
        for piece in pieces {
            sleep(piece.wait).await;
            if self.write_all(&piece.bytes).await.is_err() {
                return;
            }
        }
        self.close().await;
    }

    async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.shutdown()).await;
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// The longest handshake: long enough for a busy machine, and short enough that a silent peer does not keep its socket.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
