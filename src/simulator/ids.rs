//! Sessions: what one is for, and the ids it comes with.

use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    Order,
    Tokenize,
    OrderAndTokenize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionIds {
    pub session: String,
    /// The order's id, an opaque string.
    pub order: Option<String>,
    pub token: Option<String>,
}
