//! Whatever stands in Redis: nothing opens but what was sealed for this very place, and an answer has one form.
//!
//! Input: a sealed body, the bytes of an answer, or those of facts.

use bytes::Bytes;
use http::HeaderMap;
use sezzle_sidecar::fleet::body::{Answer, Facts, SharedBody};
use sezzle_sidecar::fleet::keys::Keys;
use sezzle_sidecar::fleet::seal::{seal, unseal};

const NAME: &str = "szs1:{00ff}:b:run.history:log:session";
/// 32 times the byte 1.
const KEY: &[u8] = b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

pub fn holds(data: &[u8]) {
    let keys = Keys::parse(KEY, "test").expect("a key");
    if let Ok(body) = unseal(data, &keys, NAME) {
        opens_here_only(data, &keys);
        read_back(&body, &keys);
    }
    let answer = Answer::decode(&Bytes::copy_from_slice(data));
    if let Some(answer) = &answer {
        assert_eq!(answer.encode().as_deref(), Some(data), "two forms of one answer");
    }
    let facts = Facts::decode(data).map(|(facts, _)| facts);
    if let Some(facts) = &facts {
        assert!(data.starts_with(&facts.encode().expect("was read")), "two forms of the same facts");
    }
    if answer.is_some() || facts.is_some() {
        let answer = answer.unwrap_or(Answer { etag: None, headers: HeaderMap::new(), body: Bytes::new() });
        let facts = facts.unwrap_or_else(|| Facts::decode(&[0; 50]).expect("zeros are facts").0);
        read_back(&SharedBody { facts, answer }, &keys);
    }
}

fn read_back(body: &SharedBody, keys: &Keys) {
    let sealed = seal(body, keys, NAME, [7; 32]).expect("was read");
    assert_eq!(unseal(&sealed, keys, NAME).as_ref(), Ok(body));
    opens_here_only(&sealed, keys);
}

fn opens_here_only(sealed: &[u8], keys: &Keys) {
    assert!(unseal(sealed, keys, &NAME.replace("session", "another")).is_err());
    let mut changed = sealed.to_vec();
    // Somewhere in the middle, another place for another content.
    let place = usize::from(changed[changed.len() - 1]) % changed.len();
    changed[place] ^= 1;
    assert!(unseal(&changed, keys, NAME).is_err());
}
