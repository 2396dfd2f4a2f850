//! A request on its way to Sezzle.

use std::sync::Arc;
use std::time::Duration;

use super::decision::Rights;
use super::record::RequestId;
use super::route::remedy::Remedy;
use super::upstream_stats::UpstreamStats;
use crate::upstream::Outgoing;
use crate::upstream::retry::RetrySafety;

/// A request to Sezzle, and facts about it that are not sent.
#[derive(Clone, Debug)]
pub struct Sending {
    pub outgoing: Outgoing,
    /// When the request may be sent again.
    pub retry_safety: RetrySafety,
    /// The caller's next step if the outcome is unknown.
    pub remedy: Remedy,
    pub rights: Rights,
    /// Whether a 401 says that the token is not live any more.
    pub judges_token: bool,
    /// The id of the caller's request, for logs.
    pub request_id: RequestId,
    /// The cost of the exchange, for logs.
    pub stats: Arc<UpstreamStats>,
}

impl Sending {
    /// Takes a wait off the time until the head of the answer.
    pub fn shorten(&mut self, waited: Duration) {
        let limit = &mut self.outgoing.deadlines.head;
        *limit = limit.saturating_sub(waited);
    }
}
