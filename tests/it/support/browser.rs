//! Chromium without a window, steered by chromedriver. Tests read what a page shows, its complaints and its requests.

use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::eventually;
use super::process::{Folder, Process};

// A busy machine takes its time to start a browser.
const LIMIT: Duration = Duration::from_secs(120);

/// A browser with a profile of its own. Dropping the handle ends both processes.
pub struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    session: String,
    /// The browser's process, until the browser has been told to end. A killed driver leaves its browser running.
    process: Option<u64>,
    _driver: Process,
    _profile: Folder,
}

/// The screen that a page is shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    pub name: &'static str,
    pub width: u32,
    pub height: u32,
    pub scale: u32,
}

impl Browser {
    pub async fn start() -> Self {
        let profile = Folder::new();
        let started = "started successfully on port ";
        let (driver, output) = loop {
            let mut command = Command::new("chromedriver");
            command.arg("--port=0").env("HOME", profile.path());
            let mut driver = Process::spawn(command);
            eventually("chromedriver runs", async || driver.stdout().contains(started) || driver.has_ended()).await;
            let output = driver.stdout();
            if output.contains(started) {
                break (driver, output);
            }
            // Chromedriver takes a free port of IPv6, and ends if another program has the same port of IPv4.
            driver.says("port not available").await;
        };
        let port = output.split(started).nth(1).and_then(|rest| rest.split('.').next()).expect("a port");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }}});
        let base = format!("http://127.0.0.1:{port}/session");
        let opened = call(&client, Method::POST, &base, &wanted).await;
        let session = format!("{base}/{}", opened["sessionId"].as_str().expect("a session"));
        let process = opened["capabilities"]["goog:processID"].as_u64();
        assert!(process.is_some(), "{opened}");
        let browser = Self { client, session, process, _driver: driver, _profile: profile };
        // Replaces the page that the browser opens by itself.
        browser.open("about:blank").await;
        browser.requests().await;
        browser
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&self, url: &str) {
        self.post("url", &json!({"url": url})).await;
    }

    /// Shows pages on this screen from now on, to a reader who prefers this colour scheme.
    pub async fn prefer(&self, screen: Screen, scheme: &str) {
        let Screen { width, height, scale, .. } = screen;
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": scheme})).await;
    }

    /// Runs the body of a JavaScript function in the page and returns its result.
    pub async fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []})).await
    }

    /// The whole page as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let size = self.run("const r = document.documentElement; return [r.clientWidth, r.scrollHeight];").await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let wanted = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.devtools("Page.captureScreenshot", wanted).await;
        BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64")
    }

    /// The page's complaints since the last call: errors, and breaches of its policies.
    pub async fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        entries.iter().map(|entry| entry["message"].as_str().expect("a text").to_owned()).collect()
    }

    /// Every URL that the page asked for since the last call.
    pub async fn requests(&self) -> Vec<String> {
        let events = self.log("performance").await;
        let events = events.iter().map(|entry| entry["message"].as_str().expect("a text"));
        let events = events.map(|text| serde_json::from_str::<Value>(text).expect("JSON")["message"].take());
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().expect("a URL").to_owned()).collect()
    }

    pub async fn stop(mut self) {
        call(&self.client, Method::DELETE, &self.session, &Value::Null).await;
        self.process = None;
    }

    async fn log(&self, name: &str) -> Vec<Value> {
        self.post("se/log", &json!({"type": name})).await.as_array().expect("entries").clone()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        call(&self.client, Method::POST, &format!("{}/{path}", self.session), body).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            // Killing fails only for a process that has ended already.
            let _ = Command::new("/bin/sh").args(["-c", &format!("kill -KILL {process}")]).status();
        }
    }
}

/// Sends one WebDriver command. Fails with the driver's message.
async fn call(client: &Client<HttpConnector, Full<Bytes>>, method: Method, url: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(url).header("content-type", "application/json");
    let request = request.body(Full::from(body)).expect("a valid request");
    let exchange = async {
        let answer = client.request(request).await.expect("the driver answers");
        let ok = answer.status().is_success();
        let bytes = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        let mut json: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert!(ok, "{url}: {json}");
        json["value"].take()
    };
    timeout(LIMIT, exchange).await.unwrap_or_else(|_| panic!("no answer in time: {url}"))
}
