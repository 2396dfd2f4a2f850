//! HTTP/2 frame by frame, for input that no client or server library would send.

use tokio::io::{AsyncRead, AsyncReadExt};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The number of SETTINGS_MAX_CONCURRENT_STREAMS.
pub const MAX_STREAMS: u16 = 3;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Whether this frame completes its sender's half of the stream.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The immediate answer to settings and to a ping.
    pub fn acknowledged(&self) -> Option<Vec<u8>> {
        match self.kind {
            SETTINGS if self.flags & ACK == 0 => Some(Self::new(SETTINGS, ACK, 0, []).bytes()),
            PING if self.flags & ACK == 0 => Some(Self::new(PING, ACK, 0, &*self.payload).bytes()),
            _ => None,
        }
    }
}

/// A HEADERS frame of these fields, each a literal.
pub fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    Frame::new(HEADERS, END_HEADERS | flags, stream, block(fields)).bytes()
}

/// A header block of these fields, each a literal that enters no table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // A length from 127 on would take another byte.
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

pub fn data(stream: u32, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    Frame::new(DATA, flags, stream, payload.as_ref()).bytes()
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    Frame::new(RST_STREAM, 0, stream, code.to_be_bytes()).bytes()
}

/// A GOAWAY frame: streams up to `last` will be answered, and no others.
pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    Frame::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat()).bytes()
}

/// A SETTINGS frame of these numbers and values.
pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
    Frame::new(SETTINGS, 0, 0, payload).bytes()
}

/// The next frame; `None` at the end.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut start = [0; 9];
    stream.read_exact(&mut start).await.ok()?;
    let length = usize::from(start[0]) << 16 | usize::from(start[1]) << 8 | usize::from(start[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    let id = u32::from_be_bytes([start[5], start[6], start[7], start[8]]) & 0x7fff_ffff;
    Some(Frame { kind: start[3], flags: start[4], stream: id, payload })
}

/// The status of a header block. The block's first field holds it: a field of the static table, or a literal of three
/// digits, with Huffman's code or without, that enters no table or the dynamic one.
pub fn status(block: &[u8]) -> Option<u16> {
    // A change of the table's size may precede the status.
    let block = if block.first()? & 0xe0 == 0x20 { block.get(1..)? } else { block };
    let first = *block.first()?;
    if first & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500].get(usize::from(first & 0x7f).checked_sub(8)?).copied();
    }
    let (length, text) = (*block.get(1)?, block.get(2..)?);
    let text = text.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let bits = text.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let (mut left, mut number) = (text.len() * 8, 0);
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 0x1f;
        // Indexes 0, 1 and 2 take five bits, all others six.
        let (digit, taken) =
            if five < 3 { (five, 5) } else { ((bits >> left.checked_sub(6)? & 0x3f).checked_sub(22)?, 6) };
        (number, left) = (number * 10 + digit, left - taken);
    }
    u16::try_from(number).ok()
}
