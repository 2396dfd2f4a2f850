//! A caller that writes its requests byte by byte, for input that no client library would send.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use super::client::{Answer, check};
use super::header;

const LIMIT: Duration = Duration::from_secs(30);

/// One connection. Reads answers by their framing, and fails on an answer that breaks it.
pub struct Wire {
    stream: Either<TcpStream, UnixStream>,
    read: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.expect("connects"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open socket");
        Self { stream: Either::Left(stream), read: Vec::new() }
    }

    /// Connects to a Unix socket.
    pub async fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).await.expect("connects");
        Self { stream: Either::Right(stream), read: Vec::new() }
    }

    /// Sends bytes as they are. The other side may have closed without reading them; its answer shows that.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(LIMIT, self.stream.write_all(bytes.as_ref())).await.expect("is taken in time");
    }

    /// Sends nothing more, but still reads.
    pub async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("an open socket");
    }

    /// Closes in a way that the other side notices at once.
    pub fn reset(self) {
        let Either::Left(stream) = self.stream else { panic!("only TCP can be reset") };
        stream.set_zero_linger().expect("an open socket");
    }

    /// The next answer, to a request other than HEAD.
    pub async fn answer(&mut self) -> Answer {
        self.read_answer(true).await
    }

    /// The next answer, to a HEAD.
    pub async fn answer_to_head(&mut self) -> Answer {
        self.read_answer(false).await
    }

    /// The status of the next answer; `None` at the end of the connection. A reset counts as an end.
    pub async fn status(&mut self) -> Option<u16> {
        let more = !self.read.is_empty() || self.fill().await;
        if more { Some(self.answer().await.status) } else { None }
    }

    /// Everything up to the end of the connection. A close with unread bytes is a reset, which counts as an end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.read)
    }

    /// The bytes that can be read now; waits for the first. `None` at the end of the connection.
    pub async fn read_some(&mut self) -> Option<Vec<u8>> {
        self.fill().await.then(|| std::mem::take(&mut self.read))
    }

    /// Reads until this text has come, and returns all that was read. Fails if the connection ends first.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let more = self.read_some().await.unwrap_or_else(|| panic!("closed after {read}"));
            read.push_str(&String::from_utf8(more).expect("text"));
        }
        read
    }

    async fn read_answer(&mut self, has_body: bool) -> Answer {
        let head = self.take_to(b"\r\n\r\n").await;
        let head = String::from_utf8(head).expect("a head of text");
        let mut lines = head.lines();
        let status_line = lines.next().expect("a status line");
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {status_line}"));
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no header: {line}"));
            let name: HeaderName = name.parse().expect("a header's name");
            headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        check(&headers);
        let lengths = headers.get_all("content-length").iter().count();
        let chunked = header(&headers, "transfer-encoding") == "chunked";
        assert!(lengths <= 1 && !(chunked && lengths == 1), "ambiguous framing: {headers:?}");
        let body = match (has_body && status >= 200 && status != 204 && status != 304, chunked, lengths) {
            (false, _, _) => Vec::new(),
            (true, true, _) => self.chunks().await,
            (true, false, 1) => self.take(header(&headers, "content-length").parse().expect("a length")).await,
            (true, false, _) => self.rest().await,
        };
        Answer { status, headers, body: Bytes::from(body) }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.take_to(b"\r\n").await).expect("a chunk's size");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            body.extend(self.take(size).await);
            assert_eq!(self.take(2).await, b"\r\n", "a chunk ends with its line");
            if size == 0 {
                return body;
            }
        }
    }

    async fn take_to(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len()).await;
            }
            assert!(self.fill().await, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.fill().await, "closed after {} of {length} bytes", self.read.len());
        }
        self.read.drain(..length).collect()
    }

    /// Returns whether more bytes came.
    async fn fill(&mut self) -> bool {
        self.read.reserve(16 * 1024);
        let read = timeout(LIMIT, self.stream.read_buf(&mut self.read)).await.expect("answers or closes in time");
        read.is_ok_and(|read| read > 0)
    }
}
