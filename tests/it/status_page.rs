//! The status page tells operators what happened, is of no use to other pages, and needs nothing but itself. Programs of
//! several kinds look at it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use sezzle_sidecar::simulator::{Fault, Reset, Rule};

use crate::support::browser::{Browser, Screen};
use crate::support::client::Answer;
use crate::support::process::Folder;
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, eventually};

async fn ask(address: SocketAddr, method: &str, lines: &[&str]) -> Answer {
    let mut wire = Wire::connect(address).await;
    wire.send(format!("{method} / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))).await;
    if method == "HEAD" { wire.answer_to_head().await } else { wire.answer().await }
}

async fn page(harness: &Harness) -> String {
    ask(harness.control(), "GET", &["host: localhost"]).await.text()
}

/// The page's text without its markup.
fn words(page: &str) -> String {
    let body = page.split_once("<body>").expect("a body").1;
    body.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text).collect()
}

fn says(page: &str, expected: &[&str]) {
    let words = words(page);
    for expected in expected {
        assert!(words.contains(expected), "{expected:?} in\n{words}");
    }
}

fn controlled() -> Setup {
    Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0")
}

#[tokio::test]
async fn the_page_is_served_to_operators_and_unless_switched_off_to_the_network() {
    let harness = controlled().start().await;
    let answer = ask(harness.control(), "GET", &["host: localhost"]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(ask(harness.ops, "GET", &["host: localhost"]).await.status, 200);
    assert_eq!(ask(harness.proxy, "GET", &["host: localhost"]).await.status, 404);
    harness.stop().await;

    let harness = Setup::default().set("OPS__STATUS_PAGE", "false").start().await;
    assert_eq!(ask(harness.ops, "GET", &["host: localhost"]).await.status, 404);
    harness.stop().await;

    let harness = Setup::default().set("PROXY__HOSTS", "sidecar.pod").start().await;
    for (host, status) in [("localhost:1", 200), ("127.0.0.1", 200), ("sidecar.pod", 200), ("evil.example", 421)] {
        assert_eq!(ask(harness.ops, "GET", &[&format!("host: {host}")]).await.status, status, "{host}");
    }
    assert_eq!(harness.client.get(harness.ops, "/other").await.status, 404);
    harness.stop().await;
}

#[tokio::test]
async fn a_browser_may_show_the_page_and_no_other_page_may_use_it() {
    let harness = controlled().start().await;
    let ask = async |method, lines: &[&str]| ask(harness.control(), method, lines).await;
    let host = "host: localhost";
    let shown = ["sec-fetch-mode: navigate", "sec-fetch-dest: document", "sec-fetch-user: ?1"];
    for site in ["none", "same-origin", "cross-site"] {
        let site = format!("sec-fetch-site: {site}");
        assert_eq!(ask("GET", &[&[host, &site], &shown[..]].concat()).await.status, 200, "{site}");
    }
    for (lines, status) in [
        (&["host: evil.example"][..], 421),
        (&["x: y"], 400),
        (&[host, "host: localhost"], 400),
        (&[host, "origin: null"], 403),
        (&[host, "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"], 403),
        (&[host, "sec-fetch-mode: no-cors", "sec-fetch-dest: image"], 403),
        (&[host, "sec-fetch-mode: cors", "sec-fetch-dest: empty"], 403),
        (&[host, "sec-fetch-mode: navigate", "sec-fetch-dest: document", "sec-fetch-dest: iframe"], 403),
    ] {
        let answer = ask("GET", lines).await;
        assert_eq!(answer.status, status, "{lines:?}");
        assert!(!answer.text().contains('<'), "{}", answer.text());
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(method, &[host, "content-length: 0"]).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
    }
    let head = ask("HEAD", &[host]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.header("content-length").parse::<usize>().expect("a length") > 5000);

    let answer = ask("GET", &[host]).await;
    let policy = answer.header("content-security-policy");
    for part in ["default-src 'none'", "style-src 'sha256-", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src") && !policy.contains('*'), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
    harness.stop().await;
}

#[tokio::test]
async fn a_browser_may_show_the_other_paths_of_the_ops_listener_and_no_page_may_use_them() {
    let harness = Harness::start().await;
    let shown = ["sec-fetch-site: none", "sec-fetch-mode: navigate", "sec-fetch-dest: document", "sec-fetch-user: ?1"];
    for path in ["/metrics", "/livez", "/readyz"] {
        for (lines, status) in [
            (&[][..], 200),
            (&shown[..], 200),
            (&["sec-fetch-mode: cors"], 200),
            (&["origin: null"], 403),
            (&["sec-fetch-site: same-origin", "sec-fetch-mode: cors", "sec-fetch-dest: empty"], 403),
            (&["sec-fetch-dest: script"], 403),
            (&["sec-fetch-user: ?1"], 403),
        ] {
            let mut wire = Wire::connect(harness.ops).await;
            let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            wire.send(format!("GET {path} HTTP/1.1\r\nhost: rebound.example\r\n{lines}\r\n")).await;
            assert_eq!(wire.answer().await.status, status, "{path} {lines}");
        }
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_page_tells_what_happened() {
    let harness = controlled().start().await;
    let merchant = harness.gateway.journal().len();
    assert_eq!(merchant, 1, "one exchange");
    let first = page(&harness).await;
    says(
        &first,
        &["Ready, all is well", "Nothing.", "sandbox", "lasts 1 h 4", "None since the start.", "of 0 session"],
    );
    says(&first, &[&harness.gateway.url(), env!("CARGO_PKG_VERSION")]);

    let Session { uuid, path: lookup, order, order_path, .. } = Session::tokenize(&harness.gateway);
    for _ in 0..4 {
        assert_eq!(harness.get(&lookup).await.status, 200);
    }
    let second = page(&harness).await;
    says(&second, &["75 % of 4 session lookups", "3 not made to Sezzle", "2 of which 0 failed"]);
    says(&second, &["Session lookups, from memory3", "Session lookups, from Sezzle1", "1, ", " of 32 MiB"]);

    // A write with an unknown outcome, a failed lookup, and a refused caller.
    let path = format!("{order_path}/checkout");
    harness.gateway.script(Rule::path(&path).reset(Reset::AfterEffect));
    let unknown = harness.send(http::Method::DELETE, &path, &[("x-request-id", "write-7")], "").await;
    assert_eq!(unknown.error_code(), "sidecar.outcome_unknown");
    harness.gateway.script(Rule::path("/v2/customer").fault(Fault::Garbage("no HTTP\r\n\r\n".into())));
    assert_eq!(harness.get_with("/v2/customer?email=a@b.example", &[("x-request-id", "read-8")]).await.status, 502);
    assert_eq!(harness.get_with(&lookup, &[("origin", "null")]).await.status, 403);
    let third = page(&harness).await;
    says(
        &third,
        &[
            "Ready, but in trouble",
            "The outcome of 1 write of the last hour is not known",
            "DELETE /v2/order/{order}/checkout: outcome_unknown\nOnce, ",
            "request write-7",
            "GET /v2/customer: 502 upstream_failed (protocol)",
            "request read-8",
            "GET request: 403 browser_refused",
            "protocolthe answer was not HTTP1",
            "resetthe connection ended before the answer1",
        ],
    );
    for personal in [uuid.as_str(), "a@b.example"] {
        assert!(!third.contains(personal), "{personal}");
    }
    let write = "DELETE /v2/order/{order}/checkout outcome unknown\njust now";
    says(&third, &[write, &format!("order {order}, request write-7, Sezzle-Request-Id none")]);
    assert_eq!(third.matches("outcome_unknown</strong>").count(), 1, "told once");
    harness.stop().await;
}

#[tokio::test]
async fn a_task_of_its_own_remembers_an_hour_for_the_page() {
    let harness = controlled().start().await;
    let lookup = Session::order(&harness.gateway).path;
    harness.get(&lookup).await;
    harness.get(&lookup).await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::SERVICE_UNAVAILABLE));
    harness.get("/v2/customer").await;
    // The page is not opened meanwhile: the task takes its sample within half a minute.
    harness.clock.advance(Duration::from_secs(31));
    for _ in 0..100 {
        // The task runs on this thread.
        tokio::task::yield_now().await;
    }
    harness.clock.advance(Duration::from_secs(25 * 60));
    let later = page(&harness).await;
    says(&later, &["50 % of 2 session lookups", "GET /v2/customer: 503 from Sezzle\nOnce, 25 min ago"]);
    // The age counts from the event, not from the first look at the page.
    says(&later, &["30 to 202150 %", "10 to 000–00"]);
    harness.clock.advance(Duration::from_secs(3600));
    let gone = page(&harness).await;
    says(&gone, &["of 0 session lookups", "Once, 1 h 25 min ago", "Running for1 h 25 min"]);
    harness.stop().await;
}

#[tokio::test]
async fn the_page_says_why_the_sidecar_is_not_ready_and_that_the_token_is_gone() {
    let refusing = controlled()
        .gateway(|gateway| gateway.token_life = Duration::from_secs(600))
        .start_with(|gateway| gateway.set_keys("sz_pub_others", "sz_pr_others"))
        .await;
    eventually("refused", async || page(&refusing).await.contains("Not ready: Sezzle rejected")).await;
    let shown = page(&refusing).await;
    says(&shown, &["not known yet", "there is none", "token exchange: rejected\n"]);
    assert!(shown.contains(", sandbox: Not ready – sezzle-sidecar</title>"), "{shown}");
    refusing.stop().await;

    let harness = controlled().start().await;
    says(&page(&harness).await, &["Ready, all is well"]);
    harness.gateway.set_keys("sz_pub_others", "sz_pr_others");
    harness.clock.advance(Duration::from_secs(100 * 60));
    eventually("refused", async || page(&harness).await.contains("The token in use lasts another")).await;
    harness.clock.advance(Duration::from_secs(30 * 60));
    eventually("ended", async || page(&harness).await.contains("There is no live token, so the sidecar sends no call"))
        .await;
    harness.stop().await;
}

/// An hour of a shop: more and more lookups, and now and then a write and a report.
async fn an_hour(harness: &Harness) {
    for step in 0..29_u32 {
        for session in 0..(2 + step % 7) {
            let lookup = Session::order(&harness.gateway).path;
            for _ in 0..=(session + step / 6) {
                harness.get(&lookup).await;
            }
        }
        harness.post("/v2/session", "{}").await;
        if step % 5 == 0 {
            harness.get("/v2/orders/report?start-date=2026-01-01").await;
            harness.get("/v2/customer").await;
        }
        if (11..14).contains(&step) {
            harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::SERVICE_UNAVAILABLE).times(3));
            harness.get("/v2/customer").await;
        }
        page(harness).await;
        harness.clock.advance(Duration::from_secs(120));
    }
}

/// The longest id that a caller may send.
const LONG_ID: &str = "0123456789abcdef-0123456789abcdef-0123456789abcdef-0123456789abcdef-0123456789abcdef-0123456789abcdef-0123456789abcdef-012345678";

/// The failures of a bad night.
async fn a_bad_night(harness: &Harness) {
    let checkout = format!("{}/checkout", Session::tokenize(&harness.gateway).order_path);
    harness.gateway.script(Rule::path(&checkout).reset(Reset::AfterEffect));
    harness.send(http::Method::DELETE, &checkout, &[], "").await;
    harness.gateway.script(Rule::path("/v2/interest/balance").status(StatusCode::TOO_MANY_REQUESTS));
    harness.get("/v2/interest/balance?start-date=2026-01-01").await;
    harness.get("/v2/interest/balance?start-date=2026-01-01").await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::INTERNAL_SERVER_ERROR));
    for _ in 0..30 {
        harness.get("/v2/customer").await;
    }
    harness.get_with("/v2/customer", &[("host", "payments.internal"), ("x-request-id", LONG_ID)]).await;
    harness.gateway.set_keys("sz_pub_others", "sz_pr_others");
    // A new token is due, and the one in use has not expired.
    harness.clock.advance(Duration::from_secs(36 * 60));
    eventually("refused", async || page(harness).await.contains("No new token")).await;
    harness.gateway.script(Rule::path(&checkout).reset(Reset::AfterEffect));
    harness.send(http::Method::DELETE, &checkout, &[], "").await;
    for _ in 0..30 {
        harness.get("/v2/customer").await;
    }
    harness.get("/v2/interest/balance?start-date=2026-01-01").await;
}

const SCREENS: [Screen; 3] = [
    Screen { name: "small", width: 320, height: 568, scale: 2 },
    Screen { name: "phone", width: 390, height: 844, scale: 2 },
    Screen { name: "desktop", width: 1280, height: 900, scale: 1 },
];

/// The least contrast between a text and its background, and that text.
const CONTRAST: &str = r#"
    const numbers = text => text.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
        return .2126 * x + .7152 * y + .0722 * z;
    };
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const c = numbers(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c;
        }
        return [255, 255, 255];
    };
    let least = [99, ""], seen = 0;
    for (const element of document.body.querySelectorAll("*:not(svg *)")) {
        const text = [...element.childNodes].filter(n => n.nodeType == 3).map(n => n.data.trim()).join("");
        if (!text) continue;
        seen += 1;
        const [a, b] = [numbers(getComputedStyle(element).color), behind(element)].map(light);
        const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (contrast < least[0]) least = [contrast, text];
    }
    return [...least, seen];
"#;

/// Every element that is wider than the screen.
const OVERFLOW: &str = r#"
    document.querySelectorAll("details").forEach(details => { details.open = true; });
    const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1)
        .map(e => e.tagName + ": " + e.textContent.slice(0, 40));
"#;

fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("status-page");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[tokio::test]
#[ignore = "needs chromium: tests/run"]
async fn a_browser_shows_the_page_on_every_screen_and_complains_of_nothing() {
    let harness = controlled().start().await;
    let (browser, folder) = (Browser::start().await, pictures());
    let url = format!("http://{}/", harness.control());
    for state in ["start", "well", "trouble"] {
        match state {
            "start" => {}
            "well" => an_hour(&harness).await,
            _ => a_bad_night(&harness).await,
        }
        for screen in SCREENS {
            let mut seen = Vec::new();
            for scheme in ["light", "dark"] {
                let what = format!("{state}-{}-{scheme}", screen.name);
                browser.prefer(screen, scheme).await;
                browser.open(&url).await;
                let picture = browser.picture().await;
                assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{what}: {}", picture.len());
                fs::write(folder.join(format!("{what}.png")), &picture).expect("writes");
                seen.push(picture);

                let contrast = browser.run(CONTRAST).await;
                assert!(contrast[2].as_u64().is_some_and(|texts| texts > 50), "{what}: {contrast}");
                assert!(contrast[0].as_f64().is_some_and(|least| least >= 4.5), "{what}: {contrast}");
                let wide = browser.run(OVERFLOW).await;
                assert_eq!(wide.as_array().map(Vec::len), Some(0), "{what}: {wide}");
                let styled =
                    browser.run("return getComputedStyle(document.querySelector('.state')).borderRadius").await;
                assert_eq!(styled, "16px", "{what}: the policy lets its style through");
                assert_eq!(browser.complaints().await, [""; 0], "{what}");
                let asked = browser.requests().await;
                assert!(asked.contains(&url), "{asked:?}");
                assert!(asked.iter().all(|asked| *asked == url || asked.starts_with("data:")), "{what}: {asked:?}");
            }
            assert!(seen[0] != seen[1], "{state} {}: light and dark look the same", screen.name);
        }
    }

    // The browser would have reported a problem: the policy is in force, and a breach causes a complaint.
    browser.run("document.body.setAttribute('style', 'color: red'); return 1").await;
    eventually("a complaint", async || !browser.complaints().await.is_empty()).await;
    browser.open(&format!("{url}?refresh")).await;
    let refresh = browser.run("return document.querySelector('meta[http-equiv=refresh]').content").await;
    assert_eq!(refresh, "30");
    // The reader follows a link.
    browser.run("document.querySelector('footer a').click(); return 1").await;
    eventually("back", async || browser.run("return location.href").await == url).await;
    assert_eq!(browser.run("return document.querySelectorAll('h1').length").await, 1);
    browser.stop().await;
    harness.stop().await;
}

/// A program's exit code and its rendering of the page.
fn read_by(program: &str, arguments: &[&str], page: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let file = folder.write("page.html", page);
    let output = Command::new(program).args(arguments).arg(&file).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[tokio::test]
#[ignore = "needs w3m and lynx: tests/run"]
async fn the_page_is_readable_in_a_terminal() {
    let harness = controlled().start().await;
    an_hour(&harness).await;
    a_bad_night(&harness).await;
    let page = page(&harness).await;
    for (program, arguments) in [
        ("w3m", &["-dump", "-cols", "80", "-T", "text/html", "-O", "UTF-8"][..]),
        ("lynx", &["-dump", "-nolist", "-width=80", "-display_charset=UTF-8"]),
    ] {
        let (code, shown) = read_by(program, arguments, &page);
        assert_eq!(code, Some(0), "{program}: {shown}");
        fs::write(pictures().join(format!("{program}.txt")), &shown).expect("writes");
        let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "sezzle-sidecar sandbox on ",
            "Ready, but in trouble",
            "What needs attention",
            "is not known (outcome_unknown)",
            "Environment",
            "Hit ratio",
            "Session lookups, from memory",
            "open: holds back every call",
            "outcome_unknown",
            "GET request: 421 misdirected",
        ] {
            assert!(flat.contains(words), "{program}: {words:?} in\n{shown}");
        }
        // Except for a word that is longer by itself.
        let fits = |line: &str| line.chars().count() <= 80 || line.contains(LONG_ID);
        assert!(shown.lines().all(fits), "{program}:\n{shown}");
        assert!(!shown.contains("<") && !flat.contains("color-scheme"), "{program}:\n{shown}");
    }
    harness.stop().await;
}

#[tokio::test]
#[ignore = "needs tidy: tests/run"]
async fn the_html_is_valid() {
    let harness = controlled().start().await;
    an_hour(&harness).await;
    let well = page(&harness).await;
    a_bad_night(&harness).await;
    for page in [&well, &page(&harness).await] {
        let (code, complaints) = read_by("tidy", &["-errors", "-quiet", "--show-info", "no"], page);
        assert_eq!((code, complaints.as_str()), (Some(0), ""));
    }
    let (code, _) = read_by("tidy", &["-errors", "-quiet"], &well.replace("</table>", "</tabel>"));
    assert_ne!(code, Some(0), "it would have complained");
    harness.stop().await;
}
