//! A real Prometheus with the files of `deploy/prometheus`, on a free port. Dropping the handle ends it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::Client;
use super::process::{Folder, Process, free_address};
use super::{eventually, rules};

/// A running Prometheus that scrapes sidecars.
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    client: Client,
    _folder: Folder,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes one sidecar, and waits until it is ready.
    pub async fn start(sidecar: SocketAddr) -> Self {
        Self::scraping(&[sidecar], &[]).await
    }

    /// Starts a Prometheus that scrapes these targets, and waits until it is ready. It scrapes twice a second, and alerts
    /// fire as soon as their expressions hold: other tests cover how long they must hold. Each window of the rules that
    /// `windows` names is replaced by a shorter one.
    pub async fn scraping(targets: &[SocketAddr], windows: &[(&str, &str)]) -> Self {
        Command::new("prometheus").arg("--version").output().expect("tests/run installs it");
        let folder = Folder::new();
        let own = |file: &str| fs::read_to_string(rules::folder().join(file)).expect("readable");
        let targets = targets.iter().map(|target| format!("\"{target}\"")).collect::<Vec<_>>().join(", ");
        let configuration = own("prometheus.yml").replace("\"127.0.0.1:9464\"", &targets);
        folder.write("prometheus.yml", &configuration.replace(": 15s", ": 500ms"));
        let [recording, alerts] = ["recording.yml", "alerts.yml"].map(own);
        for (long, _) in windows {
            assert!(recording.contains(long) || alerts.contains(long), "no rule has the window {long}");
        }
        let shorter = |rules: String| windows.iter().fold(rules, |rules, (long, short)| rules.replace(long, short));
        folder.write("recording.yml", &shorter(recording));
        let waits = |line: &&str| line.trim_start().starts_with("for: ");
        let at_once = alerts.lines().filter(|line| !waits(line)).collect::<Vec<_>>().join("\n");
        folder.write("alerts.yml", &shorter(at_once));
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

    /// The instances for which an alert has fired so far.
    pub async fn fired_for(&self, alert: &str) -> Vec<String> {
        let firing = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        let fired = self.query(&format!("group by (instance) (last_over_time({firing}[10m]))")).await;
        fired.iter().map(|series| series["metric"]["instance"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The alerts that fire now.
    pub async fn alerts(&self) -> Vec<Value> {
        let answer = self.client.get(self.address, "/api/v1/alerts").await.json();
        answer["data"]["alerts"].as_array().expect("alerts").clone()
    }
}
