//! The handle to a running simulator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::DropGuard;

use super::delivery::{Delivery, dispatch};
use super::effect::{Effect, EffectKind};
use super::gateway::WebhookJob;
use super::ids::{SessionIds, SessionKind};
use super::journal::Exchange;
use super::options::Options;
use super::rule::{Rule, path_matches};
use super::shared::Core;

/// A handle to a running simulator, which ends with [`Simulator::stop`] or when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Simulator {
    pub(super) core: Arc<Core>,
    /// `None` in the handles of the simulator's own tasks, which do not keep the simulator alive.
    pub(super) _running: Option<Arc<DropGuard>>,
}

impl Simulator {
    /// A handle for a task of the simulator's own, which does not keep the simulator alive.
    pub(super) fn for_task(core: &Arc<Core>) -> Self {
        Self { core: core.clone(), _running: None }
    }

    /// The gateway's address.
    pub fn addr(&self) -> SocketAddr {
        self.core.addr
    }

    /// The gateway's base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.core.scheme, self.core.addr)
    }

    /// Every request so far, in order of arrival. Only the newest 100,000 requests and 64 MiB of bodies are kept.
    pub fn journal(&self) -> Vec<Exchange> {
        self.core.journal().iter().cloned().collect()
    }

    /// How many requests of the journal have this method and this path, matched as by [`Rule::path`].
    pub fn count(&self, method: &str, path: &str) -> usize {
        let journal = self.core.journal();
        let wanted = |entry: &&Exchange| entry.method == method && path_matches(path, &entry.path);
        journal.iter().filter(wanted).count()
    }

    /// Forgets every request received so far. The numbers of later requests go on.
    pub fn clear_journal(&self) {
        self.core.journal().clear();
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.core.connections.load(Ordering::SeqCst)
    }

    /// Puts a rule in force, before all earlier ones.
    pub fn script(&self, rule: Rule) {
        self.core.rules().add(rule);
    }

    /// Puts all rules out of force. Requests that wait at a gate keep waiting.
    pub fn clear_rules(&self) {
        self.core.rules().clear();
    }

    /// Makes every bearer token issued so far answer 401.
    pub fn revoke_tokens(&self) {
        self.core.gateway().revoke_tokens();
    }

    /// Accepts these keys from now on, and no others. Tokens issued before stay live.
    pub fn set_keys(&self, public: &str, private: &str) {
        self.core.gateway().set_keys(public, private, Duration::ZERO);
    }

    /// Creates a session of the current merchant without a request. Its order is over 100.00 USD with intent `AUTH`.
    pub fn create_session(&self, kind: SessionKind) -> SessionIds {
        self.core.gateway().create_session(kind)
    }

    /// Lets the shopper finish the checkout of an order. The order becomes authorized, and captured at once for intent
    /// `CAPTURE`. `false` if there is no such order with an open checkout.
    pub fn complete_checkout(&self, order: &str) -> bool {
        self.core.act(|gateway| gateway.complete_checkout(order))
    }

    /// Lets the shopper accept the tokenize part of a session, and returns the customer's UUID. `None` if the token is
    /// unknown, used or past its time.
    pub fn approve_token(&self, token: &str) -> Option<String> {
        self.core.act(|gateway| gateway.approve_token(token))
    }

    /// Every write to an order that took effect. Repeated idempotent calls and the shopper's checkout do not count.
    pub fn effects(&self, order: &str) -> Vec<Effect> {
        self.core.gateway().effects(order).unwrap_or_default()
    }

    /// Goes back to the state of the start: settings, sessions, orders and customers, subscriptions, deliveries, rules,
    /// journal, and named gates, which let their requests go. Only bearer tokens stay live, because a caller would
    /// otherwise take the 401 of its next call for a mistake of its own.
    pub fn reset(&self) {
        self.core.rules().clear();
        self.core.gateway().reset(self.core.options.clone());
        self.core.gates().clear();
        self.core.journal().clear();
        self.core.deliveries.reset();
    }

    /// Accepts these keys, and for `overlap` the previous keys, too. Webhooks are signed with the new private key at
    /// once.
    pub fn rotate_keys(&self, public: &str, private: &str, overlap: Duration) {
        self.core.gateway().set_keys(public, private, overlap);
    }

    /// Lets the shopper refuse the tokenize part of a session. The token is used up, and no webhook reports that.
    /// `false` if the token is unknown, used or past its time.
    pub fn deny_token(&self, token: &str) -> bool {
        self.core.gateway().deny_token(token)
    }

    /// Lets the shopper refuse the checkout of an order. No webhook reports that. `false` without such an open
    /// checkout.
    pub fn deny_checkout(&self, order: &str) -> bool {
        self.core.gateway().deny_checkout(order)
    }

    /// Moves money by a click in Sezzle's dashboard. No caller sees such a call, and a webhook whose `source` is
    /// `dashboard` reports it. `false` if the order does not allow the movement.
    pub fn click(&self, order: &str, kind: EffectKind, cents: u64) -> bool {
        self.core.act(|gateway| gateway.click(order, kind, cents)).is_some_and(|done| done.is_ok())
    }

    /// Raises an event of a dispute, such as `dispute.closed.neutral`, with Sezzle's data. `false` if there is no such
    /// order.
    pub fn dispute(&self, order: &str, event: &str) -> bool {
        self.core.act(|gateway| gateway.dispute(order, event))
    }

    /// Creates a session for a virtual card without a request. The card data comes by a token.
    pub fn create_card(&self) -> String {
        self.core.gateway().create_card()
    }

    /// Lets the shopper finish a session for a virtual card, and returns the token of the card data, which can be read
    /// once. `None` without such a session, if its shopper has finished already, or if no token leads to the data.
    pub fn finish_card(&self, session: &str) -> Option<String> {
        self.core.gateway().finish_card(session).flatten()
    }

    /// Changes settings while the simulator runs. The listener stays as it was.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.core.gateway().options);
    }

    /// Raises an event with any data, whether Sezzle has such an event or not. Returns how many subscriptions of the
    /// current merchant list the event.
    pub fn raise_event(&self, event: &str, data: &Value) -> usize {
        self.core.act(|gateway| gateway.raise(event, data))
    }

    /// Every delivery so far, in the order of their beginning. Only the newest 10,000 and 64 MiB of bodies are kept.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.core.deliveries.log().iter().cloned().collect()
    }

    /// Waits, without a time limit, until this many deliveries in all have a final state.
    pub async fn deliveries_settled(&self, deliveries: u64) {
        // The wait fails only once the sender is gone, and this handle keeps it.
        let _ = self.core.deliveries.settled.subscribe().wait_for(|settled| *settled >= deliveries).await;
    }

    /// How many deliveries did not begin because a thousand were pending already.
    pub fn deliveries_dropped(&self) -> u64 {
        self.core.deliveries.dropped.load(Ordering::SeqCst)
    }

    /// Sends the body of an earlier delivery again, signed anew, as a delivery of its own that is tried once. `false`
    /// if that delivery is no longer kept.
    pub fn redeliver(&self, number: usize) -> bool {
        let job = self.core.deliveries.log().find(number).map(|delivery| WebhookJob {
            subscription: None,
            event: delivery.event.clone(),
            url: delivery.url.clone(),
            body: delivery.body.clone(),
        });
        let found = job.is_some();
        dispatch(&self.core, job);
        found
    }

    /// Accepts no more connections, ends every connection and every request, and returns once all tasks have ended.
    pub async fn stop(self) {
        self.core.stopping.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }
}
