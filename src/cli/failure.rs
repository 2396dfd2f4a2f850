//! The failures of commands, and the exit code for each.

use std::borrow::Cow;
use std::io;

use crate::app::StartError;
use crate::config::Problems;
use crate::control::client::CallError;
use crate::online_check::failure::CheckFailure;
use crate::telemetry::log::InstallError;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Configuration(#[from] Problems),
    #[error("{0}")]
    Log(#[from] InstallError),
    #[error("the sidecar could not read the files of the {0} within {1} s")]
    Unread(&'static str, u64),
    #[error("a signal stopped the sidecar before it had started")]
    NotStarted,
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    System(#[from] io::Error),
    /// A second signal arrived, a second or more after the first, before the drain was over.
    #[error("the sidecar stopped before its connections and writes had ended")]
    Interrupted,
    #[cfg(feature = "simulator")]
    #[error("{0}")]
    Tour(String),
    #[error("control.listen is not set, so this command cannot reach the sidecar")]
    NoControl,
    #[error("the sidecar serves no status page: ops.status_page is false, and control.listen is not set")]
    NoStatusPage,
    #[error("{0}")]
    Control(#[from] CallError),
    #[error("ops.listen has port 0, so this command cannot know the port: set a fixed one")]
    NoPort,
    /// A sidecar is not alive, or not ready in time.
    #[error("{0}")]
    Unwell(String),
    /// Sezzle is unreachable, or rejects the keys.
    #[error("{0}")]
    OnlineCheck(#[from] CheckFailure),
    /// An audit file is broken, or cannot be read.
    #[error("{0}")]
    Unaudited(String),
    /// A certificate could not be made, or its files could not be written.
    #[error("{0}")]
    NotWritten(String),
    /// An argument or the input is invalid or unreadable.
    #[error("{0}")]
    Usage(Cow<'static, str>),
    #[cfg(feature = "simulator")]
    #[error("{0}")]
    Certificate(String),
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted => 0,
            Self::Start(error) => start_code(error),
            Self::OnlineCheck(failure) if failure.is_of_keys => NO_PERMISSION,
            Self::Usage(_) => USAGE,
            Self::Configuration(_) | Self::Unread(..) | Self::NoControl | Self::NoPort | Self::NoStatusPage => {
                BAD_CONFIGURATION
            }
            #[cfg(feature = "simulator")]
            Self::Certificate(_) => BAD_CONFIGURATION,
            Self::Log(_)
            | Self::System(_)
            | Self::Interrupted
            | Self::OnlineCheck(_)
            | Self::Control(_)
            | Self::Unaudited(_)
            | Self::NotWritten(_)
            | Self::Unwell(_) => 1,
            #[cfg(feature = "simulator")]
            Self::Tour(_) => 1,
        }
    }
}

fn start_code(error: &StartError) -> u8 {
    match error {
        StartError::Key(_)
        | StartError::Callers(_)
        | StartError::EgressKey(_)
        | StartError::EgressProxy(_)
        | StartError::WebhookKey(_)
        | StartError::FleetKeys(_)
        | StartError::FleetPassword(_) => NO_PERMISSION,
        StartError::ProxyTls(mistakes) if mistakes.iter().any(|mistake| mistake.of_key) => NO_PERMISSION,
        StartError::Tls(_)
        | StartError::ProxyTls(_)
        | StartError::NameServers(_)
        | StartError::FleetTls(_)
        | StartError::Address(_)
        | StartError::ForwardTo(_)
        | StartError::Passed(_) => BAD_CONFIGURATION,
        #[cfg(feature = "otlp")]
        StartError::Otlp(_) => BAD_CONFIGURATION,
        StartError::Audit(_)
        | StartError::Bind(_)
        | StartError::Metrics(_)
        | StartError::Socket(_)
        | StartError::Thread(_)
        | StartError::Resolver(_)
        | StartError::Tickets(_) => 1,
        // If several files are unusable, the code for a secret wins.
        StartError::Several(all) => all.iter().map(start_code).min().unwrap_or(1),
    }
}

pub(super) const USAGE: u8 = 64;
const NO_PERMISSION: u8 = 77;
pub(super) const BAD_CONFIGURATION: u8 = 78;
