//! systemd's messages and sockets, tested against the binary by the two protocols themselves; and the units in
//! `deploy/systemd`, tested with systemd's own tools.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram as StdUnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sezzle_sidecar::clock::monotonic_micros;
use sezzle_sidecar::simulator::{Gate, Options, Rule, Simulator};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::process::{BINARY, CONFIGURED, Ended, Folder, Process, Sidecar, free_address, run};
use crate::support::wire::Wire;
use crate::support::{Session, arrived, eventually};

/// A stand-in for systemd: starts the binary, and receives its messages.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        let path = folder.path().join("notify");
        Self { socket: UnixDatagram::bind(&path).expect("bound"), path }
    }

    /// Starts a sidecar in front of this gateway, with further variables of systemd's own.
    async fn start(&self, gateway: Simulator, variables: &[(&str, &str)], own: &[(&str, &str)]) -> Sidecar {
        let start = |variables: &[(&str, &str)]| {
            let mut command = command(variables);
            command.arg("run").env("NOTIFY_SOCKET", &self.path).envs(own.iter().copied());
            Process::of(command)
        };
        let Options { public_key, private_key, .. } = Options::default();
        Sidecar::by(gateway, &public_key, &private_key, variables, start).await
    }

    /// The next message.
    async fn hears(&self) -> String {
        let mut message = vec![0; 4096];
        let length = timeout(Duration::from_secs(30), self.socket.recv(&mut message)).await.expect("in time");
        message.truncate(length.expect("a message"));
        String::from_utf8(message).expect("UTF-8")
    }

    /// The next message that is not a watchdog keep-alive.
    async fn hears_news(&self) -> String {
        loop {
            let message = self.hears().await;
            if message != ALIVE {
                return message;
            }
        }
    }
}

const ALIVE: &str = "WATCHDOG=1\n";

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().stdin(Stdio::null());
    command.envs(variables.iter().map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
    command
}

#[tokio::test]
async fn systemd_is_told_when_the_service_is_ready_reloads_and_stops() {
    let (folder, gateway) = (Folder::new(), Simulator::start(Options::default()).await.expect("gateway starts"));
    let (manager, gate) = (Manager::new(&folder), Gate::new());
    gateway.script(Rule::path("/v2/authentication").gate(&gate));
    let drain = [("DRAIN__GRACE", "300ms"), ("DRAIN__TIMEOUT", "50s")];
    let sidecar = manager.start(gateway, &drain, &[]).await;
    let starting = "STATUS=not ready: the first token is being obtained\nEXTEND_TIMEOUT_USEC=30000000\n";
    assert_eq!(manager.hears().await, starting);
    arrived(&gate, 1).await;
    // A reload before readiness is not reported: systemd would take its end for readiness.
    sidecar.process.signal("HUP");
    let reloaded = r#"config_reloads_total{result="success"}"#;
    eventually("reloaded", async || sidecar.metric(reloaded).await == 1.0).await;
    gate.release();
    loop {
        match manager.hears().await {
            ready if ready == "READY=1\nSTATUS=ready\n" => break,
            again => assert_eq!(again, starting),
        }
    }
    assert_eq!(sidecar.client.get(sidecar.ops, "/readyz").await.status, 200, "not before that");

    let before = monotonic_micros();
    sidecar.process.signal("HUP");
    let reloading = manager.hears().await;
    let at = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .and_then(|rest| rest.strip_suffix("\nSTATUS=reloading\n"));
    let at: u64 = at.expect(&reloading).parse().expect("a number");
    assert!((before..=monotonic_micros()).contains(&at), "{reloading}");
    assert_eq!(manager.hears().await, "READY=1\nSTATUS=ready\n");

    sidecar.process.signal("TERM");
    assert_eq!(manager.hears().await, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=55000000\n");
    assert_eq!(sidecar.process.end().await.code, Some(0));
}

#[tokio::test]
async fn systemd_is_told_the_result_of_a_reload_and_the_obstacle_to_a_start() {
    let (folder, gateway) = (Folder::new(), Simulator::start(Options::default()).await.expect("gateway starts"));
    let manager = Manager::new(&folder);
    gateway.set_keys("sz_pub_other", "sz_pr_other");
    let file = folder.write("sidecar.toml", "");
    let Options { public_key, private_key, .. } = Options::default();
    let start = |variables: &[(&str, &str)]| {
        let mut command = command(variables);
        command.args(["run", "--config", &file]).env("NOTIFY_SOCKET", &manager.path);
        Process::of(command)
    };
    let sidecar = Sidecar::by(gateway, &public_key, &private_key, &[], start).await;
    let refused = "STATUS=not ready: Sezzle rejected the key pair\nEXTEND_TIMEOUT_USEC=30000000\n";
    while manager.hears().await != refused {}
    sidecar.gateway.set_keys(&public_key, &private_key);
    while manager.hears().await != "READY=1\nSTATUS=ready\n" {}

    for (text, status) in [
        ("[limits]\nhead = \"8KiB\"", "ready; the last reload changed keys that need a restart, see the log"),
        ("[limits]\nhead = \"1KiB\"", "ready; the last reload failed, see the log"),
        ("", "ready"),
    ] {
        folder.write("sidecar.toml", text);
        sidecar.process.signal("HUP");
        assert!(manager.hears().await.starts_with("RELOADING=1\n"));
        assert_eq!(manager.hears().await, format!("READY=1\nSTATUS={status}\n"));
    }
    assert_eq!(sidecar.stop().await.code, Some(0));
}

#[tokio::test]
async fn signs_of_life_go_on_to_the_end() {
    let (folder, gateway) = (Folder::new(), Simulator::start(Options::default()).await.expect("gateway starts"));
    let manager = Manager::new(&folder);
    let sidecar = manager.start(gateway, &[("DRAIN__GRACE", "1s")], &[("WATCHDOG_USEC", "100000")]).await;
    while manager.hears_news().await != "READY=1\nSTATUS=ready\n" {}
    for _ in 0..5 {
        assert_eq!(manager.hears().await, ALIVE);
    }
    sidecar.process.signal("TERM");
    assert!(manager.hears_news().await.starts_with("STOPPING=1\n"));
    for _ in 0..5 {
        assert_eq!(manager.hears().await, ALIVE, "a drain may take longer than the watchdog waits");
    }
    assert_eq!(sidecar.process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_manager_that_cannot_be_told_is_no_reason_not_to_serve() {
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let Options { public_key, private_key, .. } = Options::default();
    let start = |variables: &[(&str, &str)]| {
        let mut command = command(variables);
        command.arg("run").env("NOTIFY_SOCKET", "/nowhere/notify").env("WATCHDOG_USEC", "100000");
        Process::of(command)
    };
    let mut sidecar = Sidecar::by(gateway, &public_key, &private_key, &[], start).await;
    sidecar.ready().await;
    sidecar.process.says("the sidecar cannot report its state to systemd").await;
    assert_eq!(sidecar.get("/v2/customer").await.status, 200);
    assert_eq!(sidecar.stop().await.code, Some(0));
}

/// Starts the binary as systemd does, with a socket named `name` as its descriptor 3.
fn passing(socket: impl Into<OwnedFd>, name: &str, variables: &[(&str, &str)]) -> Process {
    passing_as(socket, &format!("LISTEN_FDS=1 LISTEN_FDNAMES={name} LISTEN_PID=$$"), variables)
}

/// Starts the binary with other variables of systemd's.
fn passing_as(socket: impl Into<OwnedFd>, own: &str, variables: &[(&str, &str)]) -> Process {
    Process::passed(socket, own, &["run"], variables)
}

async fn before(
    gateway: Simulator,
    variables: &[(&str, &str)],
    start: impl FnOnce(&[(&str, &str)]) -> Process,
) -> Sidecar {
    let Options { public_key, private_key, .. } = Options::default();
    let sidecar = Sidecar::by(gateway, &public_key, &private_key, variables, start).await;
    sidecar.ready().await;
    sidecar
}

/// The variables that name a socket at this path.
fn listen(path: &Path) -> [(&'static str, String); 2] {
    [("PROXY__LISTEN", format!("unix:{}", path.display())), ("LINKS__BASE_URL", "http://localhost".to_owned())]
}

async fn is_served(path: &Path) {
    let mut wire = Wire::unix(path).await;
    wire.send("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn a_passed_socket_outlives_the_process_and_the_next_one_serves_waiting_callers() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let socket = UnixListener::bind(&path).expect("bound");
    let listen = listen(&path);
    let variables = listen.each_ref().map(|(name, value)| (*name, value.as_str()));
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let pass = |variables: &[(&str, &str)]| passing(socket.try_clone().expect("a copy"), "proxy", variables);

    let first = before(gateway, &variables, pass).await;
    is_served(&path).await;
    first.process.signal("TERM");
    let Ended { code, stdout, stderr } = first.process.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains(&format!("\"proxy\":\"unix:{}\"", path.display())), "{stdout}");
    assert!(path.exists(), "it is systemd's");

    let early = tokio::spawn({
        let path = path.clone();
        async move { is_served(&path).await }
    });
    let second = before(first.gateway, &variables, pass).await;
    early.await.expect("served");
    assert_eq!(second.stop().await.code, Some(0));
}

#[tokio::test]
async fn an_address_without_a_passed_socket_is_opened_as_ever() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (passed, folder) = (socket.local_addr().expect("an address"), Folder::new());
    let path = folder.path().join("proxy.sock");
    let both = format!("{passed},unix:{}", path.display());
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let sidecar = before(gateway, &[("PROXY__LISTEN", &both)], |variables| passing(socket, "proxy", variables)).await;
    is_served(&path).await;
    let lookup = Session::order(&sidecar.gateway).path;
    let answer = sidecar.client.get(passed, &lookup).await;
    assert!(answer.text().contains(&format!("http://{passed}{lookup}")), "{}", answer.text());
    assert_eq!(sidecar.stop().await.code, Some(0));
    assert!(!path.exists(), "this one was its own");
}

#[tokio::test]
async fn every_listener_takes_its_own() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (address, gateway) = (socket.local_addr().expect("an address"), Simulator::start(Options::default()).await);
    let (listen, url) = (address.to_string(), gateway.as_ref().expect("gateway starts").url());
    let variables = [("OPS__LISTEN", listen.as_str()), ("GATEWAY__URL", &url), ("PROXY__LISTEN", "127.0.0.1:0")];
    let process = passing(socket, "ops", &[&CONFIGURED[..], &variables].concat());
    eventually("ready", async || Client::new().get(address, "/livez").await.status == 200).await;
    process.signal("TERM");
    assert_eq!(process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_socket_that_does_not_fit_is_never_left_unheard() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let other = listen(&folder.path().join("other.sock"));
    let fitting = listen(&path);
    let unix = || {
        let _ = fs::remove_file(&path);
        OwnedFd::from(UnixListener::bind(&path).expect("bound"))
    };
    let own = |name: &str| format!("LISTEN_FDS=1 LISTEN_FDNAMES={name} LISTEN_PID=$$");
    let (datagram, _peer) = StdUnixDatagram::pair().expect("a pair");
    let (connected, _peer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let shown = format!("unix:{}", path.display());
    for (socket, own, listen, message) in [
        (unix(), own("proxi"), &fitting, " has the name \"proxi\";"),
        (
            unix(),
            own("sezzle-sidecar.socket"),
            &fitting,
            "FileDescriptorName= must be one of proxy, control, webhooks, ops",
        ),
        (unix(), "LISTEN_FDS=1 LISTEN_PID=$$".to_owned(), &fitting, " has the name \"unknown\";"),
        (
            unix(),
            own("proxy"),
            &other,
            &format!("proxy.listen: a socket was passed for {shown}, which the key does not list"),
        ),
        (
            unix(),
            own("ops"),
            &fitting,
            &format!("ops.listen: a socket was passed for {shown}, which the key does not list"),
        ),
        (unix(), "LISTEN_FDS=2 LISTEN_FDNAMES=proxy:proxy LISTEN_PID=$$".to_owned(), &fitting, "or was passed twice"),
        (unix(), "LISTEN_FDS=2 LISTEN_FDNAMES=proxy LISTEN_PID=$$".to_owned(), &fitting, "1 names for the 2 sockets"),
        (unix(), "LISTEN_FDS=one LISTEN_PID=$$".to_owned(), &fitting, "LISTEN_FDS: expected a number up to 64"),
        (unix(), "LISTEN_FDS=999999999 LISTEN_PID=$$".to_owned(), &fitting, "LISTEN_FDS: expected a number up to 64"),
        (datagram.into(), own("proxy"), &fitting, "the passed descriptor \"proxy\" is a descriptor of another kind"),
        (connected.into(), own("proxy"), &fitting, "the passed descriptor \"proxy\" is a socket that does not listen"),
        (
            File::open("/dev/null").expect("there").into(),
            own("proxy"),
            &fitting,
            "the passed descriptor \"proxy\" is a descriptor of another kind",
        ),
    ] {
        let listen = listen.each_ref().map(|(name, value)| (*name, value.as_str()));
        let Ended { code, stderr, .. } = passing_as(socket, &own, &[&CONFIGURED[..], &listen].concat()).end().await;
        assert_eq!(code, Some(78), "{own}: {stderr}");
        assert!(stderr.contains(message), "{own}: {stderr}");
    }
}

#[tokio::test]
async fn sockets_passed_to_another_process_are_ignored() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let listen = listen(&path);
    let variables = listen.each_ref().map(|(name, value)| (*name, value.as_str()));
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let foreign = TcpListener::bind("127.0.0.1:0").expect("bound");
    let own = "LISTEN_FDS=1 LISTEN_FDNAMES=proxy LISTEN_PID=1";
    let sidecar = before(gateway, &variables, |variables| passing_as(foreign, own, variables)).await;
    is_served(&path).await;
    assert_eq!(sidecar.stop().await.code, Some(0));
}

/// A copy of the units that starts this test's binary, for systemd-analyze to check.
struct Units(Folder);

impl Units {
    fn new() -> Self {
        let folder = Folder::new();
        for entry in fs::read_dir(units()).expect("there") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text").replace("/usr/local/bin/sezzle-sidecar", BINARY);
            folder.write(path.file_name().and_then(|name| name.to_str()).expect("UTF-8"), &text);
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Whether systemd-analyze succeeds, and all its output.
    fn analyze(arguments: &[&str]) -> (bool, String) {
        Self::output(Command::new("systemd-analyze").args(arguments))
    }

    /// The same, with the drop-ins of this folder.
    fn analyze_in(folder: &str, arguments: &[&str]) -> (bool, String) {
        // The colon at the end adds systemd's own folders.
        Self::output(Command::new("systemd-analyze").args(arguments).env("SYSTEMD_UNIT_PATH", format!("{folder}:")))
    }

    fn output(command: &mut Command) -> (bool, String) {
        let output = command.output().expect("systemd-analyze");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(units().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

const UNITS: [&str; 3] = ["sezzle-sidecar.service", "sezzle-sidecar.socket", "sezzle-sidecar-control.socket"];

#[test]
#[ignore = "needs systemd-analyze: tests/run"]
fn systemd_finds_nothing_to_say_against_the_units() {
    let units = Units::new();
    let (_, version) = Units::analyze(&["--version"]);
    let version: u32 = version.split_whitespace().nth(1).and_then(|version| version.parse().ok()).expect("a version");
    let paths = UNITS.map(|name| units.path(name));
    let verify = [&["verify"][..], &paths.each_ref().map(String::as_str)].concat();
    let (content, said) = Units::analyze(&verify);
    let lines_of = |said: &str| said.lines().map(str::to_owned).collect::<Vec<_>>();
    // Versions before 253 lack this type, and the drop-in for them names another one. The test covers the drop-in as
    // well.
    let unknown =
        |line: &&str| version >= 253 || !line.ends_with("Failed to parse service type, ignoring: notify-reload");
    assert_eq!((content, said.lines().filter(unknown).collect::<Vec<_>>()), (true, vec![]), "systemd {version}");

    // With the drop-in these versions say the same, as docs/installation-systemd.md tells.
    let drop_in = format!("{}.d", UNITS[0]);
    fs::create_dir(units.0.path().join(&drop_in)).expect("made");
    units.0.write(&format!("{drop_in}/systemd-252.conf"), &unit("systemd-252.conf"));
    let (content, with_drop_in) = Units::analyze_in(&units.0.path().display().to_string(), &verify);
    assert_eq!((content, lines_of(&with_drop_in)), (true, lines_of(&said)), "systemd {version}");
    fs::remove_dir_all(units.0.path().join(drop_in)).expect("removed");

    let (first, drop_in) = (unit(UNITS[0]), unit("systemd-252.conf"));
    let older = first.replace("Type=notify-reload", "Type=notify").replace("/usr/local/bin/sezzle-sidecar", BINARY);
    let older = older.replace("NotifyAccess=", &format!("{}\nNotifyAccess=", setting(&drop_in, "ExecReload")));
    units.0.write(UNITS[0], &older);
    assert_eq!(Units::analyze(&verify), (true, String::new()), "with the drop-in, systemd {version}");
}

#[test]
#[ignore = "needs systemd-analyze: tests/run"]
fn the_sandbox_is_as_tight_as_it_is_said_to_be() {
    let units = Units::new();
    let (content, said) =
        Units::analyze(&["security", "--offline=true", "--threshold=20", "--no-pager", &units.path(UNITS[0])]);
    let exposure = said.split("exposure level for sezzle-sidecar.service: ").nth(1).unwrap_or_default();
    let exposure: f64 = exposure.split(' ').next().and_then(|level| level.parse().ok()).expect(&said);
    assert!(content && exposure <= 2.0, "{said}");
}

/// The line of a setting that a unit has once.
fn setting<'u>(unit: &'u str, name: &str) -> &'u str {
    let mut lines = unit.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    let line = lines.next().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(lines.next(), None, "{name} stands there twice");
    line
}

#[tokio::test]
async fn the_units_and_the_configuration_beside_them_agree() {
    let configuration = units().join("sidecar.toml").display().to_string();
    let checked = run(&["check", "--config", &configuration], &[]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    let effective: toml::Table = checked.stdout.parse().expect("TOML");
    let (service, socket, control) = (unit(UNITS[0]), unit(UNITS[1]), unit(UNITS[2]));
    let listen = setting(&socket, "ListenStream").trim_start_matches("ListenStream=");
    assert_eq!(effective["proxy"]["listen"], toml::Value::from(vec![format!("unix:{listen}")]));
    assert_eq!(effective["gateway"]["environment"].as_str(), Some("sandbox"), "nobody moves real money unasked");
    assert_eq!(setting(&socket, "FileDescriptorName"), "FileDescriptorName=proxy");
    assert_eq!(setting(&socket, "SocketMode"), "SocketMode=0660");
    assert!(unit("sezzle-sidecar.sysusers.conf").contains(&format!("g {} -", &setting(&socket, "SocketGroup")[12..])));
    assert_eq!(setting(&control, "FileDescriptorName"), "FileDescriptorName=control");
    let listen = setting(&control, "ListenStream").trim_start_matches("ListenStream=");
    assert!(unit("sidecar.toml").contains(&format!("# listen = \"unix:{listen}\"")));

    // The unit's variables are a valid configuration, too.
    let variables = service.lines().filter_map(|line| line.strip_prefix("Environment=SEZZLE_SIDECAR__"));
    let variables: Vec<(&str, &str)> = variables.filter_map(|line| line.split_once('=')).collect();
    let started = run(&["check", "--config", &configuration], &variables).await;
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    for half in ["public_key", "private_key"] {
        let line = |path: &str, origin: &str| format!("{half}_file = \"{path}/{half}\" # {origin}");
        let origin = format!("SEZZLE_SIDECAR__CREDENTIALS__{}_FILE", half.to_ascii_uppercase());
        assert!(started.stdout.contains(&line("%d", &origin)), "{}", started.stdout);
        let systemds = line("/run/credentials/sezzle-sidecar.service", &configuration);
        assert!(checked.stdout.contains(&systemds), "{}", checked.stdout);
        assert!(service.contains(&format!("LoadCredential={half}:/etc/sezzle-sidecar/{half}\n")));
    }
}

#[tokio::test]
async fn the_fleet_of_the_configuration_only_has_to_be_uncommented() {
    let text = unit("sidecar.toml");
    let (before, rest) = text.split_once("# [fleet]\n").expect("the section");
    let (section, _) = rest.split_once("\n\n").expect("its end");
    let folder = Folder::new();
    folder.write("sidecar.toml", &format!("{before}[fleet]\n{}\n", section.replace("# ", "")));
    let configuration = folder.path().join("sidecar.toml").display().to_string();
    let checked = run(&["check", "--config", &configuration], &[]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    let effective: toml::Table = checked.stdout.parse().expect("TOML");
    for (key, credential) in [("password_file", "fleet_password"), ("key_file", "fleet_keys")] {
        let path = format!("/run/credentials/sezzle-sidecar.service/{credential}");
        assert_eq!(effective["fleet"][key].as_str(), Some(path.as_str()));
        assert!(before.contains(&format!("# LoadCredential={credential}:/etc/sezzle-sidecar/{credential}\n")));
    }
}

/// The block of `docs/installation-systemd.md` below the line that ends with `above`.
fn shown(above: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/installation-systemd.md");
    let page = fs::read_to_string(page).expect("the page");
    let above = format!("{above}:\n\n");
    let mut parts = page.split(&above).skip(1);
    let (block, more) = (parts.next().unwrap_or_else(|| panic!("no {above}")), parts.next());
    assert_eq!(more, None, "{above} stands there twice");
    let inside = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    let text: String = inside.map(|line| format!("{}\n", line.trim_start())).collect();
    format!("{}\n", text.trim_end())
}

#[tokio::test]
async fn the_port_of_the_page_is_one_port_for_the_socket_the_sidecar_and_the_links() {
    let text = unit("sidecar.toml");
    let (before, rest) = text.split_once("[proxy]\n").expect("the section");
    let (_, after) = rest.split_once("base_url = \"http://localhost\"\n").expect("the next section");
    let folder = Folder::new();
    let port = shown("`links` in `/etc/sezzle-sidecar/sidecar.toml`");
    let file = folder.write("sidecar.toml", &format!("{before}{port}{after}"));
    let checked = run(&["check", "--config", &file], &[]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    let effective: toml::Table = checked.stdout.parse().expect("TOML");
    let socket = shown("`/etc/systemd/system/sezzle-sidecar.socket.d/override.conf`");
    let address = socket.strip_prefix("[Socket]\nListenStream=\nListenStream=").expect("the list anew").trim_end();
    assert_eq!(effective["proxy"]["listen"], toml::Value::from(vec![address]));
    assert_eq!(effective["links"]["base_url"].as_str(), Some(format!("http://{address}").as_str()));
}

/// Before the service has run, the files of `/run/credentials` are not there.
#[tokio::test]
async fn the_way_to_sezzle_can_be_checked_before_the_first_start() {
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let Options { public_key, private_key, .. } = Options::default();
    let folder = Folder::new();
    folder.write_with("public_key", &public_key, 0o600);
    folder.write_with("private_key", &private_key, 0o600);
    folder.write("sidecar.toml", &unit("sidecar.toml"));
    let url = gateway.url();
    let line = shown("systemd makes the files that `sidecar.toml` names only while the service runs");
    let line = line.replace("/etc/sezzle-sidecar", &folder.path().display().to_string());
    let without = line.lines().last().expect("a line");
    for (line, code, says) in [(line.as_str(), 0, "keys"), (without, 77, "/run/credentials/sezzle-sidecar.service/")] {
        let checked = Process::shell(line, folder.path(), &[("GATEWAY__URL", &url)]);
        let Ended { code: ended, stdout, stderr } = checked.end().await;
        assert_eq!(ended, Some(code), "{stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(says), "{stdout}{stderr}");
    }
}

/// systemd's own code passes the socket.
#[tokio::test]
#[ignore = "needs systemd-socket-activate: tests/run"]
async fn systemd_passes_the_socket_and_starts_the_sidecar_at_the_first_call() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let (gateway, ops) =
        (Simulator::start(Options::default()).await.expect("gateway starts"), free_address().to_string());
    let Options { public_key, private_key, .. } = Options::default();
    let listen = listen(&path).map(|(name, value)| (name.to_owned(), value));
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--fdname=proxy", "--listen", &path.display().to_string()]).env_clear().stdin(Stdio::null());
    let mut variables = vec![
        ("GATEWAY__ENVIRONMENT".to_owned(), "sandbox".to_owned()),
        ("GATEWAY__URL".to_owned(), gateway.url()),
        ("CREDENTIALS__PUBLIC_KEY".to_owned(), public_key),
        ("CREDENTIALS__PRIVATE_KEY".to_owned(), private_key),
        ("OPS__LISTEN".to_owned(), ops),
        ("DRAIN__GRACE".to_owned(), "0s".to_owned()),
    ];
    variables.extend(listen);
    for (name, value) in &variables {
        let name = format!("SEZZLE_SIDECAR__{name}");
        command.arg(format!("--setenv={name}={value}"));
    }
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).args([BINARY, "run"]);
    let process = Process::of(command);
    eventually("it listens", async || process.stderr().contains("Listening on ")).await;
    is_served(&path).await;
    process.signal("TERM");
    let Ended { code, stdout, stderr } = process.end().await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}
