//! Writes to an order that took effect.

use serde::{Deserialize, Serialize};

/// A write to an order that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub kind: EffectKind,
    /// The amount in cents; 0 where no money moves.
    pub cents: u64,
    /// The idempotency key that came with it.
    pub key: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Its reference was changed.
    Update,
    /// Its express checkout was changed.
    UpdateCheckout,
    DeleteCheckout,
    Capture,
    Refund,
    /// A part of the authorization was released.
    Release,
    /// A new order was authorized in its place.
    Reauthorize,
    /// A new order was authorized beside it.
    Upcharge,
}
