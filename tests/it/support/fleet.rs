//! Several sidecars before one simulated gateway, and the ways to look a session up and to change it through any of
//! them.

use std::net::SocketAddr;

use http::Method;
use serde_json::json;
use sezzle_sidecar::simulator::{Options, Simulator};

use tokio::task::JoinHandle;

use super::client::{Answer, Client, Ended};
use super::process::{Folder, Sidecar, free_address};
use super::service::signature;
use super::{Harness, Session, Setup, eventually};

const UPDATE: &str = r#"{"reference_id":"new"}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

/// The addresses of a sidecar.
#[derive(Clone, Copy, Debug)]
pub struct Pod {
    pub proxy: SocketAddr,
    pub ops: SocketAddr,
    control: SocketAddr,
    webhooks: SocketAddr,
}

/// How a pod learns that an order changed. With all but the first, the change itself passes every pod by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Write,
    Webhook,
    Purge,
    PurgeAll,
}

impl Change {
    pub const ALL: [Self; 4] = [Self::Write, Self::Webhook, Self::Purge, Self::PurgeAll];
}

/// A gateway, and a caller of its sidecars.
pub struct Shop {
    pub gateway: Simulator,
    pub client: Client,
    /// Authorizes changes that pass every sidecar by.
    bearer: String,
}

impl Shop {
    pub async fn open() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let gateway = Simulator::start(options).await.expect("gateway starts");
        let client = Client::new();
        let Options { public_key, private_key, .. } = Options::default();
        let keys = json!({"public_key": public_key, "private_key": private_key}).to_string();
        let token = client.send(gateway.addr(), Method::POST, "/v2/authentication", &[JSON], &keys).await.json();
        let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
        Self { gateway, client, bearer }
    }

    /// A sidecar in this process, in a fleet if there is a URL.
    pub async fn pod(&self, url: Option<&str>, settings: &[(&str, &str)]) -> Harness {
        let mut setup = Setup::default().before(&self.gateway);
        for (name, value) in OPEN {
            setup = setup.set(name, value);
        }
        if let Some(url) = url {
            setup = setup.set("FLEET__URL", url);
        }
        for (name, value) in settings {
            setup = setup.set(name, value);
        }
        setup.start().await
    }

    /// A sidecar in a process of its own.
    pub async fn process(&self, url: &str, settings: &[(&str, &str)]) -> (Sidecar, Pod) {
        let (control, webhooks) = (free_address(), free_address());
        let (at, hooks) = (control.to_string(), webhooks.to_string());
        let mut all = vec![("FLEET__URL", url), ("CONTROL__LISTEN", &at), ("WEBHOOKS__LISTEN", &hooks)];
        all.extend(settings);
        let keys = Options::default();
        let sidecar = Sidecar::before(self.gateway.clone(), &keys.public_key, &keys.private_key, &all).await;
        sidecar.ready().await;
        let pod = Pod { proxy: sidecar.proxy, ops: sidecar.ops, control, webhooks };
        (sidecar, pod)
    }

    pub async fn lookup(&self, pod: Pod, session: &Session) -> Answer {
        let answer = self.client.get(pod.proxy, &session.path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// A lookup that is not answered from memory.
    pub async fn fetch(&self, pod: Pod, session: &Session) -> Answer {
        let fresh = [("cache-control", "no-cache")];
        let answer = self.client.send(pod.proxy, Method::GET, &session.path, &fresh, "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// Changes an order, and returns when everybody who has asked a sidecar for it has the answer. `false` without an
    /// answer.
    pub async fn try_change(&self, pod: Pod, change: Change, session: &Session) -> bool {
        if change == Change::Write {
            let answer = self.client.try_send(pod.proxy, Method::PATCH, &session.order_path, &[JSON], UPDATE).await;
            return is(&answer, 204);
        }
        let headers = [JSON, ("authorization", self.bearer.as_str())];
        let done = self.client.send(self.gateway.addr(), Method::PATCH, &session.order_path, &headers, UPDATE).await;
        assert_eq!(done.status, 204, "{}", done.text());
        match change {
            Change::Webhook => {
                let body = json!({"event": "order.captured", "data": {"uuid": session.order}}).to_string();
                let signed = signature(&Options::default().private_key, &body);
                let headers = [("sezzle-signature", signed.as_str())];
                is(&self.client.try_send(pod.webhooks, Method::POST, "/webhooks/sezzle", &headers, &body).await, 200)
            }
            Change::Write | Change::Purge | Change::PurgeAll => {
                let all = change == Change::PurgeAll;
                let body = if all { json!({"all": true}) } else { json!({"order": session.order}) };
                let body = body.to_string();
                is(&self.client.try_send(pod.control, Method::POST, "/purge", &[JSON], &body).await, 200)
            }
        }
    }

    /// As [`Self::try_change`], where an answer must come.
    pub async fn change(&self, pod: Pod, change: Change, session: &Session) {
        assert!(self.try_change(pod, change, session).await, "{change:?} is answered");
    }

    /// Begins a write. The result is whether it was answered.
    pub fn write_in_background(&self, pod: Pod, session: &Session) -> JoinHandle<bool> {
        let path = session.order_path.clone();
        tokio::spawn(async move {
            let write = Client::new();
            is(&write.try_send(pod.proxy, Method::PATCH, &path, &[JSON], UPDATE).await, 204)
        })
    }

    /// The value of a series on a pod's /metrics, named as in [`Harness::metric`].
    pub async fn metric(&self, pod: Pod, series: &str) -> f64 {
        self.client.metric(pod.ops, series).await
    }

    /// Waits until a pod's link is in this state.
    pub async fn link_is(&self, pod: Pod, state: &str) {
        let series = format!("fleet_state{{state=\"{state}\"}}");
        eventually(&series, async || self.metric(pod, &series).await == 1.0).await;
    }
}

impl From<&Harness> for Pod {
    fn from(harness: &Harness) -> Self {
        Self { proxy: harness.proxy, ops: harness.ops, control: harness.control(), webhooks: harness.webhooks() }
    }
}

/// The number of the order's revision in a lookup's answer, counted from 1. Each change adds 1.
pub fn revision(answer: &Answer) -> u64 {
    answer.json()["order"]["revision"].as_u64().unwrap_or_else(|| panic!("no revision: {}", answer.text()))
}

pub fn is_hit(answer: &Answer) -> bool {
    answer.cache().starts_with("hit")
}

fn is(ended: &Ended, status: u16) -> bool {
    match ended {
        Ended::Whole(answer) => {
            assert_eq!(answer.status, status, "{}", answer.text());
            true
        }
        Ended::Cut(_) | Ended::Unanswered(_) => false,
    }
}

/// A file of one key, for `FLEET__KEY_FILE`.
pub fn key_file(folder: &Folder) -> String {
    folder.write("keys", KEY)
}

/// The settings with which pods share what they fetched. Their links have to lead to one place, and their own addresses
/// differ.
pub fn sharing(key_file: &str) -> [(&'static str, &str); 2] {
    [("FLEET__KEY_FILE", key_file), ("LINKS__BASE_URL", "http://sidecar.test:8080")]
}

/// A key, as it stands in the file.
pub const KEY: &str = "c2V2ZW4gdGltZXMgc2V2ZW4gaXMgZm9ydHkgbmluZSE=";

/// Every pod has the listeners by which it can learn of a change.
const OPEN: [(&str, &str); 2] = [("CONTROL__LISTEN", "127.0.0.1:0"), ("WEBHOOKS__LISTEN", "127.0.0.1:0")];
