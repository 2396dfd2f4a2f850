//! `check`: validates the configuration and, with `--online`, the connection to Sezzle.

use std::process::ExitCode;

use clap::Args;
use tokio::runtime::Builder;

use super::failure::Failure;
use super::files::ConfigFiles;
use super::process::{is_set, report, say, with_runtime};
use crate::app;
use crate::app::warnings::Warning;
use crate::clock::Clock;
use crate::config::{Loaded, Settings};

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Connect to Sezzle as well: exchange the keys for a token, and look
    /// up a session that does not exist. The check creates nothing and
    /// reads no data of a shopper or an order.
    #[arg(long, verbatim_doc_comment)]
    online: bool,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

impl Check {
    /// Prints a valid configuration, or with `--online` tests whether it reaches Sezzle.
    pub(super) fn run(self, loaded: &Loaded) -> ExitCode {
        if self.online {
            return with_runtime(&mut Builder::new_current_thread(), online(&loaded.settings));
        }
        if let Err(error) = app::check_proxy_tls(&loaded.settings) {
            return report(Err(error.into()));
        }
        for Warning { key, text } in app::warnings::warnings(&loaded.settings) {
            say(&format!("# {key}: {text}\n\n"));
        }
        say(&loaded.render());
        ExitCode::SUCCESS
    }
}

async fn online(settings: &Settings) -> Result<(), Failure> {
    let check = app::online_check(settings, Clock::system(), is_set)?;
    check.run(|topic, text| say(&format!("{topic:<12}{text}\n"))).await?;
    say("all is well: the sidecar reaches Sezzle, and Sezzle accepts the keys\n");
    Ok(())
}
