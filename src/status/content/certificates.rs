//! The section about certificates.

use super::block::{Block, Section, Table};
use crate::clock::Wall;
use crate::status::snapshot::Snapshot;
use crate::status::words::{duration, moment};

/// The section; `None` without a certificate, as over plain HTTP.
pub(super) fn certificates(s: &Snapshot) -> Option<Section> {
    if s.certificates.is_empty() {
        return None;
    }
    let rows = s.certificates.iter().map(|one| {
        let subject = format!("{} (of {})", one.subject, one.issuer);
        vec![one.whose.to_owned(), subject, ends(one.not_after, s.now)]
    });
    let table = Table {
        caption: "As the last handshake with the gateway showed it, and as the files were read".to_owned(),
        texts: &["Of", "Certificate", "Ends"],
        numbers: &[],
        is_of_words: false,
        rows: rows.collect(),
    };
    Some(Section { id: "certificates", title: "Certificates", blocks: vec![Block::Table(table)] })
}

/// The end of a certificate, and the time left until then.
pub(super) fn ends(not_after: Wall, now: Wall) -> String {
    match not_after.since(now) {
        left if left.is_zero() => format!("ended {}", moment(not_after)),
        left => format!("in {}, {}", duration(left), moment(not_after)),
    }
}
