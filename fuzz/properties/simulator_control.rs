//! Whatever is sent to the simulator's control interface: it is a command, or is refused in one plain sentence.
//!
//! Input: a line with method and path, with a query or not, then the body.

use http::StatusCode;
use sezzle_sidecar::simulator::control::{PREFIX, parse};

pub fn holds(data: &[u8]) {
    let (line, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &b""[..]),
    };
    let Some((method, target)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let parsed = parse(method, path, query, body);
    match &parsed {
        Ok(_) => {
            assert!(path.starts_with(PREFIX), "{path}");
            let unchanged = parse(method, path, query, body);
            assert_eq!(format!("{parsed:?}"), format!("{unchanged:?}"));
        }
        Err(refusal) => {
            let message = &refusal.message;
            assert!(refusal.status.is_client_error(), "{}: {message}", refusal.status);
            assert!(!message.is_empty() && message.len() < 1000 + path.len() + 6 * body.len(), "{message:?}");
            let is_other_method = refusal.status == StatusCode::METHOD_NOT_ALLOWED;
            assert!(!is_other_method || path.starts_with(PREFIX), "{message}");
            // The body and the query have nothing to do with whether there is such a call.
            if is_other_method || refusal.status == StatusCode::NOT_FOUND {
                let bare = parse(method, path, None, b"").expect_err("still none");
                assert_eq!(bare.status, refusal.status);
            }
        }
    }
}
