//! `healthcheck` and `wait`: ask the ops listener of a sidecar on this machine whether it is alive or ready.
//!
//! An image without a shell has no curl either. Both commands read only `ops.listen` of the configuration: they need no
//! keys, and a mistake elsewhere does not make a running sidecar look unhealthy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::files::ConfigFiles;
use super::help;
use super::process::say;
use crate::address::Address;
use crate::control::client;
use crate::units;

#[derive(Args, Debug)]
#[command(after_long_help = help::HEALTHCHECK)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Healthcheck {
    /// Prints the response of `/livez`.
    pub(super) async fn run(self, listen: SocketAddr) -> Result<(), Failure> {
        let said = ask(listen, "/livez").await.map_err(Failure::Unwell)?;
        say(&format!("{said}\n"));
        Ok(())
    }
}

#[derive(Args, Debug)]
#[command(after_long_help = help::WAIT)]
pub(super) struct Wait {
    /// Wait at most this long, such as "90s" or "2m".
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = limit)]
    max: Duration,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Wait {
    /// Requests `/readyz` until the response is 200, at most for `--max`.
    pub(super) async fn run(self, listen: SocketAddr) -> Result<(), Failure> {
        let mut last = "no answer".to_owned();
        let ready = async {
            loop {
                match ask(listen, "/readyz").await {
                    Ok(said) => return said,
                    Err(said) => last = said,
                }
                sleep(PAUSE).await;
            }
        };
        match timeout(self.max, ready).await {
            Ok(said) => {
                say(&format!("{said}\n"));
                Ok(())
            }
            Err(_) => {
                Err(Failure::Unwell(format!("the sidecar was not ready within {}: {last}", units::shown(self.max))))
            }
        }
    }
}

/// A duration from 1 s, which is enough for one response, to one day.
fn limit(text: &str) -> Result<Duration, &'static str> {
    let range = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    let duration = units::duration(text).filter(|duration| range.contains(duration));
    duration.ok_or("expected a duration from 1s to 1d: a whole number and one of s, m, h, d")
}

/// Time limit of one response. A healthy sidecar is fast, and a hanging probe has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);

/// The first line of the ops listener's response at a path: `Ok` for 200, and otherwise `Err` with the failure.
async fn ask(listen: SocketAddr, path: &str) -> Result<String, String> {
    let address = reachable_address(listen);
    let request = Request::get(path).header(HOST, "localhost").body(Full::default());
    let request = request.map_err(|error| error.to_string())?;
    let answer =
        client::send(&Address::Tcp(address), request, ANSWER_TIMEOUT).await.map_err(|error| error.to_string())?;
    match answer.status() {
        StatusCode::OK => Ok(first_line(&answer)),
        status => Err(format!("http://{address}{path} answers {}: {}", status.as_u16(), first_line(&answer))),
    }
}

/// The address by which this machine reaches a listener: loopback for a listener on all addresses.
pub(super) fn reachable_address(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    listen
}

// Enough for every reason why a sidecar is not ready, in characters.
const LONGEST_LINE: usize = 400;

/// The first line of the body, without control characters: a peer that is no sidecar must not garble a terminal or a
/// log.
pub(super) fn first_line(answer: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(answer.body());
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_asked_on_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            ("10.1.2.3:9464", "10.1.2.3:9464"),
        ] {
            assert_eq!(reachable_address(listen.parse().expect("an address")).to_string(), asked);
        }
    }

    #[test]
    fn what_a_stranger_says_is_cut() {
        let said = |body: &'static [u8]| first_line(&Response::new(Bytes::from_static(body)));
        assert_eq!(said(b"ready\nmore"), "ready");
        assert_eq!(said(b"a\x1b[31mb\xff"), "a[31mb\u{fffd}");
        assert_eq!(said(b""), "");
        assert_eq!(said(&[b'x'; 1000]).len(), LONGEST_LINE);
    }

    #[test]
    fn limits() {
        assert_eq!(limit("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0s", "999ms", "2days", "soon", "30", "99999999999999999999y"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
