//! More methods of the handle that change the running simulator.

use std::time::Duration;

use crate::simulator::{EffectKind, Options, Simulator};

impl Simulator {
    /// Accepts these keys from now on, and the previous ones for this long beside them. Webhooks are signed with the new one at
    /// once.
    pub fn rotate_keys(&self, public: &str, private: &str, overlap: Duration) {
        self.core.gateway().set_keys(public, private, overlap);
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

    /// Changes settings while the simulator runs. [`Options`] say of each what it concerns; where and how it listens stays
    /// as it was at the start.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.core.gateway().options);
    }
}
