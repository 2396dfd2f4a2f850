//! `simulate`: the simulated gateway alone, for a sidecar or any other client.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio_rustls::rustls::ServerConfig;

use super::failure::Failure;
use super::process::{Signals, program, quoted, say};
use crate::file::{self, Pipes};
use crate::simulator::tls::{self, TlsError};
use crate::simulator::{Options, SessionKind, Simulator};

#[derive(Args, Debug)]
pub(super) struct Simulate {
    /// Listen on this address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Allow other addresses than loopback. Everybody who can reach the
    /// address controls the simulated gateway.
    #[arg(long, verbatim_doc_comment)]
    allow_remote: bool,
    /// Serve HTTP/2 as well: by ALPN with HTTPS, by prior knowledge without.
    #[arg(long)]
    http2: bool,
    /// Serve HTTPS with this PEM chain, the simulator's own certificate first.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Read the private key of that certificate from this PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl Simulate {
    /// Runs the simulated gateway until a signal.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Simulate { listen, allow_remote, http2, tls_certificate, tls_key } = self;
        if !listen.ip().is_loopback() && !allow_remote {
            return Err(Failure::Usage(
                "--listen is not a loopback address, and everybody who reaches the simulated gateway controls it. To \
                 allow that, add --allow-remote"
                    .into(),
            ));
        }
        let tls = match (&tls_certificate, &tls_key) {
            (Some(certificate), Some(key)) => Some(server_config(certificate, key)?),
            _ => None,
        };
        let mut signals = Signals::new()?;
        let gateway = Simulator::start(Options { listen, http2, tls, ..Options::default() }).await?;
        say(&banner(&gateway, tls_certificate.as_deref()));
        signals.next().await;
        gateway.stop().await;
        Ok(())
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let failure = |path: &Path, error: &dyn Display| Failure::Certificate(format!("{}: {error}", path.display()));
    let read = |path: &Path| match file::read(path, LARGEST, Pipes::Wait) {
        Ok(content) => Ok(content.bytes),
        Err(error) => Err(Failure::Certificate(format!("{} {error}", path.display()))),
    };
    tls::server_config(&read(certificate)?, &read(key)?).map_err(|error| match &error {
        TlsError::Certificate(cause) => failure(certificate, cause),
        TlsError::Key(cause) => failure(key, cause),
        TlsError::Refused(cause) => failure(certificate, &format!("with {}: {cause}", key.display())),
    })
}

// The largest certificate or key file, in bytes: room for every chain that a client would take.
const LARGEST: usize = 1024 * 1024;

/// Commands to try, which work as printed. If the gateway speaks TLS, clients have to trust `ca`.
fn banner(gateway: &Simulator, ca: Option<&Path>) -> String {
    let url = gateway.url();
    let Options { public_key, private_key, .. } = Options::default();
    let program = program();
    let quoted = |path: &Path| quoted(&path.display().to_string());
    let trust = ca.map_or_else(String::new, |ca| format!("  SEZZLE_SIDECAR__GATEWAY__CA_FILE={} \\\n", quoted(ca)));
    let curl = ca.map_or_else(|| "curl -sS".to_owned(), |ca| format!("curl -sS --cacert {}", quoted(ca)));
    let order = gateway.create_session(SessionKind::Order).order.unwrap_or_default();
    let amount = r#"'{"capture_amount":{"amount_in_cents":500,"currency":"USD"},"partial_capture":true}'"#;
    let rule = r#"'{"path":"/v2/order/*","times":3,"status":503}'"#;
    let lines = [
        "",
        "Start a sidecar in front of the gateway:",
        "",
        "  SEZZLE_SIDECAR__GATEWAY__ENVIRONMENT=sandbox \\",
        &format!("  SEZZLE_SIDECAR__GATEWAY__URL={url} \\"),
        &format!("{trust}  SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY={public_key} \\"),
        &format!("  SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY={private_key} \\"),
        &format!("  {program} run"),
        "",
        "An order waits for its shopper. Finish the checkout, capture through the sidecar, list what the capture did:",
        "",
        &format!("  {curl} -X POST {url}/_simulator/orders/{order}/complete"),
        &format!(
            "  curl -sS -X POST http://127.0.0.1:8080/v2/order/{order}/capture -H 'Content-Type: application/json' -d {amount}"
        ),
        &format!("  {curl} {url}/_simulator/orders/{order}/effects"),
        "",
        "Answer the next three requests for an order with 503, which are one call through a sidecar. List all control",
        "calls. Start afresh:",
        "",
        &format!("  {curl} -X POST {url}/_simulator/rules -d {rule}"),
        &format!("  {curl} {url}/_simulator/"),
        &format!("  {curl} -X POST {url}/_simulator/reset"),
        "",
        "docs/simulator.md explains every call. Ctrl-C stops it.",
        "",
    ];
    format!("A simulated Sezzle gateway listens on {url}. When it stops, it forgets everything.\n{}", lines.join("\n"))
}
