//! Writes to an order that took effect.

use serde::{Deserialize, Serialize};

/// A write to an order that took effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    pub kind: EffectKind,
    /// The amount in cents; 0 where no money moves.
    pub cents: u64,
    /// The idempotency key of the write.
    pub key: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// The merchant's reference was changed.
    Update,
    /// The express checkout was changed.
    UpdateCheckout,
    DeleteCheckout,
    Capture,
    Refund,
    /// A part of the authorization was released.
    Release,
    /// A new order was authorized in place of this order.
    Reauthorize,
    /// A new order was authorized beside this order.
    Upcharge,
}
