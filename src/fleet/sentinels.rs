//! Asks Sentinels for the address of the server, and leaves a server that they no longer name.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use super::commands;
use super::connect::{Connection, Connector, FromFiles, STEP};
use super::failure::Failure;
use crate::address::{HostPort, ServerAddress};

impl Connector {
    /// Returns once the Sentinels name another server than this connection's. Never returns without Sentinels.
    pub async fn replaced(&self, connection: &Connection) -> Failure {
        let ServerAddress::Sentinels { sentinels, primary } = &self.options.server else { return pending().await };
        loop {
            sleep(ASK_AGAIN).await;
            let Ok(files) = self.read_files().await else { continue };
            if let Ok(at) = self.primary(sentinels, primary, &files).await
                && at.to_string() != connection.at
            {
                return Failure::Replaced;
            }
        }
    }

    /// Asks one Sentinel after the other for the address of the server. Begins at a random Sentinel, because the first
    /// one may be dead for good.
    pub(super) async fn primary(
        &self,
        sentinels: &[HostPort],
        primary: &str,
        files: &FromFiles,
    ) -> Result<HostPort, Failure> {
        let mut cause = String::new();
        let first = fastrand::usize(..sentinels.len().max(1));
        for sentinel in sentinels.iter().cycle().skip(first).take(sentinels.len()) {
            cause = match self.ask_sentinel(sentinel, primary, files).await {
                Ok(Some(at)) => return Ok(at),
                Ok(None) => format!("{sentinel} does not know the name"),
                Err(failure) => failure.to_string(),
            };
        }
        Err(Failure::NoPrimary { primary: primary.to_owned(), cause })
    }

    async fn ask_sentinel(&self, at: &HostPort, primary: &str, files: &FromFiles) -> Result<Option<HostPort>, Failure> {
        let connection = self.tcp(at, files).await?;
        if let Some(pipeline) = commands::authenticate(self.options.username.as_deref(), files.password.as_ref(), 0) {
            // A Sentinel may have no password. If it has another one, it refuses the question.
            connection.ask(&pipeline, STEP).await?;
        }
        commands::located(connection.ask(&commands::locate(primary), STEP).await?)
    }
}

// The link leaves an old primary that lives on within about this time.
const ASK_AGAIN: Duration = Duration::from_secs(2);
