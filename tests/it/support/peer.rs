//! The far end of a connection to the gateway: keeps every byte that arrives, and answers as a test tells it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The peer's handling of a connection.
#[derive(Clone, Copy)]
pub enum Conduct {
    /// Relays the connection to the gateway.
    Relay,
    /// Answers the first bytes with these, and then only listens.
    Answer(&'static [u8]),
    /// Answers the first bytes with these, and closes.
    Close(&'static [u8]),
}

/// Bytes of one connection each.
pub type Record = Arc<Mutex<Vec<u8>>>;

/// A running peer. Dropping the handle stops it.
pub struct Peer {
    address: SocketAddr,
    gateway: Arc<Mutex<Option<SocketAddr>>>,
    records: Arc<Mutex<Vec<Record>>>,
    accepting: JoinHandle<()>,
}

impl Peer {
    pub async fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let gateway: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let records: Arc<Mutex<Vec<Record>>> = Arc::default();
        let (leads_to, kept) = (Arc::clone(&gateway), Arc::clone(&records));
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let record = Record::default();
                kept.lock().expect("not poisoned").push(Arc::clone(&record));
                let gateway = *leads_to.lock().expect("not poisoned");
                tokio::spawn(async move {
                    match conduct {
                        Conduct::Relay => relay(stream, gateway.expect("known by now"), &record).await,
                        Conduct::Answer(answer) => {
                            keep_some(&mut stream, &record).await?;
                            stream.write_all(answer).await.ok()?;
                            while keep_some(&mut stream, &record).await.is_some() {}
                            Some(())
                        }
                        Conduct::Close(answer) => {
                            keep_some(&mut stream, &record).await?;
                            stream.write_all(answer).await.ok()
                        }
                    }
                });
            }
        });
        Self { address, gateway, records, accepting }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the target of connections that are relayed from now on.
    pub fn lead_to(&self, gateway: SocketAddr) {
        *self.gateway.lock().expect("not poisoned") = Some(gateway);
    }

    /// The bytes that arrived, by connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let records = self.records.lock().expect("not poisoned");
        records.iter().map(|record| record.lock().expect("not poisoned").clone()).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn keep_some(stream: &mut TcpStream, record: &Record) -> Option<()> {
    let mut chunk = vec![0; 16 * 1024];
    let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
    record.lock().expect("not poisoned").extend_from_slice(&chunk[..read]);
    Some(())
}

/// Relays a connection until both directions have ended, and keeps the bytes that go to the gateway.
pub async fn relay(stream: TcpStream, gateway: SocketAddr, record: &Mutex<Vec<u8>>) -> Option<()> {
    let gateway = TcpStream::connect(gateway).await.ok()?;
    let (mut from_client, mut to_client) = stream.into_split();
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let up = async {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
            record.lock().expect("not poisoned").extend_from_slice(&chunk[..read]);
            to_gateway.write_all(&chunk[..read]).await.ok()?;
        }
        to_gateway.shutdown().await.ok()
    };
    let down = async {
        copy(&mut from_gateway, &mut to_client).await.ok()?;
        to_client.shutdown().await.ok()
    };
    tokio::join!(up, down);
    Some(())
}
