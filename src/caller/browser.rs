//! Recognises requests that a browser sends, perhaps for a web page of an attacker.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName};

use super::Refusal;

/// Whether only browsers send a header of this name. `Sec-Fetch-Mode` does not count: Node's `fetch` sends that header
/// too, and a browser never sends it without `Sec-Fetch-Site`.
pub fn is_browser_header(name: &HeaderName) -> bool {
    *name == ORIGIN || (name.as_str().starts_with("sec-fetch-") && *name != SEC_FETCH_MODE)
}

pub const FROM_BROWSER: &str = "the sidecar refuses requests with Origin, Sec-Fetch-Site, Sec-Fetch-Dest or \
                                Sec-Fetch-User, because browsers send them";

/// The header in which browsers and Node's `fetch` state the mode of a request.
pub const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Lets a browser open a page as a document of its own, and refuses its other requests: no web page may load the page
/// as an image, in a frame or by a script.
pub fn check_navigation(headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.keys().any(is_browser_header) {
        return Ok(());
    }
    let has_only = |name: &HeaderName, value: &str| {
        let mut lines = headers.get_all(name).iter();
        lines.next().is_some_and(|line| line == value) && lines.next().is_none()
    };
    let is_navigation =
        has_only(&SEC_FETCH_MODE, "navigate") && has_only(&SEC_FETCH_DEST, "document") && !headers.contains_key(ORIGIN);
    if is_navigation { Ok(()) } else { Err(Refusal::Browser) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_may_show_a_page_and_not_load_it() {
        let check = |lines: &[(&'static str, &'static str)]| {
            let lines =
                lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value)| _ = headers.append(name, value));
            check_navigation(&headers).is_ok()
        };
        let (mode, dest, site) =
            (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "none"));
        for shown in [&[][..], &[("sec-fetch-mode", "cors")], &[mode, dest], &[mode, dest, site]] {
            assert!(check(shown), "{shown:?}");
        }
        for loaded in [
            &[site][..],
            &[dest],
            &[mode, site],
            &[("origin", "null")],
            &[mode, dest, site, ("origin", "null")],
            &[mode, dest, ("sec-fetch-dest", "iframe")],
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image"), site],
        ] {
            assert!(!check(loaded), "{loaded:?}");
        }
    }
}
