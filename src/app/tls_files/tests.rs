use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::sezzle::time::parse_rfc3339;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        let (certificate, key) = pair();
        folder.write("certificate", &certificate);
        folder.write("key", &key);
        folder
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("an own file");
    }

    fn read(&self, callers: bool) -> Result<UsableFiles, Vec<String>> {
        let now = parse_rfc3339("2026-06-01T00:00:00Z").expect("a time");
        let texts = |all: Vec<Mistake>| all.into_iter().map(|mistake| mistake.text).collect();
        read(&self.settings(callers), Pipes::Refuse, now).map_err(texts)
    }

    fn read_again(&self, in_use: &Fingerprint, now: &str) -> Result<Option<UsableFiles>, Vec<String>> {
        let now = parse_rfc3339(now).expect("a time");
        let texts = |all: Vec<Mistake>| all.into_iter().map(|mistake| mistake.text).collect();
        read_again(&self.settings(false), in_use, now).map_err(texts)
    }

    fn settings(&self, callers: bool) -> TlsSettings {
        let path = |name: &str| self.0.path().join(name);
        TlsSettings {
            certificate_file: path("certificate"),
            key_file: path("key"),
            client_ca_file: callers.then(|| path("callers")),
        }
    }

    fn mistakes(&self) -> Vec<String> {
        self.read(false).expect_err("mistakes")
    }
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["sidecar.internal".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
    params
}

fn pair() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    (params().self_signed(&key).expect("signs").pem(), key.serialize_pem())
}

fn authority() -> String {
    authority_until(2027)
}

/// The certificate of an authority that ends with the year before this one.
fn authority_until(year: i32) -> String {
    let mut params = params();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
    params.distinguished_name.push(DnType::CommonName, format!("root until {year}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().expect("a key")).expect("signs").pem()
}

#[test]
fn authorities_of_callers_may_sign() {
    let folder = Folder::new();
    folder.write("callers", authority() + &pair().0);
    let said = folder.read(true).expect_err("a mistake").concat();
    assert!(said.starts_with("proxy.tls.client_ca_file: ") && said.contains("may sign no others"), "{said}");
}

#[test]
fn an_authority_that_has_ended_is_left_out() {
    let folder = Folder::new();
    let (old, new) = (authority_until(2026), authority());
    folder.write("callers", format!("{old}{new}"));
    let both = folder.read(true).expect("usable");
    let expected = "the certificate root until 2026 ended on Thu, 01 Jan 2026 00:00:00 GMT, so callers with a \
                    certificate that it signed are refused";
    assert_eq!(both.ended, [expected]);
    folder.write("callers", &new);
    let alone = folder.read(true).expect("usable");
    assert!(alone.ended.is_empty() && alone.fingerprint.callers != both.fingerprint.callers);
    folder.write("callers", format!("{old}{old}"));
    let said = folder.read(true).expect_err("a mistake").concat();
    assert!(said.starts_with("proxy.tls.client_ca_file: ") && said.ends_with("no other authority is left"), "{said}");
}

#[test]
fn files_that_fit_are_used() {
    let folder = Folder::new();
    let first = folder.read(false).expect("usable");
    assert_eq!(Some(first.certificate.not_after), parse_rfc3339("2027-01-01T00:00:00Z"));
    assert_eq!(folder.read(false).expect("usable").fingerprint, first.fingerprint);
    folder.write("callers", authority());
    let asking = folder.read(true).expect("usable");
    assert!(
        asking.fingerprint.pair == first.fingerprint.pair && asking.fingerprint.callers != first.fingerprint.callers
    );
    let (certificate, key) = pair();
    folder.write("certificate", certificate);
    folder.write("key", key);
    assert_ne!(folder.read(false).expect("usable").fingerprint, first.fingerprint);
}

#[test]
fn files_that_hold_what_is_in_use_stay_usable_after_their_end() {
    let folder = Folder::new();
    let in_use = folder.read(false).expect("usable").fingerprint;
    let ended = "2028-01-01T00:00:00Z";
    assert!(folder.read_again(&in_use, ended).expect("unchanged").is_none());
    fs::set_permissions(folder.0.path().join("key"), Permissions::from_mode(0o666)).expect("an own file");
    assert!(folder.read_again(&in_use, ended).expect_err("open").concat().contains("mode 666"));
    let (certificate, key) = pair();
    folder.write("certificate", certificate);
    folder.write("key", key);
    assert!(folder.read_again(&in_use, ended).expect_err("changed").concat().contains("ended on"));
    let changed = folder.read_again(&in_use, "2026-06-01T00:00:00Z").expect("usable").expect("changed");
    assert_ne!(changed.fingerprint, in_use);
}

#[test]
fn every_mistake_is_said_at_once_and_in_words() {
    let folder = Folder::new();
    folder.write("key", "");
    folder.write("certificate", "none");
    let all = folder.read(true).expect_err("three mistakes");
    assert_eq!(all.len(), 3, "{all:?}");
    for (said, expected) in all.iter().zip(["the file has no certificate", "holds no private key", "No such file"]) {
        assert!(said.contains(expected) && said.starts_with("proxy.tls."), "{said}");
    }
}

#[test]
fn what_is_wrong_with_a_pair() {
    let folder = Folder::new();
    folder.write("key", pair().1);
    assert!(folder.mistakes()[0].ends_with(
        "the key does not belong to the first certificate of \
                                            proxy.tls.certificate_file"
    ));
    folder.write("key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----");
    assert!(folder.mistakes()[0].contains("the key is encrypted"));
    let (certificate, key) = pair();
    folder.write("key", &key);
    fs::set_permissions(folder.0.path().join("key"), Permissions::from_mode(0o620)).expect("an own file");
    assert!(folder.mistakes()[0].contains("may write this file (mode 620)"));
    folder.write("key", &key);
    folder.write("certificate", certificate.repeat(120));
    assert!(folder.mistakes()[0].contains("holds 120 certificates"));
    let signed = |change: fn(&mut CertificateParams)| {
        let (mut params, key) = (params(), KeyPair::generate().expect("a key"));
        change(&mut params);
        folder.write("certificate", params.self_signed(&key).expect("signs").pem());
        folder.write("key", key.serialize_pem());
        folder.mistakes()
    };
    assert!(signed(|params| params.not_after = date_time_ymd(2026, 5, 1))[0].contains("ended on Fri, 01 May 2026"));
    assert!(signed(|params| params.not_before = date_time_ymd(2026, 7, 1))[0].contains("is valid from Wed, 01 Jul"));
}
