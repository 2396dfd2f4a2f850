//! A real Prometheus with the files of `deploy/prometheus`, on a free port. Dropping the handle ends it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::Client;
use super::process::{Folder, Process, free_address};
use super::{eventually, rules};

/// A running Prometheus that scrapes one sidecar.
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    client: Client,
    _folder: Folder,
}

impl Prometheus {
    /// Starts Prometheus and waits until it is ready. It scrapes twice a second, and alerts fire as soon as their
    /// expressions hold: other tests cover how long they must hold.
    pub async fn start(sidecar: SocketAddr) -> Self {
        Command::new("prometheus").arg("--version").output().expect("tests/run installs it");
        let folder = Folder::new();
        let own = |file: &str| fs::read_to_string(rules::folder().join(file)).expect("readable");
        let configuration = own("prometheus.yml").replace("127.0.0.1:9464", &sidecar.to_string());
        folder.write("prometheus.yml", &configuration.replace(": 15s", ": 500ms"));
        folder.write("recording.yml", &own("recording.yml"));
        let waits = |line: &&str| line.trim_start().starts_with("for: ");
        let alerts = own("alerts.yml");
        folder.write("alerts.yml", &alerts.lines().filter(|line| !waits(line)).collect::<Vec<_>>().join("\n"));
        let address = free_address();
        let line = format!(
            "exec prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address={address} \
             --log.level=warn"
        );
        let process = Process::shell(&line, folder.path(), &[]);
        let this = Self { process, address, client: Client::new(), _folder: folder };
        eventually("Prometheus listens", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
        eventually("Prometheus is ready", async || this.client.get(address, "/-/ready").await.status == 200).await;
        this
    }

    /// The warnings and errors in Prometheus's log.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// The series for which an expression has a number now.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let answer = self.client.get(self.address, &format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(answer.status, 200, "{expression}: {}", answer.text());
        let mut found = answer.json()["data"]["result"].as_array().expect("series").clone();
        found.retain(|series| series["value"][1] != "NaN");
        found
    }

    /// Waits until an expression has a number.
    pub async fn answers(&self, of: &str, expression: &str) {
        let what = format!("data for {of}: {expression}");
        eventually(&what, async || !self.query(expression).await.is_empty()).await;
    }

    /// The names of the alerts that have fired so far.
    pub async fn fired(&self) -> Vec<String> {
        let fired = self.query(r#"group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[10m]))"#).await;
        let names = fired.iter().map(|series| series["metric"]["alertname"].as_str().expect("a name").to_owned());
        names.collect()
    }

    /// The alerts that fire now.
    pub async fn alerts(&self) -> Vec<Value> {
        let answer = self.client.get(self.address, "/api/v1/alerts").await.json();
        answer["data"]["alerts"].as_array().expect("alerts").clone()
    }
}
