//! The choices that some settings have.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// How the `links` of a body are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// Each link has `href`, `method` and `rel`.
    #[default]
    Full,
    /// An order has no link to delete its checkout, as in earlier times.
    WithoutCheckout,
    /// Links have no `method`, which then means GET.
    WithoutMethod,
    /// The first `href` of each list has a space at its end, as in one of Sezzle's examples.
    TrailingSpace,
    /// `[]`.
    EmptyList,
    /// `[{}]`.
    EmptyObject,
}

/// The effect of an upcharge on the first order.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upcharge {
    /// No effect: the new order is over the surplus alone.
    #[default]
    Separate,
    /// The rest of the first order is released, and the new order is over both sums, as in 2021.
    Replaces,
}

/// The `checkout_status` of an order whose checkout is finished.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckoutStatus {
    /// `complete`, as the reference lists it.
    #[default]
    Complete,
    /// `completed`, as an example has it.
    Completed,
    /// Orders have no `checkout_status` at all, as in 2021.
    Absent,
}

/// The form of the order report.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderReport {
    #[default]
    Json,
    /// CSV, as in 2021. The columns are invented.
    Csv,
}

/// The columns of the settlement details, in the order in which Sezzle published them.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Columns {
    /// The fewer columns of an older page.
    Older,
    #[default]
    Current,
}

/// The form of a refusal.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Errors {
    /// A list of objects with `code`, `location`, `message` and `debug_uuid`.
    #[default]
    List,
    /// A single such object, without a list around it.
    Object,
    /// An object with `code` and `message` alone.
    Bare,
}

/// The `data_type` of the event `customer.tokenized`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizedType {
    /// `tokenize`, as Sezzle's example has it.
    #[default]
    Tokenize,
    /// `customer`, as Sezzle's list of types has it.
    Customer,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Lower-case hexadecimal digits, as every known client reads it.
    #[default]
    Hex,
    Base64,
}

/// The place of the tokenize part in a session. Sezzle's documents show both places. A session without an order has the
/// part at the top level.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizePlace {
    /// Beside `order`, as the guide has it.
    #[default]
    TopLevel,
    /// Inside `order`, as the example has it.
    InOrder,
    Both,
}

/// How the `expiration` of a tokenize part is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizeExpiration {
    /// RFC 3339, ending in `Z`.
    #[default]
    Utc,
    /// RFC 3339 with an offset of this many minutes, less than a day.
    Offset(#[serde(deserialize_with = "minutes")] i16),
    /// `0001-01-01T00:00:00Z`, which Go writes for a date that was never set.
    GoZero,
    /// A text of the setting's own.
    Text(String),
    /// The field is left out.
    Absent,
}

fn minutes<'de, D: Deserializer<'de>>(from: D) -> Result<i16, D::Error> {
    let minutes = i16::deserialize(from).ok().filter(|minutes| minutes.unsigned_abs() < 24 * 60);
    minutes.ok_or_else(|| D::Error::custom("expected a number of minutes, less than a day"))
}
