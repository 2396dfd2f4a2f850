//! Commands, exit codes, signals and log lines of the binary are as documented, and the lines that its tour prints work
//! as they stand.

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::Options;
use tokio::net::TcpListener;

use crate::support::Session;
use crate::support::process::{BINARY, Ended, Folder, Process, Sidecar, free_address, lines, run};

const KEYS: [(&str, &str); 2] =
    [("CREDENTIALS__PUBLIC_KEY", "sz_pub_simulated"), ("CREDENTIALS__PRIVATE_KEY", "sz_pr_simulated")];

/// A complete configuration that reads its keys from `public` and `private` in a folder.
fn configuration(folder: &Folder) -> String {
    let path = folder.path().display();
    format!(
        "[gateway]\nenvironment = \"sandbox\"\n[credentials]\npublic_key_file = \"{path}/public\"\n\
         private_key_file = \"{path}/private\"\n[proxy]\nlisten = [\"127.0.0.1:0\"]\n[ops]\nlisten = \"127.0.0.1:0\"\n"
    )
}

#[tokio::test]
async fn version_names_the_release_and_what_it_was_built_from() {
    let Ended { code, stdout, stderr } = run(&["version"], &[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.starts_with(concat!("sezzle-sidecar ", env!("CARGO_PKG_VERSION"), " (")), "{stdout}");
    assert!(stdout.contains("rustc ") && stdout.ends_with(")\n") && stdout.lines().count() == 1, "{stdout}");
}

#[tokio::test]
async fn help_names_every_command_and_exit_code_and_no_value_of_the_environment() {
    let canary = [("CREDENTIALS__PRIVATE_KEY", "sz_pr_canary"), ("CONFIG", "canary.toml"), ("LOG__LEVEL", "canary")];
    for arguments in [
        &["--help"][..],
        &["help"],
        &["run", "--help"],
        &["check", "--help"],
        &["demo", "--help"],
        &["simulate", "--help"],
    ] {
        let Ended { code, stdout, stderr } = run(arguments, &canary).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!stdout.contains("canary"), "{arguments:?}: {stdout}");
    }
    let help = run(&["--help"], &[]).await.stdout;
    for word in ["run", "check", "demo", "simulate", "version", "--config", "64", "77", "78"] {
        assert!(help.contains(word), "{word} in\n{help}");
    }
}

#[tokio::test]
async fn a_start_with_nothing_at_all_points_to_the_demo() {
    let hint = format!("To try it without an account: {BINARY} demo\n");
    let newcomer = run(&[], &[]).await;
    assert_eq!(newcomer.code, Some(78));
    assert!(newcomer.stderr.ends_with(&hint), "{}", newcomer.stderr);
    // Anybody else wants to repair a configuration.
    for (arguments, variables) in [(&["run"][..], &[][..]), (&[][..], &[("GATEWAY__ENVIRONMENT", "sandbox")][..])] {
        let ended = run(arguments, variables).await;
        assert_eq!(ended.code, Some(78));
        assert!(!ended.stderr.contains("demo"), "{arguments:?}: {}", ended.stderr);
    }
}

/// Settings that are allowed, and whose values are probably mistakes, with what is said of each.
const DOUBTFUL: [(&str, &str, &str); 4] = [
    (
        "CREDENTIALS__PUBLIC_KEY",
        "'canary'",
        "credentials: SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY: the key does not begin with sz_pub_",
    ),
    (
        "CREDENTIALS__PRIVATE_KEY",
        "private_key=canary",
        "credentials: SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY: the key does not begin with sz_pr_",
    ),
    ("LINKS__BASE_URL", "http://localhost", "links.base_url: port 80 of this machine is in no address of proxy.listen"),
    ("WEBHOOKS__FORWARD_SECRET", "canary", "webhooks.forward_secret_file: the secret has fewer than 16 bytes"),
];

#[tokio::test]
async fn a_probable_mistake_is_warned_of_by_check_and_at_the_start() {
    let options =
        Options { public_key: DOUBTFUL[0].1.to_owned(), private_key: DOUBTFUL[1].1.to_owned(), ..Options::default() };
    let listen = free_address().to_string();
    let hooks = [("WEBHOOKS__LISTEN", listen.as_str()), ("WEBHOOKS__FORWARD_TO", "http://127.0.0.1:9/hooks")];
    let variables: Vec<_> = DOUBTFUL.iter().map(|(name, value, _)| (*name, *value)).chain(hooks).collect();
    let sidecar = Sidecar::start(options, &variables).await;

    let url = sidecar.gateway.url();
    let at = [("GATEWAY__ENVIRONMENT", "sandbox"), ("GATEWAY__URL", url.as_str())];
    let variables = [&variables[..], &at].concat();
    let offline = run(&["check"], &variables).await;
    let online = run(&["check", "--online"], &variables).await;
    let ended = sidecar.stop().await;
    for (place, ended) in [("check", &offline), ("check --online", &online), ("run", &ended)] {
        assert_eq!(ended.code, Some(0), "{place}: {}", ended.stderr);
        assert!(!ended.stdout.contains("canary"), "{place}: {}", ended.stdout);
    }
    let lines = lines(&ended.stdout);
    for (_, _, text) in DOUBTFUL {
        assert!(offline.stdout.contains(&format!("# {text}")), "{text}: {}", offline.stdout);
        assert!(online.stdout.contains(&format!("note        {text}")), "{text}: {}", online.stdout);
        let (key, message) = text.split_once(": ").expect("a key");
        let logged = lines.iter().find(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)));
        let logged = logged.unwrap_or_else(|| panic!("{message}: {}", ended.stdout));
        assert_eq!((&logged["level"], &logged["key"]), (&"WARN".into(), &key.into()));
    }
    // Without them nothing is said.
    let quiet = run(&["check"], &[&KEYS[..], &at].concat()).await;
    assert!(quiet.code == Some(0) && quiet.stdout.starts_with("[gateway]"), "{}", quiet.stdout);
}

#[tokio::test]
async fn a_misspelt_command_line_is_a_usage_error() {
    for arguments in [
        &["--unknown"][..],
        &["unknown"],
        &["run", "unknown"],
        &["check", "--config"],
        &["demo", "--config", "sidecar.toml"],
        &["--config", "sidecar.toml", "version"],
        &["--private-key", "sz_pr_canary"],
        &["simulate", "--listen", "nowhere"],
        &["simulate", "--tls-key", "key.pem"],
    ] {
        let Ended { code, stdout, stderr } = run(arguments, &[]).await;
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: "), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn check_prints_a_configuration_that_means_the_same() {
    let folder = Folder::new();
    let file = folder.write("sidecar.toml", &format!("{}[cache]\nmax_ttl = \"42s\"\n", configuration(&folder)));
    let first = run(&["check", "--config", &file], &[]).await;
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), ""));
    let parsed: toml::Table = first.stdout.parse().unwrap_or_else(|error| panic!("{error}:\n{}", first.stdout));
    assert_eq!(parsed["cache"]["max_ttl"].as_str(), Some("42s"));

    let printed = folder.write("printed.toml", &first.stdout);
    let second = run(&["check", "--config", &printed], &[]).await;
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), ""));
    let again: toml::Table = second.stdout.parse().expect("TOML");
    assert_eq!(again, parsed);
}

#[tokio::test]
async fn check_redacts_keys_that_come_by_variable() {
    let folder = Folder::new();
    let variables =
        [("GATEWAY__ENVIRONMENT", "sandbox"), KEYS[0], ("CREDENTIALS__PRIVATE_KEY", "sz_pr_canary"), KEYS[0]];
    let Ended { code, stdout, stderr } = run(&["check"], &variables).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(!stdout.contains("canary") && !stdout.contains("sz_pub_simulated"), "{stdout}");
    assert!(stdout.contains("redacted") && stdout.contains("SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY"), "{stdout}");

    // The output is a valid configuration, apart from the two secrets, which no file may hold.
    let rest: String =
        stdout.lines().filter(|line| !line.contains("redacted")).map(|line| format!("{line}\n")).collect();
    let printed = folder.write("printed.toml", &rest);
    let again = run(&["check", "--config", &printed], &KEYS).await;
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn check_lists_every_mistake_at_once() {
    let folder = Folder::new();
    let file = folder.write(
        "five.toml",
        "[gateway]\nenvironment = \"staging\"\nread_timeout = \"soon\"\n[credentials]\npublic_key_file = \"p\"\n\
         private_key_file = \"q\"\n[proxy]\nlisten = [\"0.0.0.0:8080\"]\n[links]\nbase_url = \"http://localhost\"\n\
         [cache]\nmax_tll = \"1s\"\n[log]\nlevel = \"loud\"\n",
    );
    for arguments in [["check", "--config", &file], ["run", "--config", &file]] {
        let Ended { code, stdout, stderr } = run(&arguments, &[]).await;
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 5, "{stderr}");
        for key in ["gateway.environment", "gateway.read_timeout", "proxy.listen", "cache.max_tll", "log.level"] {
            let about = lines.iter().filter(|line| line.starts_with(&format!("{key}: ")) && line.contains(&file));
            assert_eq!(about.count(), 1, "{key} in\n{stderr}");
        }
        assert!(stderr.contains("did you mean cache.max_ttl"), "{stderr}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_bad_configuration() {
    let Ended { code, stderr, .. } = run(&["check", "--config", "/nowhere/sidecar.toml"], &KEYS).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("/nowhere/sidecar.toml: cannot be read"), "{stderr}");
}

#[tokio::test]
async fn later_files_win_and_the_environment_wins_over_files() {
    let folder = Folder::new();
    let base = folder.write("base.toml", &format!("{}[cache]\nmax_ttl = \"11s\"\n", configuration(&folder)));
    let over = folder.write("over.toml", "[cache]\nmax_ttl = \"22s\"\n");
    let max_ttl = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let ended = run(arguments, variables).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        let parsed: toml::Table = ended.stdout.parse().expect("TOML");
        parsed["cache"]["max_ttl"].as_str().expect("text").to_owned()
    };
    assert_eq!(max_ttl(&["check", "--config", &base, "--config", &over], &[]).await, "22s");
    assert_eq!(max_ttl(&["check", "--config", &over, "--config", &base], &[]).await, "11s");
    let variable = [("CACHE__MAX_TTL", "33s")];
    assert_eq!(max_ttl(&["check", "--config", &base, "--config", &over], &variable).await, "33s");
    // No file is dropped, wherever its option stands.
    assert_eq!(max_ttl(&["--config", &base, "check", "--config", &over], &[]).await, "22s");
    assert_eq!(max_ttl(&["--config", &base, "--config", &over, "check"], &[]).await, "22s");
}

#[tokio::test]
async fn a_key_file_that_cannot_be_used_ends_the_start_and_is_named() {
    let folder = Folder::new();
    let file = folder.write("sidecar.toml", &configuration(&folder));
    let private = folder.path().join("private").display().to_string();
    folder.write("public", "sz_pub_canary\n");

    let missing = run(&["run", "--config", &file], &[]).await;
    assert_eq!(missing.code, Some(77), "{}", missing.stderr);
    assert!(missing.stderr.contains(&format!("{private}: cannot be read")), "{}", missing.stderr);

    for mode in [0o602, 0o622, 0o666] {
        folder.write_with("private", "sz_pr_canary\n", mode);
        let writable = run(&["run", "--config", &file], &[]).await;
        assert_eq!(writable.code, Some(77), "{mode:o}: {}", writable.stderr);
        assert!(
            writable.stderr.contains(&format!("{private}: users other than the owner may write this file")),
            "{}",
            writable.stderr
        );
        assert!(!format!("{writable:?}").contains("canary"), "{writable:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_ends_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let free = free_address().to_string();
    for (key, listen) in [("proxy.listen", [&address, &free]), ("ops.listen", [&free, &address])] {
        let variables = [
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            KEYS[0],
            KEYS[1],
            ("PROXY__LISTEN", listen[0]),
            ("OPS__LISTEN", listen[1]),
        ];
        // Without a command the binary runs the sidecar.
        let Ended { code, stderr, .. } = run(&[], &variables).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(&format!("{key}: cannot listen on {address}")), "{stderr}");
        assert!(stderr.contains("; end the process that listens there, which `ss -ltnp` names"), "{stderr}");
    }
}

#[tokio::test]
async fn a_signal_drains_and_ends_the_process_well() {
    for signal in ["TERM", "INT"] {
        let sidecar = Sidecar::start(Options::default(), &[]).await;
        let Session { uuid, path, .. } = Session::order(&sidecar.gateway);
        let answer = sidecar.get(&path).await;
        assert_eq!((answer.status, answer.json()["uuid"].as_str()), (200, Some(uuid.as_str())));
        assert!(sidecar.get(&path).await.cache().starts_with("hit"));

        sidecar.process.signal(signal);
        let Ended { code, stdout, stderr } = sidecar.process.end().await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{signal}: {stdout}");
        let messages: Vec<String> = lines(&stdout).iter().map(|line| line["message"].to_string()).collect();
        assert_eq!(messages.last().map(String::as_str), Some("\"drained\""), "{signal}: {stdout}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        // Far longer than a test waits.
        let drain = [("DRAIN__GRACE", "10m"), ("DRAIN__TIMEOUT", "20m")];
        let mut sidecar = Sidecar::start(Options::default(), &drain).await;
        sidecar.process.signal(first);
        sidecar.process.says("draining").await;
        assert_eq!(sidecar.client.get(sidecar.ops, "/readyz").await.status, 503, "{first}");
        assert_eq!(sidecar.get("/v2/customer").await.status, 200, "{first}: in grace it goes on serving");
        sidecar.process.signal_again(second).await;
        let Ended { code, stdout, stderr } = sidecar.process.end().await;
        assert_eq!(code, Some(1), "{first}, {second}: {stderr}");
        assert!(stderr.contains("the sidecar stopped before its connections and writes had ended"), "{stderr}");
        assert!(!stdout.contains("drained"), "{stdout}");
    }
}

#[tokio::test]
async fn the_log_is_one_json_object_per_line_and_one_line_per_request() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let Session { uuid, path, order, order_path, .. } = Session::tokenize(&sidecar.gateway);
    let id = [("x-request-id", "one")];
    sidecar.send(Method::GET, &path, &id, "").await;
    sidecar.send(Method::GET, &path, &[("x-request-id", "two")], "").await;
    sidecar.send(Method::POST, &format!("{order_path}/capture"), &[("x-request-id", "three")], "{}").await;
    sidecar.send(Method::GET, "/elsewhere", &[("x-request-id", "four")], "").await;
    let patch = r#"{"reference_id":"new"}"#;
    sidecar.send(Method::PATCH, &order_path, &[("x-request-id", "five")], patch).await;
    sidecar.send(Method::HEAD, &path, &[("x-request-id", "six")], "").await;
    let ended = sidecar.stop().await;

    let lines = lines(&ended.stdout);
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field} in {line}");
        }
    }
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), 6, "{}", ended.stdout);
    for (id, method, route, code, source, cache) in [
        ("one", "GET", "/v2/session/{session}", 200, "upstream", "miss"),
        ("two", "GET", "/v2/session/{session}", 200, "cache", "hit"),
        ("three", "POST", "/v2/order/{order}/capture", 422, "upstream", "bypass"),
        ("four", "GET", "other", 404, "sidecar", "bypass"),
        ("five", "PATCH", "/v2/order/{order}", 204, "upstream", "bypass"),
        ("six", "HEAD", "/v2/session/{session}", 200, "upstream", "miss"),
    ] {
        let line = requests.iter().find(|line| line["request_id"] == id).expect(id);
        assert_eq!(line["method"], method, "{line}");
        assert_eq!(line["route"], route, "{line}");
        assert_eq!(line["code"], code, "{line}");
        assert_eq!(line["source"], source, "{line}");
        assert_eq!(line["cache"], cache, "{line}");
        assert!(line.get("aborted").is_none(), "an answer without a body is whole: {line}");
        assert!(line["dur_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
    }
    assert!(requests.iter().all(|line| line["target"] == "sezzle_sidecar::proxy::record"), "a name to filter by");
    assert_eq!(requests[0]["session"], uuid.as_str());
    assert_eq!(requests[2]["order"], order.as_str());
    assert_eq!(requests[3]["error"], "not_found");
}

#[tokio::test]
async fn at_warn_no_request_has_a_line() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "warn")]).await;
    for path in ["/v2/customer", "/v2/session/fadbc642-05a4-4e38-9e74-80e325623af9", "/v2/elsewhere"] {
        sidecar.get(path).await;
    }
    let ended = sidecar.stop().await;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
}

#[tokio::test]
async fn text_is_for_people() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__FORMAT", "text")]).await;
    sidecar.get("/v2/customer").await;
    let log = sidecar.stop().await.stdout;
    let line = log.lines().find(|line| line.contains("route=\"/v2/customer\"")).expect("a line for the request");
    assert!(line.contains(" INFO ") && line.contains("code=200"), "{line}");
    assert!(!log.contains('\u{1b}'), "no colours in what is collected");
}

#[tokio::test]
async fn the_tour_can_end_by_itself() {
    let Ended { code, stdout, stderr } = run(&["demo", "--once"], &[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for promise in [
        "Requests that reached the gateway: 1\n",
        "100 callers look up another session at once: 100 answers, 1 request to the gateway\n",
        "captured 2500 cents",
        "exchanged its keys for a token once.\n",
        "The tour is over.",
    ] {
        assert!(stdout.contains(promise), "{promise} in\n{stdout}");
    }
}

#[tokio::test]
async fn every_line_the_tour_prints_to_try_works_as_printed() {
    // Occupies the usual ports, so that the tour must choose others. Another process may hold them, which serves as
    // well.
    let taken = [TcpListener::bind("127.0.0.1:8080").await, TcpListener::bind("127.0.0.1:9464").await];
    let mut demo = Process::start(&["demo"], &[]);
    demo.says("Ctrl-C stops it.").await;
    let tour = demo.stdout();
    assert!(!tour.contains("127.0.0.1:8080") && !tour.contains("127.0.0.1:9464"), "both are taken:\n{tour}");
    drop(taken);

    let commands: Vec<&str> = tour.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert!(commands.len() >= 7, "{tour}");
    let folder = Folder::new();
    for command in commands {
        // The printed line, with options to fail on a status from 400 on and to limit the wait.
        let line = format!("{command} --fail --max-time 20");
        let Ended { code, stdout, stderr } = Process::shell(&line, folder.path(), &[]).end().await;
        assert_eq!(code, Some(0), "{line}\n{stdout}\n{stderr}");
        let answer = stdout;
        assert!(!answer.trim().is_empty(), "{line} answers nothing");
        if command.contains("/readyz") {
            assert_eq!(answer, "ready\n");
        }
    }

    demo.signal("INT");
    let Ended { code, stderr, .. } = demo.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}
