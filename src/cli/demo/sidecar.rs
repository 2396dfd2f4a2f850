//! The sidecars of a tour. Variables configure them, as they configure every other sidecar. One sidecar listens on the
//! usual ports if these are free.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use super::caller::failed;
use crate::address::Address;
use crate::app::{App, StartError};
use crate::cli::failure::Failure;
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::simulator::Options;

/// Further settings, as variables without their prefix.
pub(super) type Variables<'a> = &'a [(&'a str, String)];

/// A running sidecar.
pub(super) struct Sidecar {
    pub app: App,
    pub proxy: SocketAddr,
    pub ops: SocketAddr,
}

impl Sidecar {
    /// Starts a sidecar on the usual ports, or on others if these are taken.
    pub fn on_usual_ports(gateway: &str, more: Variables<'_>) -> Result<Self, Failure> {
        let usual = settings(gateway, free_port(8080), free_port(9464), more)?;
        match App::start(&usual, Clock::system()) {
            // Another process took a port between the look and the start.
            Err(StartError::Bind(_)) => Self::on_any_ports(gateway, more),
            started => Self::new(started?),
        }
    }

    pub fn on_any_ports(gateway: &str, more: Variables<'_>) -> Result<Self, Failure> {
        Self::new(App::start(&settings(gateway, ANY_PORT, ANY_PORT, more)?, Clock::system())?)
    }

    fn new(app: App) -> Result<Self, Failure> {
        let proxy = app.addresses.proxy.iter().find_map(Address::tcp);
        let proxy = proxy.ok_or_else(|| failed("the sidecar has no address"))?;
        let ops = app.addresses.ops;
        Ok(Self { app, proxy, ops })
    }
}

fn settings(gateway: &str, proxy: SocketAddr, ops: SocketAddr, more: Variables<'_>) -> Result<Settings, Failure> {
    let defaults = Options::default();
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
        ("GATEWAY__URL", gateway.to_owned()),
        ("CREDENTIALS__PUBLIC_KEY", defaults.public_key),
        ("CREDENTIALS__PRIVATE_KEY", defaults.private_key),
        ("PROXY__LISTEN", proxy.to_string()),
        ("OPS__LISTEN", ops.to_string()),
        ("OPS__STATUS_PAGE", "true".to_owned()),
        ("DRAIN__GRACE", "0s".to_owned()),
    ];
    let all = variables.iter().chain(more);
    let environment =
        all.map(|(name, value)| (OsString::from(format!("SEZZLE_SIDECAR__{name}")), OsString::from(value)));
    let loaded = config::load(&[], environment).map_err(|problems| failed(&problems.to_string()))?;
    Ok(loaded.settings)
}

/// The usual port if it is free, else any.
fn free_port(usual: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => ANY_PORT,
    }
}

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
