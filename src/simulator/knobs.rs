//! More of the handle: what can be changed while the simulator runs, beside what `mod.rs` has.

use std::time::Duration;

use crate::simulator::EffectKind;
use crate::simulator::Options;
use crate::simulator::Simulator;
use crate::simulator::TokenizeExpiration;
use crate::simulator::TokenizePlace;

impl Simulator {
    /// Accepts these keys from now on, and the previous ones for this long beside them. Webhooks are signed with the new one at
    /// once.
    pub fn rotate_keys(&self, public: &str, private: &str, overlap: Duration) {
        self.core.gateway().set_keys(public, private, overlap);
    }

    /// Sets where sessions show their tokenize part, those created before included.
    pub fn set_tokenize_place(&self, place: TokenizePlace) {
        self.core.gateway().options.tokenize_place = place;
    }

    /// Sets how the expiration of a tokenize part is written, in sessions created before, too.
    pub fn set_tokenize_expiration(&self, expiration: TokenizeExpiration) {
        self.core.gateway().options.tokenize_expiration = expiration;
    }

    /// Sets the fractional digits in the dates of bodies, 0 to 9.
    pub fn set_expiration_digits(&self, digits: u8) {
        self.core.gateway().options.expiration_digits = digits;
    }

    /// Sets what every link starts with: scheme and host, no slash at the end.
    pub fn set_link_base(&self, base: &str) {
        self.core.gateway().options.link_base = base.to_owned();
    }

    /// Sets the life of the authorizations given from now on.
    pub fn set_authorization_life(&self, life: Duration) {
        self.core.gateway().options.authorization_life = life;
    }

    /// Sets whether the order report states its length.
    pub fn set_report_length(&self, stated: bool) {
        self.core.gateway().options.report_length = stated;
    }

    /// Sets after how long without a request under way a connection is closed, for those that become idle from now on.
    pub fn set_idle_timeout(&self, timeout: Option<Duration>) {
        self.core.gateway().options.idle_timeout = timeout;
    }

    /// Lets the shopper refuse the tokenize part of a session: its token is used up, and nobody is told. `false` when the token
    /// is unknown, already used or past its time.
    pub fn deny_token(&self, token: &str) -> bool {
        self.core.gateway().deny_token(token)
    }

    /// Lets the shopper refuse the checkout of an order, and nobody is told. `false` when there is no such order with an open
    /// checkout.
    pub fn deny_checkout(&self, order: &str) -> bool {
        self.core.gateway().deny_checkout(order)
    }

    /// Moves money by a click in Sezzle's dashboard: past every caller, and told by a webhook whose `source` is `dashboard`.
    /// `false` when the order does not let it.
    pub fn click(&self, order: &str, kind: EffectKind, cents: u64) -> bool {
        self.core.act(|gateway| gateway.click(order, kind, cents)).is_some_and(|done| done.is_ok())
    }

    /// Raises an event of a dispute, such as `dispute.closed.neutral`, with the data that Sezzle documents. `false` when there is
    /// no such order.
    pub fn dispute(&self, order: &str, event: &str) -> bool {
        self.core.act(|gateway| gateway.dispute(order, event))
    }

    /// Creates a session for a virtual card without a request. Its data comes by a token.
    pub fn create_card(&self) -> String {
        self.core.gateway().create_card()
    }

    /// Lets the shopper finish a session for a virtual card, and answers the token of the card data, which is read once. `None`
    /// when there is no such session, when its shopper has finished already, or when the data does not come by a token.
    pub fn finish_card(&self, session: &str) -> Option<String> {
        self.core.gateway().finish_card(session).flatten()
    }

    /// Changes settings, whichever they are.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.core.gateway().options);
    }
}
