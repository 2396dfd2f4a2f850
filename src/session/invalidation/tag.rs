//! The resources that a session relates to. Pure.

use std::sync::Arc;

use uuid::Uuid;

use crate::session::freshness::MAX_IDENTIFIER;
use crate::sezzle::session::SessionFacts;

/// A resource that a session relates to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The session itself.
    Session(Uuid),
    /// `order.uuid`.
    Order(Arc<str>),
    /// `tokenize.token`.
    Token(Arc<str>),
}

impl Tag {
    pub fn order(uuid: &str) -> Self {
        Self::Order(canonical(uuid))
    }

    pub fn token(token: &str) -> Self {
        Self::Token(canonical(token))
    }

    /// Every tag of a session's body.
    pub fn of(asked: Uuid, facts: &SessionFacts) -> Box<[Self]> {
        let orders = facts.order.iter().map(|uuid| Self::order(uuid));
        let tokens = facts.tokens.iter().map(|token| Self::token(token));
        std::iter::once(Self::Session(asked)).chain(orders).chain(tokens).collect()
    }

    /// Whether a session may be stored under this tag: its identifier is not too long.
    pub fn is_storable(&self) -> bool {
        match self {
            Self::Session(_) => true,
            Self::Order(text) | Self::Token(text) => text.len() <= MAX_IDENTIFIER,
        }
    }
}

// Identifiers are opaque. If Sezzle ignores their case, `ABC` in a URL and `abc` in a body are one order. If it does
// not, purging both costs one fetch.
fn canonical(identifier: &str) -> Arc<str> {
    identifier.to_ascii_lowercase().into()
}
