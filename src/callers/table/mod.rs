//! Tells callers apart: by the uid of their process, by their certificate, by a bearer token, in this order.
//!
//! No comparison tells by its time how much of a secret was right. A token is looked up by a digest under a key that
//! only this process knows, and compared whole in constant time with the one token of that digest. Private keys are
//! compared by their digests, with those of all callers each time.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::issued::{LIFE, Signer, SignerId, Unverified};
use super::memo::Memo;
use super::named::{KnownCaller, Mark, NamedCaller, Stranger};
use super::secrets::{SecretHistory, Secrets};
use crate::clock::{Deadline, Now, Wall};
use crate::secret::{Secret, is_same};

/// A caller of the configuration, with its marks except for the secret ones.
#[derive(Clone, Debug)]
pub struct Definition {
    pub caller: Arc<NamedCaller>,
    pub uid: Option<u32>,
    /// A DNS name in lower case, or a URI.
    pub certificate: Option<String>,
}

/// The settings that all callers have in common.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Issued tokens count in this environment only.
    pub environment: &'static str,
    /// How long a secret counts after its file has changed.
    pub overlap: Duration,
    pub workers: usize,
}

/// All callers. Immutable: a change makes a new table, and a request uses one table to its end.
#[derive(Debug)]
pub struct Table {
    rules: Rules,
    holders: Vec<Holder>,
    uids: HashMap<u32, Arc<NamedCaller>>,
    certificates: HashMap<String, Arc<NamedCaller>>,
    /// Makes the digests of tokens, under a key of its own.
    hasher: RandomState,
    /// Sorted by digest.
    tokens: Vec<(u64, Token)>,
    pairs: Vec<Pair>,
    signers: HashMap<SignerId, (Signer, Arc<NamedCaller>, Option<Deadline>)>,
    memo: Memo,
}

/// A caller with its secrets.
#[derive(Clone, Debug)]
struct Holder {
    definition: Definition,
    token: Option<SecretHistory<Secret>>,
    pair: Option<SecretHistory<(String, Secret)>>,
}

impl Holder {
    /// The secrets that tell this caller now. A replaced secret counts for the overlap, and a replaced private key
    /// until every token that was issued for it has ended.
    fn secrets_that_count(&self, overlap: Duration, now: Now) -> impl Iterator<Item = &Secret> {
        let counts = move |replaced: Option<Now>, life| replaced.is_none_or(|replaced| now.since(replaced) < life);
        let tokens = self.token.iter().flat_map(SecretHistory::all);
        let tokens = tokens.filter(move |(_, replaced)| counts(*replaced, overlap));
        let life = overlap.max(LIFE);
        let pairs = self.pair.iter().flat_map(SecretHistory::all);
        let pairs = pairs.filter(move |(_, replaced)| counts(*replaced, life));
        tokens.map(|(token, _)| token).chain(pairs.map(|((_, private), _)| private))
    }
}

#[derive(Debug)]
struct Token {
    secret: Secret,
    caller: Arc<NamedCaller>,
    /// The end of the overlap; `None` for the secret that the file holds.
    until: Option<Deadline>,
}

#[derive(Debug)]
struct Pair {
    public: String,
    /// The SHA-256 of the private key.
    private: digest::Digest,
    caller: Arc<NamedCaller>,
    signer: Signer,
    /// When the pair was replaced; `None` for the pair that is configured.
    replaced: Option<Now>,
}

/// A token for a caller.
#[derive(Debug)]
pub struct Issued {
    pub known: KnownCaller,
    pub token: Secret,
    pub end: Wall,
}

impl Table {
    /// A table of these callers, of whom no two share a secret. Secrets that differ from those in `before` replace
    /// them, and the replaced ones count for a while yet.
    pub fn new(callers: Vec<(Definition, Secrets)>, rules: Rules, before: Option<&Self>, now: Now) -> Self {
        let memory = rules.overlap.max(LIFE);
        let holders = callers.into_iter().map(|(definition, Secrets { token, pair })| {
            let old = before.and_then(|before| before.holder(&definition.caller.name));
            let old_token = old.and_then(|old| old.token.as_ref());
            let old_pair = old.and_then(|old| old.pair.as_ref());
            let token = token.map(|token| SecretHistory::after(old_token, token, memory, now));
            let pair = pair.map(|pair| SecretHistory::after(old_pair, pair, memory, now));
            Holder { definition, token, pair }
        });
        Self::build(holders.collect(), rules)
    }

    fn build(mut holders: Vec<Holder>, rules: Rules) -> Self {
        // A secret that moves from one caller to another tells the new owner only, from now on.
        let tokens: Vec<Secret> =
            holders.iter().filter_map(|holder| Some(holder.token.as_ref()?.current.clone())).collect();
        let pairs: Vec<_> = holders.iter().filter_map(|holder| Some(holder.pair.as_ref()?.current.clone())).collect();
        for Holder { token, pair, .. } in &mut holders {
            token.iter_mut().for_each(|token| token.forget(|old| tokens.contains(old)));
            pair.iter_mut().for_each(|pair| pair.forget(|(_, old)| pairs.iter().any(|(_, current)| current == old)));
        }
        let mut table = Self {
            memo: Memo::new(rules.workers),
            holders: Vec::new(),
            uids: HashMap::new(),
            certificates: HashMap::new(),
            hasher: RandomState::new(),
            tokens: Vec::new(),
            pairs: Vec::new(),
            signers: HashMap::new(),
            rules,
        };
        for holder in &holders {
            table.add(holder);
        }
        table.tokens.sort_by_key(|(digest, _)| *digest);
        Self { holders, ..table }
    }

    fn add(&mut self, Holder { definition: Definition { caller, uid, certificate }, token, pair }: &Holder) {
        self.uids.extend(uid.map(|uid| (uid, Arc::clone(caller))));
        self.certificates.extend(certificate.clone().map(|name| (name, Arc::clone(caller))));
        for (secret, replaced) in token.iter().flat_map(SecretHistory::all) {
            let until = replaced.map(|replaced| Deadline::after(replaced, self.rules.overlap));
            let token = Token { secret: secret.clone(), caller: Arc::clone(caller), until };
            self.tokens.push((self.digest(secret.expose().as_bytes()), token));
        }
        for ((public, private), replaced) in pair.iter().flat_map(SecretHistory::all) {
            let signer = Signer::new(public, private, self.rules.environment);
            // By then, every token that was issued before the change has ended.
            let until = replaced.map(|replaced| Deadline::after(replaced, LIFE));
            self.signers.entry(signer.id).or_insert_with(|| (signer.clone(), Arc::clone(caller), until));
            let (public, private) = (public.clone(), sha256(private.expose()));
            self.pairs.push(Pair { public, private, caller: Arc::clone(caller), signer, replaced });
        }
    }

    /// The caller of a request: `uid` and `names` are those of its connection, and `headers` are `None` if they have no
    /// `Authorization`.
    pub fn identify(
        &self,
        uid: Option<u32>,
        names: &[String],
        headers: Option<&HeaderMap>,
        now: Now,
    ) -> Result<KnownCaller, Stranger> {
        if let Some(caller) = uid.and_then(|uid| self.uids.get(&uid)) {
            return Ok(KnownCaller { caller: Arc::clone(caller), mark: Mark::Uid });
        }
        let mut certified = names.iter().filter_map(|name| self.certificates.get(name));
        if let Some(caller) = certified.next() {
            return match certified.find(|other| !Arc::ptr_eq(other, caller)) {
                Some(other) => Err(Stranger::OfTwo(Arc::clone(caller), Arc::clone(other))),
                None => Ok(KnownCaller { caller: Arc::clone(caller), mark: Mark::Certificate }),
            };
        }
        let caller = headers.and_then(bearer).and_then(|token| self.find_by_token(token, now));
        caller.map(|caller| KnownCaller { caller, mark: Mark::Token }).ok_or(Stranger::Unmarked)
    }

    fn find_by_token(&self, token: &[u8], now: Now) -> Option<Arc<NamedCaller>> {
        let digest = self.digest(token);
        if let Ok(index) = self.tokens.binary_search_by_key(&digest, |(digest, _)| *digest)
            && let Some((_, known)) = self.tokens.get(index)
        {
            let matches = is_same(known.secret.expose().as_bytes(), token);
            let counts = known.until.is_none_or(|until| !until.passed(now));
            return (matches && counts).then(|| Arc::clone(&known.caller));
        }
        if self.signers.is_empty() {
            return None;
        }
        self.memo.find(digest, token, now).or_else(|| self.verify_issued(digest, token, now))
    }

    /// The caller to whom a token was issued. Remembers the token.
    fn verify_issued(&self, digest: u64, token: &[u8], now: Now) -> Option<Arc<NamedCaller>> {
        let unverified = Unverified::read(token)?;
        let (signer, caller, until) = self.signers.get(&unverified.signer())?;
        let end = signer.verify(&unverified, now)?;
        let left = end.since(now.wall).min(until.map_or(Duration::MAX, |until| until.remaining(now)));
        if left.is_zero() {
            return None;
        }
        self.memo.keep(digest, token, caller, Deadline::after(now, left));
        Some(Arc::clone(caller))
    }

    /// A token for the caller with these keys.
    pub fn issue(&self, public: &str, private: &str, now: Now) -> Option<Issued> {
        let private = sha256(private.trim());
        let mut found = None;
        for pair in &self.pairs {
            let counts = pair.replaced.is_none_or(|replaced| now.since(replaced) < self.rules.overlap);
            let matches = is_same(pair.private.as_ref(), private.as_ref());
            if matches & counts & (pair.public == public.trim()) {
                found = Some(pair);
            }
        }
        let Pair { caller, signer, replaced, .. } = found?;
        // A token for a replaced pair ends no later than the tokens that were issued before the change.
        let began = replaced.unwrap_or(now);
        let (token, end) = signer.issue(if began.wall < now.wall { began } else { now });
        let known = KnownCaller { caller: Arc::clone(caller), mark: Mark::Keys };
        Some(Issued { known, token, end })
    }

    /// Every caller, in the order of the configuration.
    pub fn callers(&self) -> impl Iterator<Item = &NamedCaller> {
        self.holders.iter().map(|holder| &*holder.definition.caller)
    }

    /// The callers with their current secrets, as [`Self::new`] takes them.
    pub fn in_use(&self) -> Vec<(Definition, Secrets)> {
        let in_use = |Holder { definition, token, pair }: &Holder| {
            let token = token.as_ref().map(|token| token.current.clone());
            (definition.clone(), Secrets { token, pair: pair.as_ref().map(|pair| pair.current.clone()) })
        };
        self.holders.iter().map(in_use).collect()
    }

    /// Says which of `callers`, if they replace this table, take over a secret that still counts for its old owner: one
    /// line for each. The old owner's service, which may still send that secret, would pass for the new owner.
    pub fn moved_secrets(&self, callers: &[(Definition, Secrets)], now: Now) -> Vec<String> {
        let mut lines = Vec::new();
        for (old_owner, kept) in callers {
            let Some(holder) = self.holder(&old_owner.caller.name) else { continue };
            let kept = secrets(kept);
            let given_up: Vec<&Secret> =
                holder.secrets_that_count(self.rules.overlap, now).filter(|old| !kept.contains(old)).collect();
            let owners = callers.iter().filter(|(owner, _)| owner.caller.name != old_owner.caller.name);
            for (owner, _) in owners.filter(|(_, new)| secrets(new).iter().any(|secret| given_up.contains(secret))) {
                let (owner, old_owner) = (&owner.caller.name, &old_owner.caller.name);
                lines.push(format!(
                    "{owner:?} has a secret that {old_owner:?} had before and that still counts for {old_owner:?}; make \
                     a new one for {owner:?}"
                ));
            }
        }
        lines
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    fn holder(&self, name: &str) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.definition.caller.name == name)
    }

    fn digest(&self, token: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token);
        hasher.finish()
    }
}

/// The bearer token of a request. `None` for several lines of `Authorization`, since any of them might be meant.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, token) = only.as_bytes().trim_ascii().split_at_checked(SCHEME.len())?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && token.len() <= LONGEST_TOKEN).then_some(token)
}

const SCHEME: &[u8] = b"Bearer";
// The size of the largest secret file that is read.
const LONGEST_TOKEN: usize = 4096;

fn sha256(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

/// A line for each pair of callers with the same secret.
pub fn shared_secrets(callers: &[(Definition, Secrets)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, (one, of_one)) in callers.iter().enumerate() {
        for (other, of_other) in callers.iter().take(index) {
            let theirs = secrets(of_other);
            if secrets(of_one).iter().any(|secret| theirs.contains(secret)) {
                let (one, other) = (&one.caller.name, &other.caller.name);
                lines.push(format!("{other:?} and {one:?} have the same secret, so nothing would tell them apart"));
            }
        }
    }
    lines
}

fn secrets(Secrets { token, pair }: &Secrets) -> Vec<&Secret> {
    token.iter().chain(pair.as_ref().map(|(_, private)| private)).collect()
}

#[cfg(test)]
mod tests;
