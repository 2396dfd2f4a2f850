//! Settings of hyper and h2 for serving callers: each limit and leniency that a caller can meet is chosen here, for all
//! listeners. docs/proxy-listener.md tells callers what happens beyond the limits.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

/// An HTTP/1 server that accepts heads of up to `max_head` bytes.
pub(super) fn http1(max_head: usize) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // [`super::phase`] has a deadline for each phase of a connection instead.
        .header_read_timeout(None)
        .max_buf_size(max_head)
        .max_header_size(max_head)
        .max_headers(MAX_HEADERS)
        .keep_alive(true)
        // A caller that closes its sending side after a request still gets its answer.
        .half_close(true)
        .pipeline_flush(false)
        .auto_date_header(true)
        .ignore_invalid_headers(false)
        .allow_multiple_spaces_in_request_line_delimiters(false)
        .preserve_header_case(false)
        .title_case_headers(false);
    builder
}

/// An HTTP/2 server for heads of up to `max_head` bytes; `executor` runs responses. CONNECT with `:protocol` stays off.
pub(super) fn http2<E: Clone>(max_head: usize, executor: E) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(max_head).unwrap_or(u32::MAX))
        .header_table_size(HEADER_TABLE)
        .max_frame_size(MAX_FRAME)
        .adaptive_window(false)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(BROKEN_STREAMS)
        // Detects a caller that vanished, which would otherwise hold its connection's permit until the idle timeout.
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .auto_date_header(true);
    builder
}

/// Most lines in a request's head. hyper enforces this limit over HTTP/1, [`super::connection`] over HTTP/2.
pub(super) const MAX_HEADERS: usize = 100;

// One HTTP/2 connection may carry as many requests at once as a pool of HTTP/1.1 connections would. Their bodies come
// in small pieces, since each body is received whole and bounded elsewhere. h2 derives from the connection's window how
// many small DATA frames may wait to be read. Empty DATA frames have a fixed limit in h2: 100 on one connection.
const MAX_STREAMS: u32 = 128;
const WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const MAX_FRAME: u32 = 16 * 1024;
const HEADER_TABLE: u32 = 4096;
// Requests that their caller reset before they were looked at, and streams that violated the protocol, per connection.
const RESET_UNSEEN: usize = 20;
const BROKEN_STREAMS: usize = 1024;
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
