//! `status`: prints the content of a running sidecar's status page, for machines without a browser or curl.

use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;

use super::failure::Failure;
use super::files::ConfigFiles;
use super::health::{first_line, reachable_address};
use super::help;
use super::process::say;
use crate::address::Address;
use crate::config::OperatorListeners;
use crate::control::client::{self, CallError};

#[derive(Args, Debug)]
#[command(after_long_help = help::STATUS)]
pub(super) struct Status {
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Status {
    /// Asks the control listener, whose page has all identifiers, or else the ops listener.
    pub(super) async fn run(self, listeners: OperatorListeners) -> Result<(), Failure> {
        let address = match listeners.control {
            Some(address) => address,
            None if listeners.ops.port() == 0 => return Err(Failure::NoPort),
            None => Address::Tcp(reachable_address(listeners.ops)),
        };
        let (path, accept) = if self.json { ("/status.json", "application/json") } else { ("/", "text/plain") };
        let request = Request::get(path).header(HOST, "localhost").header(ACCEPT, accept).body(Full::default());
        let request = request.map_err(|error| Failure::Unwell(error.to_string()))?;
        let answer = client::send(&address, request, TIMEOUT).await?;
        match answer.status() {
            StatusCode::OK => {
                let text = String::from_utf8_lossy(answer.body());
                // A peer that is no sidecar must not garble a terminal.
                say(&text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>());
                Ok(())
            }
            StatusCode::NOT_FOUND => Err(Failure::NoStatusPage),
            _ => Err(CallError::Refused(first_line(&answer)).into()),
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(10);
