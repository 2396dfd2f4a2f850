//! Settings of the HTTP client: every limit and every leniency of the libraries is chosen here.
//!
//! docs/proxy-listener.md lists the limits under "Toward Sezzle".

use h2::client::Builder as Http2;
use hyper::client::conn::http1::Builder as Http1;
use hyper_util::client::legacy::Builder as Legacy;

/// The largest accepted response head, in bytes.
pub const MAX_HEAD: usize = 64 * 1024;

/// HTTP/1.1 toward the gateway. A head that this parser refuses as malformed is parsed again by [`lenient_http1`]. Room
/// for more than 100 lines and a check of every value for folded lines would slow down each response.
pub fn http1() -> Http1 {
    let mut builder = Http1::new();
    builder.max_buf_size(MAX_HEAD).max_header_size(MAX_HEAD);
    builder
}

/// HTTP/1.1 as lenient as is possible without guessing (RFC 9112, 5.1 and 5.2): any number of lines, a space before a
/// colon, a value folded over several lines. A line that is not a header is left out.
pub fn lenient_http1() -> Http1 {
    let mut builder = http1();
    builder
        .max_headers(MAX_LINES)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    builder
}

/// The settings of [`lenient_http1`] for connections that hyper-util makes.
pub fn lenient(builder: &mut Legacy) -> &mut Legacy {
    builder
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_LINES)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
}

pub fn http2() -> Http2 {
    let mut builder = Http2::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(UNSTATED_LIMIT)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_LIST)
        .max_frame_size(FRAME)
        .data_frame_budget(SMALL_FRAMES);
    builder
}

/// The assumed limit of streams while the gateway has not stated one. No gateway can state this number.
pub const UNSTATED_LIMIT: usize = usize::MAX - 1;

// A header line has at least four bytes.
const MAX_LINES: usize = MAX_HEAD / 4;
// Bytes that one response, and all responses of a connection together, may buffer in memory when callers read slowly.
// The connection's window is many times a stream's, or a few slow callers would hold up all others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
// Twice the accepted size, so that the status of a response with a slightly too large head is still known.
const HEADER_LIST: u32 = 2 * MAX_HEAD as u32;
const FRAME: u32 = 16 * 1024;
// Memory for small frames that wait to be read, beyond their content: h2 counts 256 bytes for each frame, less its
// size. Above this limit h2 ends the connection.
const SMALL_FRAMES: usize = 32 * 1024 * 1024;
