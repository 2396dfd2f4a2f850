//! `[[callers]]`: nobody else may call, and each caller may make only the calls that the configuration allows.

mod allowed;
mod amounts;
mod certified;
mod issued;
mod kinds_of_names;
mod left_out;
mod mistakes;
mod page;
mod seen;
mod strangers;
mod told;
mod while_running;

use http::Method;
use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::Setup;
use crate::support::client::Answer;
use crate::support::process::{Folder, Process, Sidecar};

/// A sidecar with callers, as a process of its own.
struct Scene {
    sidecar: Sidecar,
    folder: Folder,
}

/// The content of `till`'s token file.
const TILL: &str = "till-token-0123456789abcdef";
/// The content of `reader`'s token file.
const READER: &str = "reader-token-0123456789abcdef";
const OFFICE_PUBLIC: &str = "sz_pub_office";
const OFFICE_PRIVATE: &str = "office-private-0123456789abcdef";

/// Three callers: one by its token, which may take money, one by its token, which may read, one by its keys, which may do
/// all. `@` stands for the folder of the files.
const CALLERS: &str = r#"
[[callers]]
name = "till"
token_file = "@/till"
allow = ["session.read", "checkout", "capture"]

[[callers]]
name = "reader"
token_file = "@/reader"
allow = ["order.read", "customer.read"]

[[callers]]
name = "office"
public_key = "sz_pub_office"
private_key_file = "@/office"
allow = ["all"]
"#;

impl Scene {
    async fn start() -> Self {
        Self::with(CALLERS, &[]).await
    }

    /// Starts a sidecar with this configuration and these variables, and waits until it is ready.
    async fn with(configuration: &str, variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        secrets(&folder);
        let file = folder.write("sidecar.toml", &at(&folder, configuration));
        let options = Options::default();
        let keys = (options.public_key.clone(), options.private_key.clone());
        let gateway = Simulator::start(options).await.expect("gateway starts");
        let start = |variables: &[(&str, &str)]| Process::start(&["run", "--config", &file], variables);
        let sidecar = Sidecar::by(gateway, &keys.0, &keys.1, variables, start).await;
        sidecar.ready().await;
        Self { sidecar, folder }
    }

    async fn send(&self, method: Method, path: &str, token: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        self.sidecar.send(method, path, &[("authorization", &authorization)], body).await
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(Method::GET, path, token, "").await
    }

    /// The calls that the gateway received besides token exchanges.
    fn received(&self) -> Vec<String> {
        let calls = self.sidecar.gateway.journal().into_iter().filter(|call| call.path != "/v2/authentication");
        calls.map(|call| format!("{} {}", call.method, call.path)).collect()
    }

    /// Exchanges keys, and returns the whole answer.
    async fn exchange(&self, public: &str, private: &str) -> Answer {
        let body = serde_json::json!({ "public_key": public, "private_key": private }).to_string();
        self.sidecar.send(Method::POST, "/v2/authentication", &[], &body).await
    }

    async fn refused(&self, caller: &str, reason: &str) -> f64 {
        let series = format!("caller_requests_refused_total{{caller=\"{caller}\",reason=\"{reason}\"}}");
        self.sidecar.metric(&series).await
    }
}

/// A sidecar with [`CALLERS`] in this process, whose clock a test can move. Writes their secrets.
fn setup(folder: &Folder) -> Setup {
    secrets(folder);
    Setup::default().file(folder.write("callers.toml", &at(folder, CALLERS)))
}

/// Writes the secrets of [`CALLERS`].
fn secrets(folder: &Folder) {
    folder.write("till", TILL);
    folder.write("reader", READER);
    folder.write("office", OFFICE_PRIVATE);
}

fn at(folder: &Folder, configuration: &str) -> String {
    configuration.replace('@', folder.path().to_str().expect("UTF-8"))
}
