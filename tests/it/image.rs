//! The container image: it keeps the Dockerfile's promises, and its files run with nothing else around them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use sezzle_sidecar::simulator::{Options, Simulator};
use tokio::net::UdpSocket;

use crate::support::Session;
use crate::support::client::Client;
use crate::support::process::{BINARY, Ended, Folder, Process, free_address};
use crate::support::tls::Authority;

/// Limit of all shipped files together.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The image's user.
const USER: u32 = 65532;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The instructions of the Dockerfile, by stage, comments left out and lines joined.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = file("deploy/image/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut stages = Vec::new();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        if instruction == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("it begins with FROM").push((instruction.to_owned(), rest));
    }
    stages
}

/// The one instruction of a kind in a stage.
fn only<'s>(stage: &'s [(String, String)], instruction: &str) -> &'s str {
    let found: Vec<&str> = stage.iter().filter(|(kind, _)| kind == instruction).map(|(_, rest)| &**rest).collect();
    assert_eq!(found.len(), 1, "{instruction}: {found:?}");
    found[0]
}

#[test]
fn the_last_stage_holds_one_program_and_runs_it_as_nobody() {
    let stages = stages();
    let last = stages.last().expect("a stage");
    let kinds: Vec<&str> = last.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in &kinds {
        // No RUN, which would need a shell, and no ENV, which would override every file.
        let known =
            ["FROM", "ARG", "LABEL", "COPY", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
        assert!(known.contains(kind), "{kind}");
    }
    assert_eq!(only(last, "FROM"), "scratch");
    assert_eq!(only(last, "COPY"), "--from=build /image/ /");
    assert_eq!(only(last, "USER"), format!("{USER}:{USER}"));
    assert_eq!(only(last, "ENTRYPOINT"), r#"["/sezzle-sidecar"]"#);
    assert_eq!(only(last, "CMD"), r#"["run"]"#);
    assert!(only(last, "HEALTHCHECK").ends_with(r#" CMD ["/sezzle-sidecar", "healthcheck"]"#));
    assert_eq!(only(last, "STOPSIGNAL"), "SIGTERM");
    assert_eq!(only(last, "EXPOSE"), "9464", "services do not call over the network");
    let labels = only(last, "LABEL");
    for label in ["title", "description", "version", "revision", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=\"")), "{label} in {labels}");
    }
    assert!(labels.contains(&format!(".version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{labels}");
}

#[test]
fn the_build_is_locked_without_the_simulator_and_by_the_compiler_of_the_checks() {
    let stages = stages();
    let [build, _] = &stages[..] else { panic!("two stages, not {}", stages.len()) };
    let toolchain: toml::Table = file("rust-toolchain.toml").parse().expect("TOML");
    let channel = toolchain["toolchain"]["channel"].as_str().expect("a version");
    assert_eq!(only(build, "FROM"), format!("rust:{channel}-slim-bookworm AS build"));
    // Without the build argument the option is not there.
    assert!(only(build, "RUN").ends_with(" deploy/image/build ${SIMULATOR:+--simulator} /image"));
    assert!(build.iter().any(|(kind, rest)| kind == "ARG" && rest == "SIMULATOR"), "no default");
    let script = file("deploy/image/build");
    for flag in ["--locked", "--release", "--no-default-features", "+crt-static", "-Cprofile-use="] {
        assert!(script.contains(flag), "{flag}");
    }
}

#[test]
fn a_builder_is_sent_only_what_is_named() {
    // `deploy/image/context` relies on this form.
    let text = file(".dockerignore");
    let mut rules = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"));
    for rule in rules {
        let path = rule.strip_prefix("!/").unwrap_or_else(|| panic!("{rule}"));
        assert!(!path.contains(['*', '?', '[', ' ']), "{rule}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{rule}");
    }
}

/// The shipped files, in a root of their own with the files that a container's runtime adds.
struct Container {
    root: Folder,
    variables: Vec<(&'static str, String)>,
}

impl Container {
    /// A container whose keys only the group of the image's user may read, as Kubernetes mounts them with `fsGroup`.
    fn new(variables: Vec<(&'static str, String)>, trust: &str) -> Self {
        let container = Self { root: Folder::new(), variables };
        let status = Command::new("cp").arg("-R").arg(shipped().join(".")).arg(container.root.path()).status();
        assert!(status.expect("cp").success());
        // Only the owner may enter a temporary folder.
        container.mode(container.root.path(), 0o755);
        for (name, content) in [("public_key", "sz_pub_simulated\n"), ("private_key", "sz_pr_simulated\n")] {
            let key = container.add(&format!("run/secrets/sezzle/{name}"), content, 0o440);
            chown(key, Some(0), Some(USER)).expect("root may");
        }
        container.add("etc/ca.pem", trust, 0o444);
        container
    }

    fn add(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        fs::write(&path, content).expect("writable");
        self.mode(&path, mode);
        path
    }

    fn mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("settable");
    }

    /// Starts the program in the container as the image's user, who can write nowhere.
    fn start(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new("chroot");
        command.arg(format!("--userspec={USER}:{USER}")).arg(format!("--groups={USER}"));
        command.arg(self.root.path()).arg("/sezzle-sidecar").args(arguments).env_clear().env("PATH", "/usr/sbin:/sbin");
        for (name, value) in &self.variables {
            command.env(format!("SEZZLE_SIDECAR__{name}"), value);
        }
        Process::spawn(command)
    }

    /// Every file in the container, with its size and the time of its last change.
    fn files(&self) -> Vec<(PathBuf, u64, i64, i64)> {
        listed(self.root.path())
    }
}

/// The folder into which `deploy/image/build` put the shipped files: beside the folder of the tested binary.
fn shipped() -> PathBuf {
    let target = Path::new(BINARY).ancestors().nth(2).expect("a folder");
    target.join("image")
}

fn listed(folder: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        let about = fs::symlink_metadata(&path).expect("there");
        if about.is_dir() {
            found.extend(listed(&path));
        }
        found.push((path, about.size(), about.mtime(), about.mtime_nsec()));
    }
    found.sort();
    found
}

/// A name server on a loopback address of its own that knows one name.
struct Dns {
    address: Ipv4Addr,
    asked: &'static AtomicUsize,
}

impl Dns {
    async fn start() -> Self {
        let (socket, address) = loop {
            // All name servers share one port, so the test chooses the address.
            let [a, b, c] = [(); 3].map(|()| fastrand::u8(1..255));
            let address = Ipv4Addr::new(127, a, b, c);
            if let Ok(socket) = UdpSocket::bind(SocketAddr::from((address, 53))).await {
                break (socket, address);
            }
        };
        let asked: &'static AtomicUsize = Box::leak(Box::default());
        tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&answer(&query[..length]), from).await;
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const NAME: &str = "gateway.test";

/// 127.0.0.1 for the A records of the known name, no record for its other types, no such name for the rest (RFC 1035,
/// 4).
fn answer(query: &[u8]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    let question = &query[12..end];
    let wanted: Vec<u8> = NAME.split('.').flat_map(|part| [&[part.len() as u8], part.as_bytes()].concat()).collect();
    let known = question.starts_with(&wanted);
    let address = known && question.ends_with(&[0, 0, 1, 0, 1]);
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(address), 0, 0, 0, 0]);
    answer.extend(question);
    if address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

#[tokio::test]
#[ignore = "needs root and what deploy/image/build makes: tests/run"]
async fn the_shipped_files_are_small_and_run_with_nothing_around_them() {
    let shipped_files = listed(&shipped());
    let names: Vec<PathBuf> = shipped_files
        .iter()
        .map(|(path, ..)| path.strip_prefix(shipped()).expect("below").to_owned())
        .filter(|path| !shipped().join(path).is_dir())
        .collect();
    assert_eq!(names, [Path::new("etc/nsswitch.conf"), Path::new("sezzle-sidecar")]);
    let size: u64 = shipped_files.iter().map(|(_, size, ..)| size).sum();
    assert!(size <= LARGEST, "{size} bytes");

    for by_hosts_file in [false, true] {
        let authority = Authority::new();
        let options = Options { tls: Some(authority.server(&[NAME])), ..Options::default() };
        let gateway = Simulator::start(options).await.expect("gateway starts");
        let dns = Dns::start().await;
        let (proxy, ops) = (free_address(), free_address());
        let container = Container::new(
            vec![
                ("GATEWAY__ENVIRONMENT", "sandbox".to_owned()),
                ("GATEWAY__URL", format!("https://{NAME}:{}", gateway.addr().port())),
                ("GATEWAY__CA_FILE", "/etc/ca.pem".to_owned()),
                ("CREDENTIALS__PUBLIC_KEY_FILE", "/run/secrets/sezzle/public_key".to_owned()),
                ("CREDENTIALS__PRIVATE_KEY_FILE", "/run/secrets/sezzle/private_key".to_owned()),
                ("PROXY__LISTEN", proxy.to_string()),
                ("OPS__LISTEN", format!("0.0.0.0:{}", ops.port())),
                ("DRAIN__GRACE", "0s".to_owned()),
            ],
            &authority.pem(),
        );
        container.add("etc/resolv.conf", &format!("nameserver {}\noptions ndots:5\n", dns.address), 0o444);
        let hosts =
            if by_hosts_file { format!("127.0.0.1 localhost {NAME}\n") } else { "127.0.0.1 localhost\n".into() };
        container.add("etc/hosts", &hosts, 0o444);
        let before = container.files();

        let version = container.start(&["version"]).end().await;
        assert!(version.stdout.starts_with(concat!("sezzle-sidecar ", env!("CARGO_PKG_VERSION"))), "{version:?}");
        for command in ["demo", "simulate"] {
            assert_eq!(container.start(&[command]).end().await.code, Some(64), "{command} is not for production");
        }
        assert_eq!(container.start(&["healthcheck"]).end().await.code, Some(1), "nobody listens yet");

        let sidecar = container.start(&["run"]);
        let Ended { code, stdout, stderr } = container.start(&["wait", "--max", "20s"]).end().await;
        assert_eq!((code, stdout.as_str()), (Some(0), "ready\n"), "{stderr}\n{}{}", sidecar.stdout(), sidecar.stderr());
        assert_eq!(dns.asked() == 0, by_hosts_file, "the name came from where it should");
        let health = container.start(&["healthcheck"]).end().await;
        assert_eq!((health.code, health.stdout.as_str()), (Some(0), "alive\n"), "{}", health.stderr);
        let session = Session::order(&gateway);
        let answer = Client::new().get(proxy, &session.path).await;
        assert_eq!((answer.status, answer.json()["uuid"].as_str()), (200, Some(session.uuid.as_str())));

        let status = fs::read_to_string(format!("/proc/{}/status", sidecar.id())).expect("it runs");
        let ids = |kind: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(kind)).expect("a line");
            line.split_whitespace().map(|id| id.parse::<u32>().expect("a number")).collect::<Vec<_>>()
        };
        assert_eq!([ids("Uid:"), ids("Gid:")], [[USER; 4], [USER; 4]]);
        sidecar.signal("TERM");
        let Ended { code, stderr, stdout } = sidecar.end().await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        assert!(!stdout.contains("\"level\":\"WARN\""), "{stdout}");
        assert_eq!(container.files(), before, "it wrote into its root");
        gateway.stop().await;
    }
}
