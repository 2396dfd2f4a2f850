//! Headers by `-H`, in the forms that curl has: an argument, a file, or standard input.
//!
//! Every user of the machine can read the arguments of a command, so a header that holds a secret comes from a file or
//! from standard input only. No message repeats a value.

use std::io::{Read, stdin};
use std::path::Path;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::file::{self, Pipes};

pub(super) type Header = (HeaderName, HeaderValue);

/// The value of `-H` that stands for standard input.
pub(super) const STDIN: &str = "@-";

/// The headers that these values of `-H` name. Each is `NAME: VALUE`, or `@FILE` for a file with a header on each line,
/// or [`STDIN`] for the same from standard input.
pub(super) fn read(values: &[String]) -> Result<Vec<Header>, Failure> {
    let mut headers = Vec::new();
    for value in values {
        match value.strip_prefix('@') {
            None => headers.push(argument(value)?),
            Some(_) if value == STDIN => headers.extend(lines("standard input", &from_stdin()?)?),
            Some(name) => {
                let content = file::read(Path::new(name), LARGEST, Pipes::Wait);
                let content = content.map_err(|error| usage(format!("{name}: {error}")))?;
                headers.extend(lines(name, &content.bytes)?);
            }
        }
    }
    Ok(headers)
}

/// A header of `NAME: VALUE`.
pub(super) fn parse(text: &str) -> Result<Header, &'static str> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| "this is not the name of a header")?;
    let value = value.trim().parse().map_err(|_| "this is not the value of a header")?;
    Ok((name, value))
}

fn argument(text: &str) -> Result<Header, Failure> {
    let header = parse(text).map_err(|how| usage(format!("-H: {how}, or @FILE, or @- for standard input")))?;
    if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&header.0) {
        return Err(usage(format!(
            "-H: {} is a secret, and every user of this machine can read the arguments of a command; put the line into a \
             file and give -H @FILE, or write it to standard input and give -H @-",
            header.0
        )));
    }
    Ok(header)
}

/// The headers of a file, one on each line. Empty lines are ignored. `of` is the name of the file, for messages.
fn lines(of: &str, content: &[u8]) -> Result<Vec<Header>, Failure> {
    let text = std::str::from_utf8(content).map_err(|_| usage(format!("{of}: is not UTF-8")))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let headers = lines.map(|(index, line)| {
        let (name, mut value) = parse(line).map_err(|how| usage(format!("{of}:{}: {how}", index.saturating_add(1))))?;
        value.set_sensitive(true);
        Ok((name, value))
    });
    headers.collect()
}

fn from_stdin() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST.saturating_add(1)));
    stdin().lock().take(bytes.capacity() as u64).read_to_end(&mut bytes)?;
    if bytes.len() > LARGEST {
        return Err(usage(format!("standard input: holds more than {LARGEST} bytes")));
    }
    Ok(bytes)
}

fn usage(message: String) -> Failure {
    Failure::Usage(message.into())
}

// Twice the default of limits.head.
const LARGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(of: Result<Vec<Header>, Failure>) -> String {
        of.expect_err("refused").to_string()
    }

    #[test]
    fn no_secret_is_an_argument_and_no_message_repeats_one() {
        for argument in
            ["Authorization: Bearer canary", "AUTHORIZATION:canary", "proxy-authorization: canary", "Cookie: canary"]
        {
            let message = message(read(&[argument.to_owned()]));
            assert!(message.contains("-H @FILE") && !message.contains("canary"), "{message}");
        }
        for argument in ["Authorization Bearer canary", "Authorization: Bearer\ncanary", "canary canary: x"] {
            let message = message(read(&[argument.to_owned()]));
            assert!(message.contains("@FILE") && !message.contains("canary"), "{message}");
        }
        assert_eq!(read(&["A: b:c".to_owned()]).expect("a header"), [parse("a:b:c").expect("a header")]);
    }

    #[test]
    fn a_file_has_a_header_on_each_line() {
        let headers = lines("file", b"\r\nAuthorization: Bearer canary\r\n\n  X-A :1\n").expect("headers");
        let text: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(text, [("authorization", &b"Bearer canary"[..]), ("x-a", b"1")]);
        assert!(!format!("{headers:?}").contains("canary"));
        assert_eq!(message(lines("file", b"A: b\n\ncanary\n")), "file:3: expected NAME: VALUE");
        assert_eq!(message(lines("file", b"A: \xff")), "file: is not UTF-8");
        assert!(message(read(&["@/nowhere".to_owned()])).starts_with("/nowhere: cannot be read: "));
    }
}
