//! `explain --ask`: fetches Sezzle's own answer to the lookup of a session.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Collected, Limited};
use uuid::Uuid;

use super::OnlineCheck;
use super::failure::CheckFailure;

impl OnlineCheck {
    /// Exchanges the keys for a token and looks the session up. Creates nothing. Returns Sezzle's answer, and the time
    /// until its end.
    pub async fn ask(&self, session: Uuid) -> Result<(Response<Bytes>, Duration), CheckFailure> {
        self.connect(&mut |_, _| ()).await?;
        let granted = self.authenticate(&mut |_, _| ()).await?;
        let began = self.clock.now();
        let sent = self.upstream.send(&mut self.lookup_of(session, &granted)).await;
        let (head, body) = sent.map_err(|error| CheckFailure::unreachable(&error, &self.hints()))?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map(Collected::to_bytes);
        let body = body.map_err(|error| CheckFailure::broken(&error.to_string()))?;
        Ok((Response::from_parts(head, body), self.clock.now().since(began)))
    }
}

// Much more than a session that the cache would store.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
