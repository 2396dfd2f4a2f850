//! Which call of Sezzle's v2 API a request is: pure, from method and path alone.

pub mod amount;
mod class;
pub mod remedy;
mod version_1;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

pub use self::class::Class;
use crate::callers::permission::{Permission, Permissions};
use crate::method::is_safe;
use crate::session::invalidation::Tag;
use crate::sezzle::identifier::is_identifier;
use crate::telemetry::metrics::{OTHER_ROUTE, VERSION_1_ROUTE, label};
use crate::upstream::retry::RetrySafety;

/// How calls to one path are treated. Any unsafe method (RFC 9110, 9.2.1) makes the call a write, except for
/// [`Kind::Exchange`] and [`Kind::Webhooks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Answered by the sidecar itself.
    Exchange,
    /// The lookup that is cached.
    Session,
    /// Any other lookup, or a write.
    Plain,
    /// A POST for which Sezzle documents `Sezzle-Request-Id`: under one key it has one effect.
    Keyed,
    /// A long list or file, perhaps with personal data: never held, and its body is never read.
    Report,
    Webhooks,
    /// A GET that destroys the card data it returns. Its path and its body are secret.
    CardData,
    /// A lookup or a write of version 1. The answers have no links to follow, and are passed on unread.
    Version1,
}

/// A segment of a template: a word, or a name in braces.
macro_rules! segment {
    ($word:literal) => {
        concat!("/", $word)
    };
    ($name:ident) => {
        concat!("/{", stringify!($name), "}")
    };
}

/// The name among the segments of a template, if there is one.
macro_rules! identifier {
    () => { None };
    ($word:literal $($rest:tt)*) => { identifier!($($rest)*) };
    ($name:ident $($rest:tt)*) => { Some($name) };
}

/// Declares the calls: a variant, the segments below `/v2`, a [`Kind`], and the permissions that a caller needs for
/// safe methods and for others. Of two templates that match, the first counts.
macro_rules! calls {
    ($($route:ident [$($segment:tt),+] $kind:ident, $read:ident, $write:ident;)+) => {
        /// A call of the v2 surface, `Other`, or `Version1`. Identifiers are opaque and not part of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Route {
            $(#[doc = concat!("`/v2", $(segment!($segment)),+, "`")] $route,)+
            /// Any other path under `/v2/`.
            Other,
            /// Any path under `/v1/`.
            Version1,
        }

        impl Route {
            pub const ALL: &'static [Self] = &[$(Self::$route,)+ Self::Other, Self::Version1];

            /// The path's template, the label of this call in metrics and logs.
            pub fn template(self) -> &'static str {
                match self {
                    $(Self::$route => concat!("/v2", $(segment!($segment)),+),)+
                    Self::Other => OTHER_ROUTE,
                    Self::Version1 => VERSION_1_ROUTE,
                }
            }

            fn kind(self) -> Kind {
                match self {
                    $(Self::$route => Kind::$kind,)+
                    Self::Other => Kind::Plain,
                    Self::Version1 => Kind::Version1,
                }
            }

            /// The permission that a caller needs for a call with this method.
            pub fn permission(self, method: &Method) -> Permission {
                let (read, write) = match self {
                    $(Self::$route => (Permission::$read, Permission::$write),)+
                    Self::Other | Self::Version1 => (Permission::Other, Permission::Other),
                };
                if is_safe(method) { read } else { write }
            }

            /// The call with these segments below `/v2/`, and the identifier among them.
            fn from_segments<'p>(segments: &[&'p str]) -> (Self, Option<&'p str>) {
                match *segments {
                    $([$($segment),+] => (Self::$route, identifier!($($segment)+)),)+
                    _ => (Self::Other, None),
                }
            }
        }
    };
}

calls! {
    Authentication      ["authentication"]                      Exchange, Other,        Other;
    Sessions            ["session"]                             Plain,    SessionRead,  Checkout;
    CardSession         ["session", "card"]                     Plain,    Card,         Card;
    Session             ["session", session]                    Session,  SessionRead,  Checkout;
    SessionCard         ["session", session, "card"]            Plain,    Card,         Card;
    CardToken           ["session", "card", "token", token]     CardData, Card,         Card;
    Order               ["order", order]                        Plain,    OrderRead,    Checkout;
    Checkout            ["order", order, "checkout"]            Plain,    OrderRead,    Checkout;
    Capture             ["order", order, "capture"]             Keyed,    OrderRead,    Capture;
    Refund              ["order", order, "refund"]              Keyed,    OrderRead,    Refund;
    Release             ["order", order, "release"]             Keyed,    OrderRead,    Release;
    Reauthorize         ["order", order, "reauthorize"]         Keyed,    OrderRead,    Reauthorize;
    Upcharge            ["order", order, "upcharge"]            Keyed,    OrderRead,    Upcharge;
    Customers           ["customer"]                            Plain,    CustomerRead, CustomerWrite;
    Customer            ["customer", customer]                  Plain,    CustomerRead, CustomerWrite;
    Preapprove          ["customer", customer, "preapprove"]    Plain,    CustomerRead, CustomerOrder;
    CustomerOrder       ["customer", customer, "order"]         Keyed,    CustomerRead, CustomerOrder;
    TokenSession        ["token", token, "session"]             Plain,    SessionRead,  Other;
    TokenCustomer       ["token", token, "customer"]            Plain,    CustomerRead, Other;
    Webhooks            ["webhooks"]                            Webhooks, Webhooks,     Webhooks;
    WebhookTest         ["webhooks", "test"]                    Webhooks, Webhooks,     Webhooks;
    Webhook             ["webhooks", webhook]                   Webhooks, Webhooks,     Webhooks;
    SettlementSummaries ["settlements", "summaries"]            Report,   ReportRead,   Other;
    SettlementDetails   ["settlements", "details", payout]      Report,   ReportRead,   Other;
    OrdersReport        ["orders", "report"]                    Report,   ReportRead,   Other;
    InterestBalance     ["interest", "balance"]                 Report,   ReportRead,   Other;
    InterestActivity    ["interest", "activity"]                Report,   ReportRead,   Other;
    FeatureFlag         ["feature-flags", flag]                 Plain,    Other,        Other;
    Configuration       ["configuration"]                       Plain,    Other,        Other;
    WidgetQueue         ["widget", "queue"]                     Plain,    Other,        Other;
}

label!(Route, Route::ALL.len(), template);

impl Route {
    /// The class of a call with this method. An unsafe method is a write unless it is known to be something milder.
    pub fn class(self, method: &Method) -> Class {
        match self.kind() {
            Kind::Exchange => Class::Credentials,
            Kind::Webhooks => Class::Webhooks,
            Kind::CardData => Class::Money,
            _ if !is_safe(method) => Class::Money,
            Kind::Session => Class::Session,
            Kind::Report => Class::Report,
            Kind::Plain | Kind::Keyed | Kind::Version1 => Class::Read,
        }
    }

    /// Whether Sezzle documents `Sezzle-Request-Id` for this call: under one key it has one effect.
    pub fn is_keyed(self, method: &Method) -> bool {
        method == Method::POST && self.kind() == Kind::Keyed
    }

    /// Whether answers of this call may carry `links` to the gateway. Only those are held and read.
    pub fn carries_links(self) -> bool {
        !matches!(self.kind(), Kind::Exchange | Kind::Report | Kind::CardData | Kind::Version1)
    }

    pub fn is_card_data(self) -> bool {
        self.kind() == Kind::CardData
    }

    /// Whether Sezzle documents this call, or a plugin of Sezzle's makes it.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Other | Self::Version1)
    }

    /// Whether a 401 says that the token is not live any more. Nobody knows which paths of version 1 take a token of
    /// version 2 at all.
    pub fn judges_token(self) -> bool {
        self.kind() != Kind::Version1
    }
}

/// A path, matched: the one parse of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    pub route: Route,
    /// Whether a slash follows. Sezzle documents no such path, and may answer it otherwise.
    pub slash: bool,
    subject: Subject,
}

/// The resource below which a path lies, as far as the log or the cache may need it. The path decides and not the
/// route, so that an unknown call on an order is known to change that order.
#[derive(Clone, PartialEq, Eq)]
enum Subject {
    /// Any other resource. The identifier of a customer stays in the path.
    Other,
    /// A session by its UUID.
    Session {
        id: Uuid,
        /// Whether the UUID stands in its usual form.
        is_usual: bool,
    },
    /// An order by the identifier in the path, whatever a caller put there.
    Order(Arc<str>),
    /// A tokenize token as it stands in the path.
    Token(Arc<str>),
}

impl Matched {
    /// Matches the path of a session by its UUID. Such a path needs no other check.
    pub fn session_path(path: &str) -> Option<Self> {
        let id = usual_uuid(path.strip_prefix("/v2/session/")?)?;
        Some(Self { route: Route::Session, slash: false, subject: Subject::Session { id, is_usual: true } })
    }

    /// Matches the path of a request. `None` when the path does not lie under `/v2/`.
    ///
    /// Expects a path that [`super::inbound`] has accepted.
    pub fn path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/")?;
        let (rest, slash) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        // No call has more than four segments. A fifth place holds the first of those that are too many.
        let mut segments = [""; 5];
        let count = segments.iter_mut().zip(Segments(Some(rest))).map(|(segment, found)| *segment = found).count();
        let segments = segments.get(..count)?;
        if let Some(route) = sensitive(segments) {
            return Some(Self { route, slash, subject: Subject::Other });
        }
        let route = match Route::from_segments(segments) {
            // `/v2/order//capture` names nothing.
            (_, Some("")) => Route::Other,
            (Route::Other, _) if rest.contains('%') || !rest.is_ascii() => disguised(rest).unwrap_or(Route::Other),
            (route, _) => route,
        };
        let subject = match *segments {
            [collection, identifier, ..] => Subject::of(collection, identifier),
            _ => Subject::Other,
        };
        Some(Self { route, slash, subject })
    }

    /// When a call with this method may be sent again. A `Keyed` call is sent only with a key, which `super::write`
    /// adds where the caller sends none.
    pub fn retry_safety(&self, method: &Method) -> RetrySafety {
        match self.route.kind() {
            Kind::CardData => RetrySafety::DestructiveRead,
            _ if is_safe(method) => RetrySafety::Safe,
            // For a path with a slash at its end, Sezzle may ignore the key, and then a retry would move money twice.
            Kind::Keyed if self.route.is_keyed(method) && !self.slash => RetrySafety::Keyed,
            Kind::Exchange | Kind::Session | Kind::Plain | Kind::Keyed => RetrySafety::Unkeyed,
            Kind::Report | Kind::Webhooks | Kind::Version1 => RetrySafety::Unkeyed,
        }
    }

    /// The permissions that a caller needs for a call to `path`, which is the matched path. An unknown call that a
    /// server would know if it ignored case needs the permission of that known call as well.
    pub fn permissions(&self, method: &Method, path: &str) -> Permissions {
        let needed = Permissions::of(self.route.permission(method));
        if self.route != Route::Other {
            return needed;
        }
        let folded = folded(path);
        let rest = folded.strip_prefix("/v2/").unwrap_or_default();
        let segments: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
        let (route, _) = Route::from_segments(&segments);
        needed.union(Permissions::of(route.permission(method)))
    }

    /// The session that a known call names by a usual UUID. With a slash after it, Sezzle may see another resource.
    pub fn session(&self) -> Option<Uuid> {
        let Subject::Session { id, is_usual: true } = self.subject else { return None };
        Some(id).filter(|_| self.route.is_known() && !self.slash)
    }

    /// The order that a known call names, if its identifier can be one of Sezzle's and so may be logged.
    pub fn order(&self) -> Option<&str> {
        let Subject::Order(order) = &self.subject else { return None };
        Some(&**order).filter(|order| self.route.is_known() && is_identifier(order))
    }

    /// The tag that a write to this path purges, as far as the path tells.
    pub fn purges(&self) -> Option<Tag> {
        match &self.subject {
            Subject::Other => None,
            Subject::Session { id, .. } => Some(Tag::Session(*id)),
            Subject::Order(order) => Some(Tag::order(&decoded(order))),
            Subject::Token(token) => Some(Tag::token(&decoded(token))),
        }
    }
}

impl Subject {
    /// The subject of a path with these first two segments.
    fn of(collection: &str, identifier: &str) -> Self {
        // A server that ignores the case of a path would do a write under any of its spellings.
        let is_plain = collection.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let collection = if is_plain { Cow::Borrowed(collection) } else { Cow::Owned(folded(collection)) };
        match &*collection {
            _ if identifier.is_empty() => Self::Other,
            "order" => Self::Order(identifier.into()),
            "token" => Self::Token(identifier.into()),
            "session" => match usual_uuid(identifier) {
                Some(id) => Self::Session { id, is_usual: true },
                None => Uuid::try_parse(&decoded(identifier))
                    .map_or(Self::Other, |id| Self::Session { id, is_usual: false }),
            },
            _ => Self::Other,
        }
    }
}

impl fmt::Debug for Subject {
    /// Leaves the identifiers out, because a token opens a session.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Other => "Other",
            Self::Session { .. } => "Session",
            Self::Order(_) => "Order",
            Self::Token(_) => "Token",
        })
    }
}

/// The calls that must be recognised in every spelling, and with any further segments: keys go no further than here,
/// and card data only where that is allowed. A gateway may ignore the case of a path.
fn sensitive(segments: &[&str]) -> Option<Route> {
    match *segments {
        [first, ..] if first.eq_ignore_ascii_case("authentication") => Some(Route::Authentication),
        [first, second, third, _, ..]
            if first.eq_ignore_ascii_case("session")
                && second.eq_ignore_ascii_case("card")
                && third.eq_ignore_ascii_case("token") =>
        {
            Some(Route::CardToken)
        }
        _ => None,
    }
}

/// [`sensitive`] for a path with letters that Unicode folds into plain ones, such as the long s. An encoded plain
/// letter is refused before, these are not.
fn disguised(rest: &str) -> Option<Route> {
    sensitive(&folded(rest).split('/').collect::<Vec<_>>())
}

/// A text as a server that decodes it reads it.
fn decoded(text: &str) -> Cow<'_, str> {
    // The usual text has nothing to decode, and is not checked again.
    if text.contains('%') { percent_decode_str(text).decode_utf8_lossy() } else { Cow::Borrowed(text) }
}

/// A text as a server that decodes it and ignores case reads it.
fn folded(text: &str) -> String {
    decoded(text).chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The pieces of a path between slashes, as `split('/')` gives them in twice the time.
struct Segments<'p>(Option<&'p str>);

impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let path = self.0.take()?;
        let Some(slash) = path.bytes().position(|byte| byte == b'/') else { return Some(path) };
        let (segment, rest) = path.split_at_checked(slash)?;
        self.0 = rest.get(1..);
        Some(segment)
    }
}

/// A UUID of 36 characters: there are other forms, which Sezzle need not know.
fn usual_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests;
