use std::io;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::simulator::tests::{Caller, soon, start, tls};
use crate::simulator::{Errors, Gate, Options, Reset, Rule, Simulator};

/// Sends bytes and reads until the other side ends.
async fn raw(simulator: &Simulator, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(simulator.addr()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await?;
    Ok(answer)
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let unknown = caller.get("/v2/nothing").await;
    assert_eq!((unknown.status.as_u16(), &unknown.body[..]), (404, &b"404 page not found"[..]));
    assert_eq!(unknown.headers["content-type"], "text/plain");
    simulator.configure(|options| options.plain_404 = false);
    assert_eq!(caller.get("/v2/nothing").await.locations(), ["path"]);
    assert_eq!(caller.get("/v2/session/").await.status, 401);
    let mut caller = Caller::login(&simulator).await;
    assert_eq!(caller.get("/v2/session").await.status, 405);
    let reply = caller.send("PUT", "/v2/orders/report", Bytes::new()).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.locations()), (405, vec!["method".to_owned()]));
}

#[tokio::test]
async fn a_refusal_has_the_form_that_was_asked_for() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await.with_key("of a refusal");
    let path = "/v2/order/none/capture";
    for (form, members) in
        [(Errors::Object, &["code", "debug_uuid", "location", "message"][..]), (Errors::Bare, &["code", "message"])]
    {
        simulator.configure(|options| options.errors = form);
        let refusal = caller.post("/v2/session", &serde_json::json!({})).await;
        assert_eq!(refusal.status, 422);
        assert_eq!(refusal.json().as_object().unwrap().keys().collect::<Vec<_>>(), members);
        assert!(caller.post(path, &serde_json::json!({})).await.json().is_object(), "by key");
    }
    simulator.configure(|options| options.errors = Errors::List);
    assert_eq!(caller.post("/v2/session", &serde_json::json!({})).await.locations().len(), 3);
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let simulator = start().await;
    let mut caller = Caller::login(&simulator).await;
    let get = caller.get("/v2/interest/balance").await;
    let head = caller.send("HEAD", "/v2/interest/balance", Bytes::new()).await.unwrap();
    assert_eq!((head.status, head.body.len()), (get.status, 0));
    assert_eq!(head.headers["content-length"], get.headers["content-length"]);
    assert_eq!(caller.get("/v2/interest/balance").await.body, get.body);
}

#[tokio::test]
async fn the_journal_has_everything_in_order() {
    let simulator = start().await;
    let request = "POST /v2/nothing?a=b HTTP/1.1\r\nHost: here\r\nX-Odd: 1\r\nContent-Length: 3\r\n\r\nabc";
    let next = "GET /v2/next HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    let answer = raw(&simulator, &format!("{request}{next}")).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 404 Not Found\r\n").count(), 2);
    assert_eq!(answer.matches("\r\ndate: ").count(), 2);
    let journal = simulator.journal();
    assert_eq!(journal.len(), 2);
    assert_eq!((journal[0].method.as_str(), journal[0].path.as_str()), ("POST", "/v2/nothing"));
    assert_eq!(journal[0].query.as_deref(), Some("a=b"));
    assert_eq!(
        (journal[0].headers["x-odd"].as_bytes(), journal[0].body.as_ref()),
        (b"1".as_slice(), b"abc".as_slice())
    );
    assert_eq!((journal[0].connection, journal[1].connection), (1, 1));
    assert_eq!((journal[0].status, journal[1].status), (Some(404), Some(404)));
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_wire() {
    let simulator = start().await;
    simulator.script(Rule::any().reset(Reset::BeforeEffect));
    let error = raw(&simulator, "GET / HTTP/1.1\r\nHost: here\r\n\r\n").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn too_large_a_body_is_refused() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    let body = Bytes::from(vec![b' '; 16 * 1024 * 1024 + 1]);
    // The rest of the body may meet a closed connection before the answer is read.
    if let Ok(reply) = soon(caller.send("POST", "/v2/authentication", body)).await {
        assert_eq!(reply.status, 413);
    }
    let entry = simulator.journal().pop().unwrap();
    assert_eq!((entry.status, entry.body.len()), (Some(413), 0));
}

#[tokio::test]
async fn stop_ends_parked_requests_idle_connections_and_the_listener() {
    let simulator = start().await;
    let addr = simulator.addr();
    let gate = Gate::new();
    simulator.script(Rule::path("/parked").gate(&gate));
    let mut idle = Caller::connect(&simulator).await;
    assert_eq!(idle.get("/").await.status, 404);
    let mut parked = Caller::connect(&simulator).await;
    let call = tokio::spawn(async move { parked.send("GET", "/parked", Bytes::new()).await.map(|reply| reply.status) });
    soon(gate.arrived(1)).await;
    let other = simulator.clone();
    soon(simulator.stop()).await;
    assert!(soon(call).await.unwrap().is_err());
    assert!(soon(idle.send("GET", "/", Bytes::new())).await.is_err());
    assert!(TcpStream::connect(addr).await.is_err());
    assert_eq!(other.journal().len(), 2);
    soon(other.stop()).await;
}

#[tokio::test]
async fn it_ends_with_its_last_handle() {
    let simulator = start().await;
    let mut caller = Caller::connect(&simulator).await;
    assert_eq!(caller.get("/").await.status, 404);
    drop(simulator.clone());
    assert_eq!(caller.get("/").await.status, 404);
    drop(simulator);
    assert!(soon(caller.send("GET", "/", Bytes::new())).await.is_err());
}

#[tokio::test]
async fn tls_is_served_on_demand() {
    let (server, connector) = tls(&[]);
    let simulator = Simulator::start(Options { tls: Some(server), ..Options::default() }).await.unwrap();
    assert!(simulator.url().starts_with("https://127.0.0.1:"));
    let stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "));
}
