//! `purge`: purges sessions of a running sidecar.

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::failure::Failure;
use super::files::ConfigFiles;
use super::process::say;
use crate::config::Settings;
use crate::control::client;

#[derive(Args, Debug)]
pub(super) struct Purge {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    pub(super) files: ConfigFiles,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// Purge this session.
    #[arg(value_name = "UUID")]
    session: Option<Uuid>,
    /// Purge the sessions of this order.
    #[arg(long, value_name = "UUID")]
    order: Option<String>,
    /// Purge the sessions of this tokenize token.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Purge every session.
    #[arg(long)]
    all: bool,
}

impl Purge {
    /// Asks the sidecar through its control listener.
    pub(super) async fn run(self, settings: &Settings) -> Result<(), Failure> {
        let address = settings.control.listen.as_ref().ok_or(Failure::NoControl)?;
        let answer = client::call(address, Method::POST, "/purge", &self.target.body()).await?;
        say(&format!("removed {}\n", answer.get("removed").and_then(Value::as_u64).unwrap_or_default()));
        Ok(())
    }
}

impl Target {
    /// The body of the request to the control listener.
    fn body(&self) -> Value {
        match (&self.session, &self.order, &self.token) {
            (Some(session), _, _) => json!({"session": session}),
            (_, Some(order), _) => json!({"order": order}),
            (_, _, Some(token)) => json!({"token": token}),
            _ => json!({"all": self.all}),
        }
    }
}
