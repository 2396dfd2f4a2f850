//! The documented shapes of Sezzle's bodies, as docs/sezzle.md has them: pure.

use crate::telemetry::metrics::words;

/// A member that is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Names joined by dots; `[]` stands for each item of a list.
    pub path: &'static str,
    pub form: Form,
    /// Whether the member is there whenever the object around it is.
    pub always: bool,
}

words! {
    /// The form of a member.
    pub enum Form {
        Text = "text",
        /// A whole number.
        Integer = "integer",
        Flag = "flag",
        Object = "object",
        List = "list",
        /// A value of the merchant's own, or one that names a person: not looked into.
        Any = "any",
    }
}

words! {
    /// The bodies that are checked. The word is a label of metrics.
    pub enum Subject {
        Session = "/v2/session/{session}",
        Order = "/v2/order/{order}",
        Webhook = "webhook",
    }
}

impl Subject {
    pub fn members(self) -> &'static [Member] {
        match self {
            Self::Session => SESSION,
            Self::Order => ORDER,
            Self::Webhook => WEBHOOK,
        }
    }
}

/// Declares members: a path, a form, and `always` where it holds.
macro_rules! members {
    (@always) => { false };
    (@always always) => { true };
    ($($path:literal $form:ident $($always:ident)?;)+) => {
        &[$(Member { path: $path, form: Form::$form, always: members!(@always $($always)?) },)+]
    };
}

const SESSION: &[Member] = members! {
    "uuid" Text always;
    "links" List;
    "links[].href" Text;
    "links[].method" Text;
    "links[].rel" Text;
    "order" Object;
    "order.uuid" Text always;
    "order.intent" Text;
    "order.checkout_url" Text;
    "order.links" List;
    "order.links[].href" Text;
    "order.links[].method" Text;
    "order.links[].rel" Text;
    "order.tokenize" Object;
    "order.tokenize.token" Text always;
    "order.tokenize.expiration" Text always;
    "order.tokenize.approval_url" Text;
    "order.tokenize.links" List;
    "order.tokenize.links[].href" Text;
    "order.tokenize.links[].method" Text;
    "order.tokenize.links[].rel" Text;
    "tokenize" Object;
    "tokenize.token" Text always;
    "tokenize.expiration" Text always;
    "tokenize.approval_url" Text;
    "tokenize.links" List;
    "tokenize.links[].href" Text;
    "tokenize.links[].method" Text;
    "tokenize.links[].rel" Text;
};

const ORDER: &[Member] = members! {
    "uuid" Text always;
    "intent" Text;
    "checkout_url" Text;
    "checkout_status" Text;
    "reference_id" Text;
    "description" Text;
    "metadata" Any;
    "customer" Any;
    "is_upcharge" Flag;
    "parent_order_uuid" Text;
    "upcharges" List;
    "upcharges[].uuid" Text always;
    "upcharges[].amount" Object;
    "upcharges[].amount.amount_in_cents" Integer always;
    "upcharges[].amount.currency" Text always;
    "order_amount" Object always;
    "order_amount.amount_in_cents" Integer always;
    "order_amount.currency" Text always;
    "links" List;
    "links[].href" Text;
    "links[].method" Text;
    "links[].rel" Text;
    "authorization" Object;
    "authorization.authorization_amount" Object;
    "authorization.authorization_amount.amount_in_cents" Integer always;
    "authorization.authorization_amount.currency" Text always;
    "authorization.approved" Flag;
    "authorization.expiration" Text;
    "authorization.captures" List;
    "authorization.captures[].uuid" Text always;
    "authorization.captures[].amount" Object;
    "authorization.captures[].amount.amount_in_cents" Integer always;
    "authorization.captures[].amount.currency" Text always;
    "authorization.refunds" List;
    "authorization.refunds[].uuid" Text always;
    "authorization.refunds[].amount" Object;
    "authorization.refunds[].amount.amount_in_cents" Integer always;
    "authorization.refunds[].amount.currency" Text always;
    "authorization.releases" List;
    "authorization.releases[].uuid" Text always;
    "authorization.releases[].amount" Object;
    "authorization.releases[].amount.amount_in_cents" Integer always;
    "authorization.releases[].amount.currency" Text always;
};

const WEBHOOK: &[Member] = members! {
    "uuid" Text always;
    "created_at" Text always;
    "event" Text always;
    "data_type" Text;
    "data" Object always;
    "data.uuid" Text;
    "data.source" Text;
    "data.authorization" Any;
    "data.token" Text;
    "data.expiration" Text;
    "data.customer" Any;
    "data.dispute_id" Text;
    "data.order_uuid" Text;
    "data.order_reference_id" Text;
    "data.dispute_type" Text;
    "data.dispute_status" Text;
    "data.dispute_amount_in_cents" Integer;
    "data.dispute_currency" Text;
    "data.dispute_due_date" Text;
};
