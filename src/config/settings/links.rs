//! The section `links`: rewriting of `links[].href`.

use crate::address::Address;
use crate::config::parse;
use crate::config::reader::Reader;

#[derive(Clone, Debug)]
pub struct LinkSettings {
    pub rewrite: bool,
    /// The base URL of rewritten links, without a trailing slash; `None` for the first bound address of `proxy.listen`.
    pub base_url: Option<String>,
}

pub(super) fn read(r: &mut Reader<'_>, listen: Option<&[Address]>) -> Option<LinkSettings> {
    let rewrite = r.value("links.rewrite", "true", parse::boolean);
    let base_url = r.optional("links.base_url", parse::base_url);

    if let (Some(None), Some(listen)) = (&base_url, listen) {
        let why = match listen.iter().find_map(Address::tcp) {
            None => Some("required, because callers cannot follow links to a Unix socket".to_owned()),
            Some(first) if first.ip().is_unspecified() => Some(format!(
                "required, because callers cannot follow links to {first}, the first address of proxy.listen"
            )),
            // With port 0 the system chooses the port at the start, so nothing can be checked here.
            Some(first) if first.port() == 0 => None,
            Some(first) => {
                r.derived("links.base_url", &format!("http://{first}"));
                None
            }
        };
        if let Some(why) = why.filter(|_| rewrite == Some(true)) {
            r.missing("links.base_url", why);
        }
    }
    Some(LinkSettings { rewrite: rewrite?, base_url: base_url? })
}
