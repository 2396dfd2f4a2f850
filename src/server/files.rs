//! The limit of open files. Every connection needs one, and the system often allows fewer than the settings do.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files as far as the system lets the process raise it.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!(limit = current, "the sidecar could not raise its limit of open files");
    }
}

/// How many of the allowed `connections` from callers the system has files for. The rest of the files must suffice for
/// `upstream` connections to Sezzle, or callers would be accepted who cannot be served, and probes would be refused.
pub fn room_for_connections(connections: usize, upstream: usize) -> usize {
    let allowed = allowed();
    let room = room(connections, upstream, allowed);
    if room < connections {
        tracing::warn!(
            open_files = allowed,
            connections = room,
            "the limit of open files is too low for limits.connections, so the sidecar accepts fewer connections"
        );
    }
    if allowed < FEW {
        tracing::warn!(
            open_files = allowed,
            "the limit of open files is so low that the sidecar serves only few callers at a time; raise it to 1024 \
             at least"
        );
    }
    room
}

/// How many of the usual connections a listener for operators or webhooks may have open, or how many connections over a
/// limit may be answered at a time. The number is lower when files are few, since each such connection takes a file
/// from Sezzle.
pub fn room_beside(usual: usize) -> usize {
    beside(usual, allowed())
}

fn allowed() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.map(|files| usize::try_from(files).unwrap_or(usize::MAX));
    allowed.unwrap_or(usize::MAX)
}

fn beside(usual: usize, files: usize) -> usize {
    if files < FEW { usual.min(files.saturating_sub(OWN) / 8).max(1) } else { usual }
}

fn room(connections: usize, upstream: usize, files: usize) -> usize {
    if files < FEW {
        // A quarter for callers, at least as many for Sezzle, and the rest for the other listeners.
        return connections.min(files.saturating_sub(OWN) / 4).max(1);
    }
    let files = files.saturating_sub(RESERVED);
    // Over HTTP/1.1 a connection has one call in progress at a time, so half of the files is enough for callers.
    connections.min(files.saturating_sub(upstream).max(files / 2).max(1))
}

// Listeners, connections of operators and webhooks, the log, and what libraries keep open.
const RESERVED: usize = 256;
// Below this number the reserve would take most of the files.
const FEW: usize = 512;
// Files that an idle process with two workers has open, and a few more.
const OWN: usize = 40;

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
        assert_eq!(room(10_000, 1664, 512), 128);
        assert_eq!(room(10_000, 1664, 511), 117);
        assert_eq!(room(10_000, 1664, 64), 6);
        assert_eq!([40, 30, 0].map(|files| room(10_000, 1664, files)), [1, 1, 1]);
        assert_eq!([usize::MAX, 512, 511, 64, 40].map(|files| beside(64, files)), [64, 64, 58, 3, 1]);
    }
}
