//! How the sidecar speaks HTTP as a client: every limit and every leniency of the libraries, chosen in one place.
//!
//! docs/proxy-listener.md lists the limits under "Toward Sezzle".

use h2::client::Builder as Http2;
use hyper::client::conn::http1::Builder as Http1;
use hyper_util::client::legacy::Builder as Legacy;

/// The largest head of an answer, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// HTTP/1.1 toward the gateway. What this refuses as malformed is read once more by [`lenient_http1`]: room for more than
/// 100 lines, and a look at every value for folded lines, would cost each answer some.
pub fn http1() -> Http1 {
    let mut builder = Http1::new();
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    builder
}

/// HTTP/1.1 as leniently as a head can be read without guessing (RFC 9112, 5.1 and 5.2): any number of lines, a space before
/// a colon, a value folded over several lines. A line that is no header is left out.
pub fn lenient_http1() -> Http1 {
    let mut builder = http1();
    builder
        .max_headers(MAX_LINES)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    builder
}

/// The same for connections that hyper-util makes.
pub fn lenient(builder: &mut Legacy) -> &mut Legacy {
    builder
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_LINES)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
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

// A line has four bytes at least.
const MAX_LINES: usize = MAX_HEAD / 4;
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
