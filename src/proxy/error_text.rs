//! The longer messages of the sidecar's own errors.

use std::borrow::Cow;

use http::StatusCode;

use super::route::remedy::Remedy;
use crate::callers::amount::OutOfBounds;

/// The message for a call that would move more than its caller may.
pub fn bounds_message(why: OutOfBounds) -> &'static str {
    match why {
        OutOfBounds::Larger => {
            "the amount is larger than callers.max_amount for this caller; the sidecar sent nothing to Sezzle"
        }
        OutOfBounds::OtherCurrency => {
            "callers.max_amount has no bound in this currency for this caller; the sidecar sent nothing to Sezzle"
        }
        OutOfBounds::Unreadable => {
            "callers.max_amount bounds what this caller may move, and the sidecar cannot read the amount of this call; \
             it sent nothing to Sezzle"
        }
    }
}

/// The message for a call that may have had its effect: what happened, and what to do.
pub fn unknown_message(remedy: &Remedy, received: Option<StatusCode>) -> String {
    let happened = match (remedy, received) {
        (Remedy::NewCard, _) => {
            "the sidecar sent the call and did not get the whole answer, so the card may have been read, and then its \
             token is used up"
                .to_owned()
        }
        (_, Some(status)) => format!(
            "the sidecar sent the write and Sezzle answered {}, but the rest of the answer could not be read",
            status.as_u16()
        ),
        (_, None) => "the sidecar sent the write and got no answer, so the write may have been done".to_owned(),
    };
    let advice: Cow<'static, str> = match remedy {
        Remedy::SameKey => {
            "repeat it with the same Sezzle-Request-Id, because Sezzle carries out each key only once".into()
        }
        Remedy::MintedKey(key) => format!(
            "repeat it with the Sezzle-Request-Id {}, which the sidecar made because the call had none; Sezzle carries \
             out each key only once",
            key.to_str().unwrap_or_default()
        )
        .into(),
        Remedy::Repeat => "repeat it, because a second time does no harm".into(),
        Remedy::NewSession => {
            "there is no order to read, so create another session and send no shopper to the first".into()
        }
        Remedy::NewCard => "create a new card".into(),
        Remedy::ReadSession => "read the session before you repeat it, GET /v2/session/{session}".into(),
        Remedy::ReadOrder => "read the order before you repeat it, GET /v2/order/{order}".into(),
        Remedy::ReadCustomer => "read the customer before you repeat it, GET /v2/customer/{customer}".into(),
        Remedy::ListWebhooks => "list the webhooks before you repeat it, GET /v2/webhooks".into(),
        Remedy::AskSezzle => {
            "no call of Sezzle's shows that, so look into Sezzle's dashboard before you repeat it".into()
        }
    };
    format!("{happened}: {advice}")
}
