//! The exit codes of `healthcheck` and `wait` tell the state of a sidecar by its configuration, for containers without
//! a shell and for services that are started beside it.

use std::time::{Duration, Instant};

use sezzle_sidecar::simulator::{Gate, Options, Rule, Simulator};

use crate::support::peer::{Conduct, Peer};
use crate::support::process::{Ended, Folder, Process, Sidecar, free_address, run};

const EXCHANGE: &str = "/v2/authentication";

/// A sidecar that gets no token before the gate opens.
async fn unready(gate: &Gate, variables: &[(&str, &str)]) -> Sidecar {
    let options = Options::default();
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("gateway starts");
    gateway.script(Rule::path(EXCHANGE).gate(gate));
    Sidecar::before(gateway, &keys.0, &keys.1, variables).await
}

#[tokio::test]
async fn alive_whatever_becomes_of_sezzle_and_ready_with_the_first_token() {
    let gate = Gate::new();
    let sidecar = unready(&gate, &[]).await;
    let ops = [("OPS__LISTEN", sidecar.ops.to_string())];
    let ops = ops.each_ref().map(|(name, value)| (*name, value.as_str()));

    let Ended { code, stdout, stderr } = run(&["healthcheck"], &ops).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "alive\n", ""));
    let Ended { code, stdout, stderr } = run(&["wait", "--max", "1s"], &ops).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let says = format!("http://{}/readyz answers 503: not ready: the first token is being obtained", sidecar.ops);
    assert_eq!(stderr, format!("sezzle-sidecar: the sidecar was not ready within 1s: {says}\n"));

    let waiting = Process::start(&["wait"], &ops);
    gate.release();
    let Ended { code, stdout, stderr } = waiting.end().await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "ready\n", ""));

    assert_eq!(sidecar.stop().await.code, Some(0));
    let Ended { code, stdout, stderr } = run(&["healthcheck"], &ops).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&format!("cannot reach the sidecar at {}: ", ops[0].1)), "{stderr}");
}

/// A sidecar's whole environment, with this ops listener.
fn environment<'v>(gateway: &'v str, ops: &'v str) -> [(&'static str, &'v str); 7] {
    [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("GATEWAY__URL", gateway),
        ("CREDENTIALS__PUBLIC_KEY", "sz_pub_simulated"),
        ("CREDENTIALS__PRIVATE_KEY", "sz_pr_simulated"),
        ("PROXY__LISTEN", "127.0.0.1:0"),
        ("DRAIN__GRACE", "0s"),
        ("OPS__LISTEN", ops),
    ]
}

#[tokio::test]
async fn waiting_may_begin_before_the_sidecar_does() {
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let (url, ops) = (gateway.url(), free_address().to_string());
    let vain = run(&["wait", "--max", "1s"], &[("OPS__LISTEN", &ops)]).await;
    assert!(vain.stderr.contains("the sidecar was not ready within 1s: cannot reach the sidecar"), "{vain:?}");
    let waiting = Process::start(&["wait", "--max", "30s"], &[("OPS__LISTEN", &ops)]);
    let sidecar = Process::start(&["run"], &environment(&url, &ops));
    let Ended { code, stdout, stderr } = waiting.end().await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "ready\n", ""));
    sidecar.signal("TERM");
    assert_eq!(sidecar.end().await.code, Some(0));
}

#[tokio::test]
async fn a_draining_sidecar_is_alive_and_not_ready() {
    let mut sidecar = Sidecar::start(Options::default(), &[("DRAIN__GRACE", "10m"), ("DRAIN__TIMEOUT", "20m")]).await;
    let address = sidecar.ops.to_string();
    let ops = [("OPS__LISTEN", address.as_str())];
    sidecar.process.signal("TERM");
    sidecar.process.says("draining").await;
    assert_eq!(run(&["healthcheck"], &ops).await.code, Some(0), "nothing is to be restarted");
    let waited = run(&["wait", "--max", "1s"], &ops).await;
    assert_eq!(waited.code, Some(1));
    assert!(waited.stderr.contains("not ready: draining"), "{}", waited.stderr);
    sidecar.process.signal_again("TERM").await;
    sidecar.process.end().await;
}

#[tokio::test]
async fn a_listener_on_all_addresses_is_asked_on_the_loopback() {
    for all in ["0.0.0.0", "[::]"] {
        let listen = format!("{all}:{}", free_address().port());
        let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
        let url = gateway.url();
        let variables = environment(&url, &listen);
        let sidecar = Process::start(&["run"], &variables);
        for command in ["wait", "healthcheck"] {
            // The sidecar's own environment, as in a container.
            let Ended { code, stderr, .. } = run(&[command], &variables).await;
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command} {listen}");
        }
        sidecar.signal("TERM");
        assert_eq!(sidecar.end().await.code, Some(0));
    }
}

#[tokio::test]
async fn only_the_address_of_the_ops_listener_is_read() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    let folder = Folder::new();
    let base = folder.write("base.toml", "[ops]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"loud\"\n");
    let over = folder.write("over.toml", &format!("[ops]\nlisten = \"{}\"\n[cache]\nmax_tll = 1\n", sidecar.ops));
    for arguments in [
        &["healthcheck", "--config", &base, "--config", &over][..],
        &["--config", &base, "healthcheck", "--config", &over],
        &["--config", &base, "--config", &over, "healthcheck"],
        &["wait", "--max", "20s", "--config", &base, "--config", &over],
    ] {
        let Ended { code, stderr, .. } = run(arguments, &[]).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let variable = [("OPS__LISTEN", "127.0.0.1:1")];
    assert_eq!(run(&["healthcheck", "--config", &over], &variable).await.code, Some(1), "a variable wins");
    sidecar.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_by_their_exit_codes() {
    let folder = Folder::new();
    let wrong = folder.write("wrong.toml", "[ops]\nlisten = \"9464\"\n");
    for (arguments, listen, code, says) in [
        (&["healthcheck", "--config", "/nowhere.toml"][..], "127.0.0.1:1", 78, "/nowhere.toml: cannot be read"),
        (&["wait", "--config", &wrong], "", 78, "ops.listen: expected"),
        (&["healthcheck"], "localhost:9464", 78, "ops.listen: expected"),
        (&["healthcheck"], "127.0.0.1:0", 78, "ops.listen has port 0"),
        (&["wait", "--max", "0s"], "127.0.0.1:1", 64, "expected a duration from 1s to 1d"),
        (&["wait", "--max", "soon"], "127.0.0.1:1", 64, "expected a duration"),
        (&["healthcheck", "--max", "1s"], "127.0.0.1:1", 64, "unexpected argument"),
        (&["healthcheck", "127.0.0.1:9464"], "127.0.0.1:1", 64, "unexpected argument"),
    ] {
        let variables = [("OPS__LISTEN", listen)];
        let variables = if listen.is_empty() { &[][..] } else { &variables[..] };
        let ended = run(arguments, variables).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{arguments:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn another_program_on_the_address_is_not_taken_for_a_healthy_sidecar() {
    for (conduct, says) in [
        (Conduct::Close(b"HTTP/1.1 503 no\r\ncontent-length: 9\r\n\r\nno\x1b[2Jway"), "/livez answers 503: no[2Jway\n"),
        (Conduct::Close(b"HTTP/1.1 204 no\r\n\r\n"), "/livez answers 204: \n"),
        (Conduct::Close(b"SSH-2.0-OpenSSH\r\n"), "did not answer: "),
        (Conduct::Close(b""), "did not answer: "),
        (Conduct::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nali"), "did not answer: "),
        // The last two answers leave the connection open.
        (Conduct::Answer(b""), "did not answer: timed out after 3s"),
        (Conduct::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nali"), "did not answer: timed out after 3s"),
    ] {
        let peer = Peer::start(conduct).await;
        let began = Instant::now();
        let ended = run(&["healthcheck"], &[("OPS__LISTEN", &peer.address().to_string())]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{says}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{says:?} in {:?}", ended.stderr);
        assert!(began.elapsed() < Duration::from_secs(20), "{says}");
    }
    // A listener that hangs cannot delay the command beyond its limit.
    let peer = Peer::start(Conduct::Answer(b"")).await;
    let began = Instant::now();
    let ended = run(&["wait", "--max", "1s"], &[("OPS__LISTEN", &peer.address().to_string())]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the sidecar was not ready within 1s: no answer"), "{}", ended.stderr);
    assert!((1..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let waiting = Process::start(&["wait", "--max", "1d"], &[("OPS__LISTEN", &peer.address().to_string())]);
    waiting.signal("TERM");
    assert_eq!(waiting.end().await.code, None, "a signal ends it");
}
