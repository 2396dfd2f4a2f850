//! Open files: every connection is one, and what the system allows is often less than what the settings do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the number of files this process may have open as far as it may itself.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!(limit = current, "the limit of open files could not be raised");
    }
}

/// How many callers' connections the system has files for, of those that are allowed. The others have to leave room for
/// `upstream` connections to Sezzle, or callers would be let in who cannot be served, and probes kept out.
pub fn room_for_connections(connections: usize, upstream: usize) -> usize {
    let allowed = getrlimit(Resource::Nofile).current.map(|files| usize::try_from(files).unwrap_or(usize::MAX));
    let room = room(connections, upstream, allowed.unwrap_or(usize::MAX));
    if room < connections {
        tracing::warn!(
            open_files = allowed,
            connections = room,
            "limits.connections is lowered to what the limit of open files has room for"
        );
    }
    room
}

fn room(connections: usize, upstream: usize, files: usize) -> usize {
    let files = files.saturating_sub(RESERVED);
    // A caller's connection has one call under way at a time, over HTTP/1.1, and so half of the files is enough for those.
    connections.min(files.saturating_sub(upstream).max(files / 2).max(1))
}

// Listeners, connections of operators and webhooks, the log, and what libraries keep open.
const RESERVED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(room(10_000, 1664, usize::MAX), 10_000);
        assert_eq!(room(10_000, 1664, 20_000), 10_000);
        assert_eq!(room(10_000, 1664, 4096), 2176);
        assert_eq!(room(10_000, 1664, 1024), 384);
        assert_eq!(room(100, 1664, 1024), 100);
        assert_eq!(room(10_000, 1664, 64), 1);
    }
}
