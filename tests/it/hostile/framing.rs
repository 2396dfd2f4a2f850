//! The end of a request: two framings, lengths that are not numbers, chunks that are not chunks.

use super::{HIDDEN, SEEN, Then, post, refused, run};

#[tokio::test]
async fn two_framings_make_no_second_request() {
    let chunked = format!("5\r\nhello\r\n0\r\n\r\n{HIDDEN}");
    let mut cases = Vec::new();
    // Both framings: the chunks count (RFC 9112, 6.3), the length is not passed on, and no byte after the chunks is
    // read.
    for lines in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        "content-length: 999\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: nonsense\r\n",
        "Transfer-Encoding: Chunked\r\nContent-Length: 4\r\n",
    ] {
        cases.push(refused(lines, post(lines, &chunked)).sees(&[SEEN]).gets(&[400]));
    }
    // A coding that some parsers take for chunked and others do not.
    for lines in [
        "transfer-encoding : chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunkedx\r\n",
        "transfer-encoding: x\r\n chunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: 'chunked'\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \u{b}chunked\r\n",
        "transfer-encoding: chunked\0\r\n",
        "transfer-encoding\0: chunked\r\n",
        "transfer-encoding: \r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: ,chunked\r\n",
        "content-length: 0\r\ntransfer-encoding: identity\r\n",
        "content-length: 5\r\ntransfer-encoding : chunked\r\n",
        "content-length: 5\r\ntransfer-encoding: xchunked\r\n",
        "content-length: 5\r\ntransfer-encoding:\u{b}chunked\r\n",
    ] {
        cases.push(refused(lines, post(lines, &chunked)));
    }
    // White space around the value, and its case, change nothing.
    for lines in
        ["transfer-encoding: chunked \t\r\n", "transfer-encoding:\tchunked\r\n", "TRANSFER-ENCODING:CHUNKED\r\n"]
    {
        let sent = post(lines, "5\r\nhello\r\n0\r\n\r\n");
        cases.push(refused(lines, sent).sees(&[SEEN]).then(Then::Kept));
    }
    // Two such lines state that the body was chunked twice.
    let lines = "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    cases.push(refused(lines, post(lines, &chunked)));
    // Names that differ from the framing headers are no framing. So there is no body, and the bytes of the supposed
    // body are a request that makes no sense.
    for lines in ["transfer_encoding: chunked\r\n", "x-transfer-encoding: chunked\r\n"] {
        let case = refused(lines, post(lines, &chunked)).sees(&["POST /v2/webhooks/test"]);
        cases.push(case.gets(&[400, 400]));
    }
    run(cases).await;
}

#[tokio::test]
async fn a_length_is_one_plain_number() {
    let body = format!("hello{HIDDEN}");
    let mut cases = Vec::new();
    for value in [
        "+5",
        "-1",
        "-0",
        "0x5",
        "5 5",
        " 5 5",
        "5,5",
        "5, 5",
        "5,",
        ",5",
        "5;",
        "5.0",
        "5e0",
        "\u{b}5",
        "5\u{c}",
        "５",
        "",
        "five",
        "5\r\n 5",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999",
    ] {
        cases.push(refused(format!("length {value:?}"), post(&format!("content-length: {value}\r\n"), &body)));
    }
    for lines in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5\r\ncontent-length: 0\r\n",
        "content-length: 0\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: +5\r\n",
        "content-length : 5\r\n",
        "content-length\t: 5\r\n",
        " content-length: 5\r\n",
        "content-length: 5\rx: 1\r\n",
        "content-length: 5\0\r\n",
    ] {
        cases.push(refused(lines, post(lines, &body)));
    }
    // The largest possible number: a body that is too large, not a small one.
    cases.push(refused("largest", post("content-length: 18446744073709551613\r\n", &body)).gets(&[413]));
    cases.push(refused("more than that", post("content-length: 18446744073709551615\r\n", &body)).gets(&[431]));
    cases.push(refused("4 GiB and 5", post("content-length: 4294967301\r\n", &body)).gets(&[413]));
    for lines in ["content-length: 5\r\ncontent-length: 5\r\n", "content-length: 0005\r\n", "content-length: \t5 \r\n"]
    {
        cases.push(refused(lines, post(lines, "hello")).sees(&[SEEN]).then(Then::Kept));
    }
    let lines = "content_length: 5\r\n";
    let case = refused(lines, post(lines, "\0hello")).sees(&["POST /v2/webhooks/test"]);
    cases.push(case.gets(&[400, 400]));
    run(cases).await;
}

#[tokio::test]
async fn chunks_are_read_strictly() {
    let chunks = |body: &str| post("transfer-encoding: chunked\r\n", body);
    let mut cases = Vec::new();
    for body in [
        "-1\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloxx0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5;x=\n\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\nffffffffffffffffffffffff\r\n",
        "5\r\nhello\r\n0\r\nx\r\n\r\n",
        "5\r\nhello\r\n0\r\nx : 1\r\n\r\n",
    ] {
        cases.push(refused(format!("chunks {body:?}"), chunks(&format!("{body}{HIDDEN}"))));
    }
    let flood = format!("5;{}\r\nhello\r\n0\r\n\r\n{HIDDEN}", "x".repeat(64 * 1024));
    cases.push(refused("a long chunk extension", chunks(&flood)));
    let many = format!("{}5\r\nhello\r\n0\r\n\r\n{HIDDEN}", format!("1;{}\r\nx\r\n", "y".repeat(1000)).repeat(100));
    cases.push(refused("a flood of chunk extensions", chunks(&many)));
    let many = format!("5\r\nhello\r\n0\r\n{}\r\n{HIDDEN}", "x-end: 1\r\n".repeat(200));
    cases.push(refused("a flood of trailers", chunks(&many)));
    let long = format!("5\r\nhello\r\n0\r\nx-end: {}\r\n\r\n{HIDDEN}", "x".repeat(64 * 1024));
    cases.push(refused("a long trailer", chunks(&long)));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(64 * 1024));
    cases.push(refused("a size of many zeros", chunks(&zeros)).sees(&[SEEN]).then(Then::Kept));
    // Trailers end only at a full line end, so the following bytes are swallowed with them and are no request.
    let bare = format!("5\r\nhello\r\n0\r\nx: 1\n\r\n{HIDDEN}");
    cases.push(refused("a trailer with a bare line feed", chunks(&bare)).sees(&[SEEN]).then(Then::Kept));
    // The body breaks off: nothing is sent to Sezzle.
    for body in ["5\r\nhello\r\n0\r\n", "5\r\nhello\r\n", "5\r\nhel", "5\r\n", "5", "", "5\r\nhello\r\n0\r\nx: 1\r\n"] {
        cases.push(refused(format!("chunks that end in {body:?}"), chunks(body)).then(Then::ClosedAtTheEnd));
    }
    cases.push(refused("bytes", chunks(&"1\r\nx\r\n".repeat(5000))).gets(&[413]));
    // Allowed framings that the sidecar does not pass on.
    for body in [
        "5;name=value\r\nhello\r\n0\r\n\r\n",
        "5;a;b=\"c\"\r\nhello\r\n0;d\r\n\r\n",
        "00000005\r\nhello\r\n000\r\n\r\n",
        "1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nx-end: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\nhost: evil.example\r\n\r\n",
        "5\r\nhello\r\n0\r\nauthorization: Bearer theirs\r\norigin: http://evil.example\r\n\r\n",
    ] {
        cases.push(refused(format!("chunks {body:?}"), chunks(body)).sees(&[SEEN]).then(Then::Kept));
    }
    run(cases).await;
}
