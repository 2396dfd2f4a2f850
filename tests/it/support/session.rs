//! A session at the simulated gateway, with the paths by which a caller reads and changes it.

use sezzle_sidecar::simulator::{SessionKind, Simulator};

/// A session with an order over 100.00 USD.
pub struct Session {
    pub uuid: String,
    /// The path of a lookup.
    pub path: String,
    pub order: String,
    pub order_path: String,
    token: Option<String>,
}

impl Session {
    /// A new session that holds an order only.
    pub fn order(gateway: &Simulator) -> Self {
        Self::new(gateway, SessionKind::Order)
    }

    /// A new session that holds an order and a token. The token's expiration bounds the session's life in the cache.
    pub fn tokenize(gateway: &Simulator) -> Self {
        Self::new(gateway, SessionKind::OrderAndTokenize)
    }

    /// Lets the shopper finish the checkout, so that the order can be captured.
    pub fn authorized(self, gateway: &Simulator) -> Self {
        assert!(gateway.complete_checkout(&self.order), "the checkout is open");
        self
    }

    fn new(gateway: &Simulator, kind: SessionKind) -> Self {
        let ids = gateway.create_session(kind);
        let order = ids.order.expect("an order");
        let (path, order_path) = (format!("/v2/session/{}", ids.session), format!("/v2/order/{order}"));
        Self { uuid: ids.session, path, order, order_path, token: ids.token }
    }

    /// The token of a session that [`Self::tokenize`] made.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("a token")
    }
}
