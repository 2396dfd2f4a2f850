//! How the sidecar speaks HTTP as a client: every limit and every leniency of the libraries, chosen in one place.
//!
//! docs/proxy-listener.md lists the limits under "Toward Sezzle".

use h2::client::Builder as Http2;
use hyper::client::conn::http1::Builder as Http1;

/// The largest head of an answer, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// HTTP/1.1 toward the gateway.
pub fn http1() -> Http1 {
    let mut builder = Http1::new();
    builder.max_buf_size(MAX_HEAD);
    builder
}

/// HTTP/2 toward the gateway.
pub fn http2() -> Http2 {
    let mut builder = Http2::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNTOLD)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .data_frame_budget(SMALL_FRAMES);
    builder
}

/// The limit of streams of a gateway that has not stated one yet. No gateway can state this number.
pub const UNTOLD: usize = usize::MAX - 1;

// One answer, and all of them together, may leave as much in memory when callers read slowly. The second is many times the
// first, or a few slow callers would hold up all others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
// Twice what is accepted, so that the status of an answer that is a little too large is still known.
const HEADER_LIST: u32 = 2 * MAX_HEAD as u32;
const FRAME: u32 = 16 * 1024;
// What small frames that wait to be read may cost in memory beside their content: h2 counts 256 bytes for each, less its
// size. Over it h2 ends the connection.
const SMALL_FRAMES: usize = 32 * 1024 * 1024;
