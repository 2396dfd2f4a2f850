//! The known calls, and the function that answers each.

use http::{Method, StatusCode};
use serde_json::json;

use super::answer::{Answer, ApiError, CallResult};
use super::query::Query;
use super::{ApiRequest, Gateway};
use crate::simulator::EffectKind;

/// A call to one of [`ROUTES`].
#[derive(Clone, Copy)]
struct Call<'a> {
    merchant: &'a str,
    /// The variable part of the path.
    id: &'a str,
    query: Query<'a>,
    body: &'a [u8],
    request: ApiRequest<'a>,
}

/// Method, path and answer of a call.
type Route = (&'static str, &'static str, fn(&mut Gateway, Call<'_>) -> CallResult);

const AUTHENTICATION: &str = "/v2/authentication";
const FEATURE_FLAG: &str = "/v2/feature-flags/{flag}";
const VERSION_1: &str = "/v1/";

/// The paths whose calls may carry the public key alone, as the mobile SDKs and WooCommerce send it.
const PUBLIC_KEY: [&str; 3] = ["/v2/session", "/v2/session/", FEATURE_FLAG];

/// Every call. If two paths match a request, the first one counts.
const ROUTES: [Route; 36] = [
    ("POST", "/v2/session", |gateway, call| gateway.post_session(call.merchant, call.body)),
    // Sezzle's plugin for PrestaShop sends the slash.
    ("POST", "/v2/session/", |gateway, call| match gateway.options.session_slash {
        true => gateway.post_session(call.merchant, call.body),
        false => Err(wrong_method()),
    }),
    ("POST", "/v2/session/card", |gateway, call| gateway.post_card(call.merchant, call.body)),
    ("GET", "/v2/session/card/token/{token}", |gateway, call| gateway.read_card(call.merchant, call.id)),
    ("GET", "/v2/session/{id}", |gateway, call| gateway.get_session(call.merchant, call.id)),
    ("PATCH", "/v2/session/{id}/card", |gateway, call| gateway.patch_card(call.merchant, call.id, call.body)),
    ("GET", "/v2/order/{id}", |gateway, call| gateway.get_order(call.merchant, call.id)),
    ("PATCH", "/v2/order/{id}", |gateway, call| gateway.patch_order(call.merchant, call.id, call.body)),
    ("PATCH", "/v2/order/{id}/checkout", |gateway, call| gateway.patch_checkout(call.merchant, call.id, call.body)),
    ("DELETE", "/v2/order/{id}/checkout", |gateway, call| gateway.delete_checkout(call.merchant, call.id)),
    ("POST", "/v2/order/{id}/capture", |gateway, call| gateway.money(call, EffectKind::Capture)),
    ("POST", "/v2/order/{id}/refund", |gateway, call| gateway.money(call, EffectKind::Refund)),
    ("POST", "/v2/order/{id}/release", |gateway, call| gateway.money(call, EffectKind::Release)),
    ("POST", "/v2/order/{id}/reauthorize", |gateway, call| gateway.renewal(call, EffectKind::Reauthorize)),
    ("POST", "/v2/order/{id}/upcharge", |gateway, call| gateway.renewal(call, EffectKind::Upcharge)),
    ("GET", "/v2/customer", |gateway, call| Ok(gateway.list_customers(call.merchant))),
    ("GET", "/v2/customer/{id}", |gateway, call| gateway.get_customer(call.merchant, call.id)),
    ("DELETE", "/v2/customer/{id}", |gateway, call| gateway.delete_customer(call.merchant, call.id)),
    ("POST", "/v2/customer/{id}/preapprove", |gateway, call| gateway.preapprove(call.merchant, call.id, call.body)),
    ("POST", "/v2/customer/{id}/order", |gateway, call| {
        gateway.once(call, |gateway, _| gateway.order_by_customer(call.merchant, call.id, call.body))
    }),
    ("GET", "/v2/token/{token}/session", |gateway, call| gateway.get_token(call.merchant, call.id)),
    ("GET", "/v2/token/{token}/customer", |gateway, call| gateway.get_token_customer(call.merchant, call.id)),
    ("POST", "/v2/webhooks", |gateway, call| gateway.post_webhook(call.merchant, call.body)),
    ("GET", "/v2/webhooks", |gateway, call| Ok(gateway.list_webhooks(call.merchant))),
    ("POST", "/v2/webhooks/test", |gateway, call| gateway.test_webhook(call.merchant, call.body)),
    ("GET", "/v2/webhooks/{id}", |gateway, call| gateway.get_webhook(call.merchant, call.id)),
    ("PATCH", "/v2/webhooks/{id}", |gateway, call| gateway.patch_webhook(call.merchant, call.id, call.body)),
    ("DELETE", "/v2/webhooks/{id}", |gateway, call| gateway.delete_webhook(call.merchant, call.id)),
    ("GET", "/v2/orders/report", |gateway, call| gateway.orders_report(&call.query)),
    ("GET", "/v2/settlements/summaries", |gateway, call| gateway.settlement_summaries(&call.query)),
    ("GET", "/v2/settlements/details/{payout}", |gateway, call| gateway.settlement_details(call.id, &call.query)),
    ("GET", "/v2/interest/balance", |gateway, call| gateway.interest_balance(&call.query)),
    ("GET", "/v2/interest/activity", |gateway, call| gateway.interest_activity(&call.query)),
    // Sezzle's plugins send these two, and no page describes them.
    ("POST", "/v2/configuration", |_, _| Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())),
    ("POST", "/v2/widget/queue", |_, _| Ok(Answer::empty(StatusCode::NO_CONTENT).with_effect())),
    ("GET", FEATURE_FLAG, |gateway, _| Ok(Answer::json(StatusCode::OK, &gateway.options.feature_flags.into()))),
];

impl Gateway {
    /// Answers a request. An unknown path is refused before the token is checked, and a wrong method after that.
    pub(super) fn dispatch(&mut self, request: ApiRequest<'_>) -> CallResult {
        let ApiRequest { path, headers, body, .. } = request;
        // HEAD is answered as GET; the connection leaves the body out.
        let method = if request.method == Method::HEAD { "GET" } else { request.method.as_str() };
        if path == AUTHENTICATION {
            return if method == "POST" { self.authenticate(body) } else { Err(wrong_method()) };
        }
        if path.starts_with(VERSION_1) {
            self.merchant(headers, false)?;
            return Ok(echo(request));
        }
        let Some((known, id)) = ROUTES.iter().find_map(|(_, known, _)| Some((*known, variable(known, path)?))) else {
            return if self.options.plain_404 { Ok(Answer::no_such_path()) } else { Err(ApiError::unknown("path")) };
        };
        let merchant = &self.merchant(headers, PUBLIC_KEY.contains(&known))?;
        let route = ROUTES.iter().find(|(takes, of, _)| (*takes, *of) == (method, known));
        let (_, _, answer) = route.ok_or_else(wrong_method)?;
        answer(self, Call { merchant, id, query: Query::new(request.query), body, request })
    }

    fn money(&mut self, call: Call<'_>, kind: EffectKind) -> CallResult {
        self.once(call, |gateway, key| gateway.move_money(call.merchant, call.id, kind, call.body, key))
    }

    fn renewal(&mut self, call: Call<'_>, kind: EffectKind) -> CallResult {
        self.once(call, |gateway, key| gateway.renew(call.merchant, call.id, kind, call.body, key))
    }

    /// Answers a call by `act`. A second call with the same idempotency key gets the first answer again, whatever that
    /// was, and has no effect.
    fn once(
        &mut self,
        Call { merchant, request, .. }: Call<'_>,
        act: impl FnOnce(&mut Self, Option<&str>) -> CallResult,
    ) -> CallResult {
        let Some(key) = request.headers.get("sezzle-request-id").and_then(|key| key.to_str().ok()) else {
            return act(self, None);
        };
        let slot = format!("{merchant} {} {key}", request.path);
        if let Some(first) = self.answered.find(&slot) {
            return Ok(Answer { effect: false, ..first.clone() });
        }
        let answer = act(self, Some(key)).unwrap_or_else(|error| error.shaped(self.options.errors));
        self.answered.put(slot, answer.clone());
        Ok(answer)
    }
}

/// Answers a call of version 1 with the request itself, because nobody has published the answers of Sezzle.
fn echo(ApiRequest { method, path, query, body, .. }: ApiRequest<'_>) -> Answer {
    let text = String::from_utf8_lossy(body);
    let arrived = json!({"method": method.as_str(), "path": path, "query": query, "body": text});
    let answer = Answer::json(StatusCode::OK, &arrived);
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { answer } else { answer.with_effect() }
}

/// The variable part of a path that matches a known path; empty if the known path has none. `None` if the path does not
/// match.
fn variable<'p>(known: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = known.split_once('{') else { return (known == path).then_some("") };
    let (_, after) = after.split_once('}')?;
    let variable = path.strip_prefix(before)?.strip_suffix(after)?;
    (!variable.contains('/') && (known != FEATURE_FLAG || !variable.is_empty())).then_some(variable)
}

fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method", "This resource has no such method.")
}
