//! A proxy in front of Redis that brings about the faults of a network. Runs as long as the test's runtime.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The two ways of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToCaller,
}

/// A network that misbehaves, until the test mends it.
pub struct RedisProxy {
    pub address: SocketAddr,
    network: watch::Sender<Network>,
}

#[derive(Clone, Debug)]
struct Network {
    server: SocketAddr,
    /// Bytes wait here for so long, each way.
    delay: Duration,
    /// Bytes wait on these ways until the test mends them, and arrive then.
    stalled: Vec<Way>,
    /// Connections with a lower number are reset.
    cut: u64,
    /// Connections with a lower number lose all bytes of both ways, and neither side notices.
    lost: u64,
    /// New connections are reset.
    refusing: bool,
    /// Connections are reset after so many more bytes to the caller.
    left: Option<usize>,
    /// The number of the next connection.
    next: u64,
}

impl RedisProxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let network = watch::Sender::new(Network {
            server,
            delay: Duration::ZERO,
            stalled: Vec::new(),
            cut: 0,
            lost: 0,
            refusing: false,
            left: None,
            next: 0,
        });
        let shared = network.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let mut number = 0;
                shared.send_modify(|network| {
                    number = network.next;
                    network.next += 1;
                });
                tokio::spawn(join(number, caller, shared.clone()));
            }
        });
        Self { address, network }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends every fault. Connections that were reset or lost stay so.
    pub fn mend(&self) {
        self.network.send_modify(|network| {
            network.delay = Duration::ZERO;
            network.stalled.clear();
            network.refusing = false;
            network.left = None;
        });
    }

    /// Delays all bytes by this time, each way.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }

    /// Holds all bytes of this way back until the network is mended. They arrive even if the sender has closed its
    /// connection by then.
    pub fn stall(&self, way: Way) {
        self.network.send_modify(|network| network.stalled.push(way));
    }

    /// Resets every connection. New ones are let through.
    pub fn cut(&self) {
        self.network.send_modify(|network| network.cut = network.next);
    }

    /// Resets every connection, and new ones too.
    pub fn refuse(&self) {
        self.network.send_modify(|network| {
            network.cut = network.next;
            network.refusing = true;
        });
    }

    /// Forgets every connection, as a router does that was restarted: neither side notices. New ones are let through.
    pub fn forget(&self) {
        self.network.send_modify(|network| network.lost = network.next);
    }

    /// Resets the connection that gets the last of so many more bytes from the server.
    pub fn cut_after(&self, bytes: usize) {
        self.network.send_modify(|network| network.left = Some(bytes));
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, server: SocketAddr) {
        self.network.send_modify(|network| network.server = server);
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> u64 {
        self.network.borrow().next
    }
}

async fn join(number: u64, caller: TcpStream, network: watch::Sender<Network>) {
    let (server, refusing) = {
        let network = network.borrow();
        (network.server, network.refusing)
    };
    let reset = |stream: &TcpStream| drop(stream.set_zero_linger());
    if refusing {
        return reset(&caller);
    }
    let Ok(server) = TcpStream::connect(server).await else { return reset(&caller) };
    for stream in [&caller, &server] {
        stream.set_nodelay(true).expect("settable");
    }
    let ((from_caller, to_caller), (from_server, to_server)) = (caller.into_split(), server.into_split());
    tokio::spawn(pass(Way::ToServer, number, from_caller, to_server, network.clone()));
    tokio::spawn(pass(Way::ToCaller, number, from_server, to_caller, network));
}

/// Moves the bytes of one way. One task reads them and notes when they are due; this one writes them.
async fn pass(
    way: Way,
    number: u64,
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: tcp::OwnedWriteHalf,
    network: watch::Sender<Network>,
) {
    let (queue, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let delays = network.subscribe();
    let reader = tokio::spawn(async move {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let when = Instant::now() + delays.borrow().delay;
            if queue.send((when, piece[..read].to_vec())).await.is_err() {
                break;
            }
        }
    });
    let moving = async {
        while let Some((when, mut piece)) = due.recv().await {
            sleep_until(when).await;
            until(&network, |network| !network.stalled.contains(&way)).await;
            let mut last = false;
            network.send_if_modified(|network| {
                if let (Way::ToCaller, Some(left)) = (way, &mut network.left) {
                    last = piece.len() >= *left;
                    piece.truncate(*left);
                    *left -= piece.len();
                }
                false
            });
            if to.write_all(&piece).await.is_err() {
                return true;
            }
            if last {
                network.send_modify(|network| {
                    network.left = None;
                    network.cut = network.cut.max(number + 1);
                });
            }
        }
        false
    };
    let reset = select! {
        reset = moving => reset,
        () = until(&network, |network| number < network.cut) => true,
        () = until(&network, |network| number < network.lost) => {
            until(&network, |network| number < network.cut).await;
            true
        }
    };
    reader.abort();
    if reset {
        let _ = to.as_ref().set_zero_linger();
        // Dropped, this half would send its end before the reset.
        to.forget();
    } else {
        let _ = to.shutdown().await;
    }
}

async fn until(network: &watch::Sender<Network>, holds: impl FnMut(&Network) -> bool) {
    let _ = network.subscribe().wait_for(holds).await;
}
