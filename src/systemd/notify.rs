//! Reports the service's state to its manager: the protocol of sd_notify(3).
//!
//! Reports never fail: if the manager does not listen, the sidecar logs a warning and goes on serving.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::process;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::clock::monotonic_micros;

/// The connection to a service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let manager = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&address),
            _ => Err(io::Error::other("expected a path, or an abstract name that begins with @")),
        };
        let manager = manager.inspect_err(|error| {
            let address = address.display();
            tracing::warn!(%address, %error, "the sidecar cannot use NOTIFY_SOCKET and reports nothing to systemd");
        });
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
        let limit = text("WATCHDOG_USEC").filter(|_| ours).and_then(|micros| micros.parse().ok());
        let watchdog = limit.filter(|micros| *micros > 0).map(Duration::from_micros);
        Self { manager: manager.ok(), watchdog }
    }

    /// The interval for [`Self::alive`]: half the time after which the manager takes silence for a failure.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.manager.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// Reports that the service is starting, and why it is not ready. The next report comes `within` this time.
    pub async fn starting(&self, why: &str, within: Duration) {
        self.tell(&[
            ("STATUS", &format!("not ready: {why}")),
            ("EXTEND_TIMEOUT_USEC", &within.as_micros().to_string()),
        ])
        .await;
    }

    /// Reports that the service is ready, first or after a reload.
    pub async fn ready(&self, status: &str) {
        self.tell(&[("READY", "1"), ("STATUS", status)]).await;
    }

    /// Reports a reload. Send this before anything is read, and [`Self::ready`] after.
    pub async fn reloading(&self) {
        let now = monotonic_micros().to_string();
        self.tell(&[("RELOADING", "1"), ("MONOTONIC_USEC", &now), ("STATUS", "reloading")]).await;
    }

    /// Reports that the service is stopping, and will have ended `within` this time.
    pub async fn stopping(&self, within: Duration) {
        let within = within.as_micros().to_string();
        self.tell(&[("STOPPING", "1"), ("STATUS", "draining"), ("EXTEND_TIMEOUT_USEC", &within)]).await;
    }

    pub async fn alive(&self) {
        self.tell(&[("WATCHDOG", "1")]).await;
    }

    async fn tell(&self, assignments: &[(&str, &str)]) {
        let Some(manager) = &self.manager else { return };
        let lines =
            assignments.iter().map(|(name, value)| format!("{name}={}\n", value.replace(char::is_control, " ")));
        let told = timeout(NOTIFY_TIMEOUT, send(manager, lines.collect::<String>())).await;
        if let Err(error) = told.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            tracing::warn!(%error, "the sidecar cannot report its state to systemd");
        }
    }
}

/// Each message uses a new socket: a restarted manager has another socket under the same name. Waits while the
/// manager's queue is full.
async fn send(manager: &SocketAddr, message: String) -> io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(manager)?;
    UnixDatagram::from_std(socket)?.send(message.as_bytes()).await.map(drop)
}

const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect();
        Notifier::from_environment(|name| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
    }

    #[tokio::test]
    async fn each_message_is_one_datagram_of_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let notifier = notifier(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
        let mut received = [0; 256];
        let mut told = || {
            let length = manager.recv(&mut received).expect("a message");
            String::from_utf8_lossy(&received[..length]).into_owned()
        };
        notifier.starting("no\ntoken", Duration::from_secs(30)).await;
        assert_eq!(told(), "STATUS=not ready: no token\nEXTEND_TIMEOUT_USEC=30000000\n", "a line is never broken");
        notifier.ready("ready").await;
        assert_eq!(told(), "READY=1\nSTATUS=ready\n");
        let before = monotonic_micros();
        notifier.reloading().await;
        let text = told();
        let at = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split('\n').next());
        let at: u64 = at.expect(&text).parse().expect("a number");
        assert!((before..=monotonic_micros()).contains(&at), "{text}");
        notifier.stopping(Duration::from_millis(1500)).await;
        assert_eq!(told(), "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=1500000\n");
        notifier.alive().await;
        assert_eq!(told(), "WATCHDOG=1\n");
    }

    #[tokio::test]
    async fn an_abstract_name_is_an_address_too() {
        let name = format!("sezzle-sidecar-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("bound");
        notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).alive().await;
        let mut received = [0; 16];
        assert_eq!(manager.recv(&mut received).expect("a message"), "WATCHDOG=1\n".len());
    }

    #[tokio::test]
    async fn without_a_manager_nothing_is_told() {
        for variables in
            [&[][..], &[("NOTIFY_SOCKET", "vsock:2:1")], &[("NOTIFY_SOCKET", "")], &[("NOTIFY_SOCKET", "/absent")]]
        {
            notifier(variables).ready("ready").await;
        }
        let all = |address| [("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", "1000000")];
        assert_eq!(notifier(&all("vsock:2:1")).heartbeat(), None);
    }

    #[test]
    fn the_watchdog_is_for_the_process_it_names() {
        let own = process::id().to_string();
        let heartbeat = |pid: &str, micros: &str| {
            let variables = [("NOTIFY_SOCKET", "/run/a"), ("WATCHDOG_PID", pid), ("WATCHDOG_USEC", micros)];
            notifier(&variables).heartbeat()
        };
        assert_eq!(heartbeat(&own, "3000000"), Some(Duration::from_millis(1500)));
        for (pid, micros) in [("1", "3000000"), (&own, "0"), (&own, "soon"), (&own, "")] {
            assert_eq!(heartbeat(pid, micros), None, "{pid} {micros}");
        }
        let anybody = notifier(&[("NOTIFY_SOCKET", "/run/a"), ("WATCHDOG_USEC", "2000000")]);
        assert_eq!(anybody.heartbeat(), Some(Duration::from_secs(1)));
    }
}
