//! A name server that knows one name, and counts the questions for its addresses of IPv4.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A running name server. Dropping the handle ends it.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<AtomicU32>,
    /// Whether the server answers that its name does not exist, and that this answer may be kept for a day.
    denies: Arc<AtomicBool>,
    /// The code of RFC 1035, 4.1.1, with which the server fails questions for addresses of IPv4. The server does not fail
    /// with 0.
    fails: Arc<AtomicU8>,
    /// The address of IPv4 to which the server leads.
    leads_to: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

const NAME: &[u8] = b"\x07gateway\x06sezzle\x03com\x00";

impl NameServer {
    /// Starts a server whose answers may be kept for `ttl` seconds.
    pub async fn start(ttl: u32) -> Self {
        Self::answering_after(Duration::ZERO, ttl).await
    }

    /// As [`Self::start`], for a server that waits for this time before each answer.
    pub async fn answering_after(wait: Duration, ttl: u32) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let (address, asked) = (socket.local_addr().expect("an address"), Arc::new(AtomicU32::new(0)));
        let (denies, fails) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(0)));
        let leads_to = Arc::new(AtomicU32::new(Ipv4Addr::LOCALHOST.to_bits()));
        let (counted, denied, leads) = (Arc::clone(&asked), Arc::clone(&denies), Arc::clone(&leads_to));
        let failing = Arc::clone(&fails);
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let question = &question[..length];
                let answer = match failing.load(Ordering::Relaxed) {
                    0 if denied.load(Ordering::Relaxed) => denial(question),
                    code if code != 0 && asks_for_ipv4(question) => failure(question, code),
                    _ => answer(question, ttl, leads.load(Ordering::Relaxed), &counted),
                };
                sleep(wait).await;
                socket.send_to(&answer, from).await.expect("sent");
            }
        });
        Self { address, asked, denies, fails, leads_to, task }
    }

    /// Whether the answers from now on say that the name does not exist.
    pub fn deny(&self, denies: bool) {
        self.denies.store(denies, Ordering::Relaxed);
    }

    /// Fails questions for addresses of IPv4 with this code from now on. Other questions get no record.
    pub fn fail(&self, code: u8) {
        self.fails.store(code, Ordering::Relaxed);
    }

    /// Leads the name to this address from now on.
    pub fn lead_to(&self, address: Ipv4Addr) {
        self.leads_to.store(address.to_bits(), Ordering::Relaxed);
    }

    /// How many answers with an address were given.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer of RFC 1035, 4.1, to one question. The known name has one address and no record of another type, and other
/// names do not exist.
fn answer(question: &[u8], ttl: u32, leads_to: u32, asked: &AtomicU32) -> Vec<u8> {
    let end = name_end(question);
    let known = question[12..end].eq_ignore_ascii_case(NAME);
    let has_address = known && asks_for_ipv4(question);
    let code = if known { 0 } else { 3 };
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(&question[12..end + 4]);
    if has_address {
        asked.fetch_add(1, Ordering::Relaxed);
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(leads_to.to_be_bytes());
    }
    answer
}

/// Where the name in a question ends, and the type begins.
fn name_end(question: &[u8]) -> usize {
    question[12..].iter().position(|byte| *byte == 0).expect("the end of the name") + 12 + 1
}

fn asks_for_ipv4(question: &[u8]) -> bool {
    let end = name_end(question);
    question[end..end + 2] == [0, 1]
}

/// An answer with this code and without records.
fn failure(question: &[u8], code: u8) -> Vec<u8> {
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(&question[12..name_end(question) + 4]);
    answer
}

/// The answer of RFC 2308, 2.1, that the name does not exist.
fn denial(question: &[u8]) -> Vec<u8> {
    const DAY: [u8; 4] = 86_400_u32.to_be_bytes();
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x83, 0, 1, 0, 0, 0, 1, 0, 0]);
    answer.extend(&question[12..name_end(question) + 4]);
    // The SOA record of the root: its time to live, two names, a serial number, three intervals, and the time to keep this.
    answer.extend([0, 0, 6, 0, 1].into_iter().chain(DAY).chain([0, 22, 0, 0]));
    answer.extend([1_u32, 1, 1, 1].into_iter().flat_map(u32::to_be_bytes).chain(DAY));
    answer
}
