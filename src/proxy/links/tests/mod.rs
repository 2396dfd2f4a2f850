//! Which links are rewritten and which are not, and that the [`reference`] agrees.

mod reference;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use self::reference::Reference;
use super::*;

const BASE: &str = "http://127.0.0.1:8080";

fn rewrite(body: &str) -> Option<String> {
    let rewriter = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned());
    rewriter.rewrite(body.as_bytes()).body.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
}

#[test]
fn only_hrefs_of_links_to_a_gateway_change() {
    let body = "{ \"links\" : [ {\"href\":\"https://gateway.sezzle.com/v2/session/1?a=%20&b\", \"rel\": \"self\"},\r\n\
        {\"rel\":\"\\u0073elf\", \"href\" : \"https://sandbox.gateway.eu.sezzle.com:443/v2/x\"}, 1e3, null ],\n\
        \"order\":{\"checkout_url\":\"https://gateway.sezzle.com/c\",\"href\":\"https://gateway.sezzle.com/h\",\
        \"links\":[{\"href\":\"HTTPS://Gateway.Sezzle.com/v2/order/\u{e9}\"},{\"href\":\"http://127.0.0.1:4010/v2/y\"}]},\
        \"n\":1.10e+2, \"s\":\"\\ud83d\\ude00\" }  ";
    let expected = body
        .replace("https://gateway.sezzle.com/v2/session/1", "http://127.0.0.1:8080/v2/session/1")
        .replace("https://sandbox.gateway.eu.sezzle.com:443/v2/x", "http://127.0.0.1:8080/v2/x")
        .replace("HTTPS://Gateway.Sezzle.com/v2/order", "http://127.0.0.1:8080/v2/order")
        .replace("http://127.0.0.1:4010/v2/y", "http://127.0.0.1:8080/v2/y");
    assert_eq!(rewrite(body).as_deref(), Some(expected.as_str()));
}

#[test]
fn escaped_slashes_are_read() {
    let body = r#"{"links":[{"href":"https:\/\/gateway.sezzle.com\/v2\/session\/1"}]}"#;
    assert_eq!(rewrite(body).as_deref(), Some(r#"{"links":[{"href":"http://127.0.0.1:8080/v2/session/1"}]}"#));
}

#[test]
fn a_list_of_objects_and_a_bare_origin_are_links_too() {
    let body = r#"[{"links":[{"href":"https://gateway.sezzle.com"}]},{"links":{"links":[{"href":"https://gateway.sezzle.com?a"}]}}]"#;
    let expected = body.replace("https://gateway.sezzle.com", BASE);
    assert_eq!(rewrite(body), Some(expected));
}

#[test]
fn a_gateway_is_known_in_every_form_of_its_authority() {
    for href in [
        "http://gateway.sezzle.com",
        "HTTP://Gateway.sezzle.com:80",
        "//gateway.sezzle.com",
        "//sandbox.gateway.sezzle.com:443",
        "//gateway.sezzle.com:80",
        "https://gateway.sezzle.com.",
        "https://gateway.sezzle.com.:443",
        "https://gateway.sezzle.com:",
        "https://127.0.0.1:4010",
        "//127.0.0.1:4010",
        r"\/\/gateway.sezzle.com",
    ] {
        for path in ["", "/v2/x", "?a", "#b"] {
            let body = |link: &str| format!(r#"{{"links":[{{"href":"{link}{path}"}}]}}"#);
            assert_eq!(rewrite(&body(href)), Some(body(BASE)), "{href}{path}");
        }
    }
    for url in ["https://gateway.test", "https://gateway.test:443", "HTTPS://gateway.test.", "http://gateway.test:80"] {
        let rewriter = LinkRewriter::new(url, BASE.to_owned());
        for href in ["https://gateway.test/v2/x", "https://gateway.test:443/v2/x", "http://gateway.test./v2/x"] {
            let body = |link: &str| format!(r#"{{"links":[{{"href":"{link}"}}]}}"#);
            let rewritten = rewriter.rewrite(body(href).as_bytes()).body;
            assert_eq!(rewritten, Some(body(&format!("{BASE}/v2/x")).into_bytes()), "{url} {href}");
        }
    }
}

#[test]
fn everything_else_is_left_alone() {
    for body in [
        "",
        "[]",
        "not json",
        r#"{"links":[]}"#,
        r#"{"links":"https://gateway.sezzle.com/v2"}"#,
        r#"{"links":["https://gateway.sezzle.com/v2"]}"#,
        r#"{"links":[{"href":7},{"href":{"href":"https://gateway.sezzle.com/v2"}}]}"#,
        r#"{"links":[{"href":"https://checkout.sezzle.com/?id=1"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com.evil.example/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com@evil.example/v2"}]}"#,
        r#"{"links":[{"href":"https://user@gateway.sezzle.com/v2"}]}"#,
        r#"{"links":[{"href":"https://user@gateway.sezzle.com:443/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com:443:443/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com:80/v2"}]}"#,
        r#"{"links":[{"href":"http://127.0.0.1:4010:80/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com:8443/v2"}]}"#,
        r#"{"links":[{"href":"http://gateway.sezzle.com:443/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com:x/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com../v2"}]}"#,
        r#"{"links":[{"href":"https:/gateway.sezzle.com/v2"}]}"#,
        r#"{"links":[{"href":"///gateway.sezzle.com/v2"}]}"#,
        r#"{"links":[{"href":"ftp://gateway.sezzle.com/v2"}]}"#,
        r#"{"links":[{"href":"/gateway.sezzle.com/v2"}]}"#,
        r#"{"links":[{"href":"http://127.0.0.1/v2"}]}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com/v2"}"#,
        r#"{"links":[{"href":"https://gateway.sezzle.com/v2"}]} trailing"#,
    ] {
        assert_eq!(rewrite(body), None, "{body}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(rewrite(&deep), None);
}

#[test]
fn an_odd_value_elsewhere_leaves_links_readable() {
    let rewriter = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned());
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    let deepest = format!("{}0{}", "{\"links\":[".repeat(60_000), "]}".repeat(60_000));
    let values: [&[u8]; 17] = [
        br#""\ud83d""#,
        br#""\ude00""#,
        br#""\ud83d\u0041\"x""#,
        br#""\u12""#,
        br#""\x""#,
        b"\"M\xfcller\"",
        b"\"\xff\xfe\\\"\"",
        b"\"a\tb\0\n\"",
        b"1e400",
        b"-1e999",
        b"01",
        b"NaN",
        b"-Infinity",
        br#"{"\ud83d":1,"h\xref":2}"#,
        b"{\"M\xfcller\":[]}",
        deep.as_bytes(),
        deepest.as_bytes(),
    ];
    for value in values {
        for (before, after) in [
            (&br#"{"x":"#[..], &br#","links":[{"href":"@/v2/x","method":"GET"}]}"#[..]),
            (br#"{"links":[{"href":"@/v2/x"}],"x":"#, b"}"),
            (br#"{"links":[{"x":"#, br#","href":"@/v2/x"}]}"#),
            (br#"[{"links":[{"href":"@/v2/x"},"#, b"]}]"),
            (b"\xef\xbb\xbf {\"links\":[{\"href\":\"@\"}],\"x\":", b"}"),
        ] {
            let body = |origin: &str| {
                let all = [before, value, after].concat();
                let at = all.iter().position(|byte| *byte == b'@').expect("a place");
                [&all[..at], origin.as_bytes(), &all[at + 1..]].concat()
            };
            let rewritten = rewriter.rewrite(&body("https://gateway.sezzle.com"));
            assert!(rewritten.body == Some(body(BASE)), "{}", String::from_utf8_lossy(&body("@")));
        }
    }
}

#[test]
fn an_odd_value_in_a_link_stays_as_it_is() {
    for (href, expected) in [
        (&br"https://gateway.sezzle.com/v2/x?name=\ud83d"[..], Some(&br"http://127.0.0.1:8080/v2/x?name=\ud83d"[..])),
        (b"https://gateway.sezzle.com/v2/\xfc", Some(b"http://127.0.0.1:8080/v2/\xfc")),
        (br"https:\/\/gateway.sezzle.com\/v2\ud83d", None),
        (b"\xfchttps://gateway.sezzle.com/v2", None),
    ] {
        let body = |href: &[u8]| [br#"{"links":[{"href":""#, href, br#""}]}"#].concat();
        let rewritten = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned()).rewrite(&body(href)).body;
        assert_eq!(rewritten, expected.map(body), "{}", String::from_utf8_lossy(href));
    }
}

#[test]
fn spaces_around_a_link_go() {
    for (href, expected) in [
        ("https://gateway.sezzle.com/v2/x ", Some("/v2/x")),
        (" \thttps://gateway.sezzle.com:443/v2/x y  ", Some("/v2/x y")),
        (r"https:\/\/gateway.sezzle.com\/v2\/x\n", Some("/v2/x")),
        (r"\u0020https://gateway.sezzle.com/v2/x\r\n", Some("/v2/x")),
        (" https://gateway.sezzle.com ", Some("")),
        (" https://checkout.sezzle.com/x ", None),
        ("https://gateway.sezzle.com .evil.example/", None),
    ] {
        let body = |href: &str| format!(r#"{{"links":[{{"href" : "{href}","rel":" self "}}]}}"#);
        assert_eq!(rewrite(&body(href)), expected.map(|path| body(&format!("{BASE}{path}"))), "{href}");
    }
}

#[test]
fn links_without_a_method_or_an_href_are_no_obstacle() {
    let link = r#"{"href":"https://gateway.sezzle.com/v2/x"}"#;
    for links in ["[]", "[{}]", "null", "{}", "[null,{\"rel\":\"self\"}]"] {
        assert_eq!(rewrite(&format!(r#"{{"links":{links}}}"#)), None, "{links}");
        let body = format!(r#"{{"links":{links},"order":{{"links":[{link}]}}}}"#);
        assert_eq!(rewrite(&body), Some(body.replace("https://gateway.sezzle.com", BASE)), "{links}");
    }
}

#[test]
fn links_that_are_not_found_are_told_of() {
    let rewriter = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned());
    let shape = |body: &str| rewriter.rewrite(body.as_bytes()).shape;
    for usual in [
        "{}",
        "[]",
        "null",
        r#"{"link":"x","href":7,"_links":{"href":{}}}"#,
        r#"{"links":null,"order":{"links":[]}}"#,
        r#"{"links":{}}"#,
        r#"{"links":[{},null,[]]}"#,
        r#"{"links":[{"href":null,"rel":["self"],"href2":{"links":"x"}}]}"#,
        r#"{"links":[{"href":"","method":7}]}"#,
    ] {
        assert_eq!(shape(usual), Shape::Usual, "{usual}");
    }
    for odd in [
        r#"{"links":{"self":{"href":"https://gateway.sezzle.com/v2"}}}"#,
        r#"{"order":{"links":"https://gateway.sezzle.com/v2"}}"#,
        r#"{"links":true}"#,
        r#"{"links":["https://gateway.sezzle.com/v2"]}"#,
        r#"{"links":[[{"href":"https://gateway.sezzle.com/v2"}]]}"#,
        r#"{"links":[{},7]}"#,
        r#"{"links":[{"href":{"url":"https://gateway.sezzle.com/v2"}}]}"#,
        r#"{"links":[{"href":["https://gateway.sezzle.com/v2"]},{"href":"x"}]}"#,
        r#"{"links":[{"href":false}]}"#,
    ] {
        assert_eq!(shape(odd), Shape::Odd, "{odd}");
    }
    for broken in ["", "{", "<html>", r#"{"links":[{"href":"https://gateway.sezzle.com/v2"}]"#, "{} {}"] {
        assert_eq!(shape(broken), Shape::Broken, "{broken}");
    }
    let (found, odd) = (r#"{"links":[{"href":"https://gateway.sezzle.com/v2"},"#, r#"{"href":7}]}"#);
    let rewritten = rewriter.rewrite(format!("{found}{odd}").as_bytes());
    assert_eq!(rewritten.body, Some(format!("{found}{odd}").replace("https://gateway.sezzle.com", BASE).into_bytes()));
    assert_eq!(rewritten.shape, Shape::Odd);
}

#[test]
fn headers_that_lead_to_a_gateway_are_led_back() {
    let rewriter = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned());
    for (name, value, expected) in [
        ("location", "https://gateway.sezzle.com/v2/x?a=b#c", "http://127.0.0.1:8080/v2/x?a=b#c"),
        ("location", "HTTPS://Sandbox.Gateway.sezzle.com:443/v2/x", "http://127.0.0.1:8080/v2/x"),
        ("content-location", "http://127.0.0.1:4010", "http://127.0.0.1:8080"),
        ("location", "/v2/x", "/v2/x"),
        ("location", "//gateway.sezzle.com/v2/x", "http://127.0.0.1:8080/v2/x"),
        ("location", "http://gateway.sezzle.com/v2/x", "http://127.0.0.1:8080/v2/x"),
        ("location", "//checkout.sezzle.com/v2/x", "//checkout.sezzle.com/v2/x"),
        ("location", "https://checkout.sezzle.com/?id=1", "https://checkout.sezzle.com/?id=1"),
        ("location", "https://gateway.sezzle.com.evil.example/", "https://gateway.sezzle.com.evil.example/"),
        ("location", "https://gateway.sezzle.com/\u{fc}", "https://gateway.sezzle.com/\u{fc}"),
        ("x-location", "https://gateway.sezzle.com/v2/x", "https://gateway.sezzle.com/v2/x"),
        (
            "link",
            r#"<https://gateway.sezzle.com/v2/x>; rel="next", </v2/y>,<https://gateway.sezzle.com:443>;rel=prev"#,
            r#"<http://127.0.0.1:8080/v2/x>; rel="next", </v2/y>,<http://127.0.0.1:8080>;rel=prev"#,
        ),
        (
            "link",
            r#"</a>; title="\", <https://gateway.sezzle.com/v2/x>", < https://gateway.sezzle.com/v2/x >; rel=up"#,
            r#"</a>; title="\", <https://gateway.sezzle.com/v2/x>", <http://127.0.0.1:8080/v2/x>; rel=up"#,
        ),
        ("link", r#"<https://gateway.sezzle.com/v2/x>; title="a"#, r#"<https://gateway.sezzle.com/v2/x>; title="a"#),
        ("link", "<https://gateway.sezzle.com/v2/x", "<https://gateway.sezzle.com/v2/x"),
        ("link", "", ""),
    ] {
        let header =
            |value: &str| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        // Each of several lines.
        let mut headers = HeaderMap::from_iter([header("/first"), header(value)]);
        headers.append("link", HeaderValue::from_static("</last>"));
        let mut wanted = HeaderMap::from_iter([header("/first"), header(expected)]);
        wanted.append("link", HeaderValue::from_static("</last>"));
        rewriter.rewrite_headers(&mut headers);
        assert_eq!(headers, wanted);
    }
}

/// Both on one body, unless the reference refuses the body.
fn same(body: &[u8]) {
    let ours = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned()).rewrite(body).body;
    let Some(theirs) = Reference::new("http://127.0.0.1:4010", BASE.to_owned()).rewrite(body) else { return };
    let ours = ours.unwrap_or_else(|| body.to_vec());
    assert!(ours == theirs, "{}", String::from_utf8_lossy(body));
}

#[test]
fn a_rewritten_body_is_that_of_the_reference() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/links");
    let bodies =
        std::fs::read_dir(corpus).expect("a corpus").map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let bodies = bodies.collect::<Vec<_>>();
    assert!(bodies.len() > 30);
    let rewriter = LinkRewriter::new("http://127.0.0.1:4010", BASE.to_owned());
    for body in &bodies {
        same(body);
        if serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body.is_object() || body.is_array()) {
            // Cut anywhere, nothing is changed.
            let end = body.trim_ascii_end().len();
            (0..end.min(2000)).for_each(|end| assert_eq!(rewriter.rewrite(&body[..end]).body, None));
        }
    }

    let link = r#"{"links":[{"href":"https://gateway.sezzle.com/v2"}],"x":"#;
    for value in [
        "0",
        "-0",
        "-",
        "01",
        "1.",
        "1.5",
        ".5",
        "1e5",
        "1E+5",
        "1e-5",
        "1e",
        "1e+",
        "-1.0e-999",
        "1e308",
        "1e309",
        "-1e999",
        "0e999",
        "tru",
        "true",
        "false",
        "null",
        "nul",
        "True",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ud83dx\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\uABcd\"",
        "\"\\x\"",
        "\"\\/\\b\\f\\n\\r\\t\"",
        "\"\t\"",
        "\"\u{7f}\u{85}\"",
        "[1,]",
        "[,]",
        "[1 2]",
        "[]",
        "[ ]",
        "{}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1]",
        "[1}",
        "\u{feff}1",
        "\u{a0}1",
    ] {
        same(format!("{link}{value}}}").as_bytes());
        same(value.as_bytes());
        // In a link, too.
        same(format!(r#"{{"links":[{{"x":{value},"href":"https://gateway.sezzle.com/v2"}}]}}"#).as_bytes());
        same(format!(r#"{{"links":[{{"x":[{value}],"href":{value}}},{value}]}}"#).as_bytes());
    }
    for deep in [124, 125, 126, 127, 128, 129, 1000] {
        for (open, close) in [("[", "]"), ("{\"links\":", "}"), ("{\"href\":[", "]}")] {
            let nested = format!("{}0{}", open.repeat(deep), close.repeat(deep));
            same(format!("{link}{nested}}}").as_bytes());
            same(format!(r#"{{"links":[{{"x":{nested},"href":"https://gateway.sezzle.com/v2"}}]}}"#).as_bytes());
        }
    }
    same(format!("{link}1{}}}", "0".repeat(400)).as_bytes());
    same(format!("{link}0.{}}}", "1".repeat(400)).as_bytes());
}

#[test]
fn a_link_is_known_as_by_the_reference() {
    let authorities =
        ["gateway.sezzle.com", "Gateway.EU.sezzle.com", "127.0.0.1:4010", "127.0.0.1", "evil.example", ""];
    for scheme in ["https", "HTTPS", "http", "ftp", ""] {
        for separator in ["://", ":\\/\\/", ":/", "//"] {
            for user in ["", "user@", "a:b@", "gateway.sezzle.com@"] {
                for authority in authorities {
                    for port in ["", ":", ":443", ":80", ":0443", ":8443", ":443:443", ".", ".evil.example"] {
                        for tail in
                            ["", "/", "/v2/\u{e9}?a#b", "\\/v2", "?a", "#a", " /", "\\\\", "@gateway.sezzle.com/"]
                        {
                            let href = format!("{scheme}{separator}{user}{authority}{port}{tail}");
                            same(format!("{{\"links\":[{{\"href\":\"{href}\"}}]}}").as_bytes());
                        }
                    }
                }
            }
        }
    }
}

/// A document that may have links in it, as text, with white space and escapes.
fn document() -> impl Strategy<Value = String> {
    let space = "[ \t\r\n]{0,2}";
    let href = prop_oneof![
        "https://(sandbox\\.)?gateway\\.(eu\\.)?sezzle\\.com(:443|:80|:8443|:|\\.)?[/?#]?[ -!#-\\[\\]-~]{0,12}",
        "(https?|HTTPS|ftp)?:?(//)?([a-z]{0,3}@)?(Gateway\\.sezzle\\.com|127\\.0\\.0\\.1:4010)(:443|:80)?(/v2)?",
        "https:\\\\/\\\\/gateway.sezzle.com(\\\\/|\\\\u002f)[a-z]{0,3}",
        "([a-z\u{e9}\u{1f600}]|\\\\[nt\"\\\\/]|\\\\u[0-9a-fA-F]{4}|\\\\ud83d\\\\ude00){0,9}",
    ];
    let name = prop_oneof![
        3 => Just("links".to_owned()),
        3 => Just("href".to_owned()),
        1 => Just("lin\\u006bs".to_owned()),
        1 => Just("\\u0068ref".to_owned()),
        1 => "[a-z]{0,9}",
    ];
    let leaf = prop_oneof![
        4 => href.prop_map(|text| format!("\"{text}\"")),
        1 => "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        1 => prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let element = (space, inner.clone(), space).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space, name.clone(), space, inner)
            .prop_map(|(a, name, b, value)| format!("{a}\"{name}\"{b}:{a}{value}{b}"));
        prop_oneof![
            proptest::collection::vec(element, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_document_is_rewritten_as_by_the_reference(document in document()) {
        same(document.as_bytes());
        same(format!("{{\"links\":[{{\"href\":{document}}}]}}").as_bytes());
    }

    #[test]
    fn a_damaged_document_is_rewritten_as_by_the_reference(document in document(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = document.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        same(&bytes);
        bytes.remove(at);
        same(&bytes);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = LinkRewriter::new("http://127.0.0.1:1", BASE.to_owned()).rewrite(&bytes);
    }

    /// Putting the gateway back gives the body that came, byte for byte.
    #[test]
    fn the_change_can_be_undone(tail in "([ -!#-\\[\\]-~]{0,19}[!#-\\[\\]-~])?", other in "[ -!#-\\[\\]-~]{0,20}", space in "[ \\t\\r\\n]{0,4}") {
        prop_assume!(!tail.contains(BASE) && !other.contains(BASE));
        let body = format!("{{{space}\"a\":\"{other}\",{space}\"links\":{space}[{{\"href\"{space}:\"https://gateway.sezzle.com/{tail}\"}}{space}]}}");
        let rewritten = rewrite(&body);
        prop_assert_eq!(rewritten.map(|text| text.replace(BASE, "https://gateway.sezzle.com")), Some(body));
    }
}
