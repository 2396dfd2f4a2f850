//! Compares the core with a model that keeps the whole history and searches all of it for every decision.
//!
//! Safety must always hold: no body is found, stored or handed on against the history. While the log is not full,
//! usefulness must hold too: no body is refused that the history allows.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::session::freshness::MAX_IDENTIFIER;

#[derive(Clone, Debug)]
enum Step {
    /// A fetch of a session begins.
    Begin(u8),
    /// A fetch ends, with a body that names these tags.
    End(Index, Vec<Tag>),
    Purge(Tag, Cause),
    PurgeAll,
    Pass(u64),
    /// The map evicts a session.
    Evict(u8),
    /// The map reports an entry that it dropped or overwrote.
    Report(Index),
    /// A caller arrives.
    Arrive,
    /// A caller is offered the body of a fetch: one with these tags, or one that cannot be read.
    Offer(Index, Index, Option<Vec<Tag>>),
    /// A write of another sidecar begins, and is overdue after this many milliseconds.
    BeginElsewhere(Tag, u64),
    /// A write of another sidecar ends; it ended so long ago for that cause.
    EndElsewhere(Index, Option<(Cause, u64)>),
    ChangedElsewhere(Tag),
    /// Everything may have changed, and is in doubt for so long.
    AllElsewhere(Option<u64>),
    Rejoined(Cause, Option<u64>),
    ForgetOverdue,
}

/// A purge in the history. The tag `None` stands for a purge of every tag.
#[derive(Debug)]
struct Purged {
    tag: Option<Tag>,
    cause: Cause,
    at: Mono,
    /// Until when nothing is to be stored.
    doubt: Mono,
    /// Whether stored bodies were removed, and not only the fetches in progress concerned.
    removes: bool,
}

/// A write of another sidecar that has not ended.
#[derive(Debug)]
struct Write {
    tag: Tag,
    number: u64,
    overdue: Mono,
}

/// A fetch, with the values that the core and the model need.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    began: PurgeEpoch,
    sent: Mono,
    fetch_id: FetchId,
    /// The length of the history when the fetch began.
    since: usize,
}

#[derive(Debug)]
struct World {
    core: Invalidation,
    now: Mono,
    /// Number of fetches that have begun.
    begun: u64,
    /// The fetches that have not ended.
    fetches: Vec<Fetch>,
    callers: Vec<(PurgeEpoch, usize)>,
    history: Vec<Purged>,
    /// Writes of other sidecars, in a fleet.
    open: Vec<Write>,
    in_fleet: bool,
    /// The entries in the map.
    entries: HashMap<Uuid, (Fetch, Vec<Tag>)>,
    /// Entries that the map no longer holds and has not reported yet.
    evicted: Vec<(FetchId, Vec<Tag>)>,
    /// Whether the log has room for every tag, so that decisions must be exact.
    exact: bool,
}

impl World {
    fn new(capacity: usize, exact: bool, in_fleet: bool) -> Self {
        Self {
            core: Invalidation::new(capacity, MAX_TTL, in_fleet.then(TagIds::alone)),
            now: START,
            begun: 0,
            fetches: Vec::new(),
            callers: Vec::new(),
            history: Vec::new(),
            open: Vec::new(),
            in_fleet,
            entries: HashMap::new(),
            evicted: Vec::new(),
            exact,
        }
    }

    fn concerning(&self, tags: &[Tag], from: usize, to: usize) -> impl Iterator<Item = &Purged> {
        let part = self.history[from..to].iter();
        part.filter(move |purge| purge.tag.as_ref().is_none_or(|tag| tags.contains(tag)))
    }

    fn purged(&self, tags: &[Tag], from: usize, to: usize) -> bool {
        self.concerning(tags, from, to).next().is_some()
    }

    /// The writes of other sidecars that concern these tags, or any body.
    fn written<'w>(&'w self, tags: Option<&'w [Tag]>) -> impl Iterator<Item = &'w Write> {
        self.open.iter().filter(move |write| tags.is_none_or(|tags| tags.contains(&write.tag)))
    }

    /// The decision that the history demands for a fetch with this body.
    fn verdict(&self, fetch: &Fetch, tags: &[Tag]) -> Result<Duration, NotStored> {
        let end = self.history.len();
        if self.purged(tags, fetch.since, end) {
            return Err(NotStored::Purged);
        }
        let within = |causes: &[Cause], time| {
            self.concerning(tags, 0, end).any(|purge| causes.contains(&purge.cause) && fetch.sent < purge.at.plus(time))
        };
        let doubtful = self.concerning(tags, 0, end).any(|purge| fetch.sent < purge.doubt)
            || self.written(Some(tags)).any(|write| fetch.sent < write.overdue.plus(MAX_TTL));
        if within(&[Cause::Unknown], MAX_TTL) || doubtful {
            return Err(NotStored::Unsettled);
        }
        if self.entries.get(&fetch.fetch_id.key).is_some_and(|(newer, _)| newer.fetch_id.id > fetch.fetch_id.id) {
            return Err(NotStored::Superseded);
        }
        let settling = within(&[Cause::Answered, Cause::Unknown], SETTLING);
        Ok(if settling { SETTLING_TTL } else { Duration::MAX })
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begin(key) => {
                let fetch_id = FetchId { key: Uuid::from_u128(key.into()), id: self.begun };
                self.begun += 1;
                let (began, since) = (self.core.epoch(), self.history.len());
                self.fetches.push(Fetch { began, sent: self.now, fetch_id, since });
            }
            Step::End(index, tags) if !self.fetches.is_empty() => {
                // Removed, because the id of a stored body is unique.
                let fetch = self.fetches.remove(index.index(self.fetches.len()));
                self.end(fetch, named(&fetch, tags));
            }
            Step::Purge(tag, cause) => {
                let removed = self.removed(|core, now, remove| core.purge(&tag, cause, now, remove));
                self.purged_one(tag, cause, self.now, removed);
            }
            Step::PurgeAll => {
                let all: Vec<Uuid> = self.entries.keys().copied().collect();
                let removed =
                    self.removed(|core, _, remove| core.purge_all(|| all.iter().for_each(|key| remove(*key))));
                self.purged_all(Cause::Changed, Mono::default(), true);
                self.drop_from_map(removed);
                assert!(self.entries.is_empty());
            }
            Step::Pass(millis) => self.now = self.now.plus(Duration::from_millis(millis)),
            Step::Evict(key) => self.drop_from_map(vec![Uuid::from_u128(key.into())]),
            Step::Report(index) if !self.evicted.is_empty() => {
                let (fetch_id, tags) = self.evicted.remove(index.index(self.evicted.len()));
                self.core.unindex([(self.core.indexed(&all_ids(&tags)), fetch_id)].into_iter());
            }
            Step::Arrive => self.callers.push((self.core.epoch(), self.history.len())),
            Step::Offer(fetch, caller, tags) if !self.fetches.is_empty() && !self.callers.is_empty() => {
                let fetch = fetch.get(&self.fetches);
                let (arrived, until) = *caller.get(&self.callers);
                self.offer(fetch, arrived, until, tags.map(|tags| named(fetch, tags)).as_deref());
            }
            Step::End(..) | Step::Report(_) | Step::Offer(..) => {}
            elsewhere if self.in_fleet => self.elsewhere(elsewhere),
            _ => {}
        }
        self.check();
    }

    fn elsewhere(&mut self, step: Step) {
        match step {
            Step::BeginElsewhere(tag, length) => {
                self.begun += 1;
                let (id, number, overdue) = (id(&tag), self.begun, self.now.plus(Duration::from_millis(length)));
                let removed = self.removed(|core, now, remove| core.begin_elsewhere(id, number, overdue, now, remove));
                self.open.push(Write { tag: tag.clone(), number, overdue });
                self.purged_one(tag, Cause::Changed, self.now, removed);
            }
            Step::EndElsewhere(index, cause) if !self.open.is_empty() => {
                let Write { tag, number, .. } = self.open.remove(index.index(self.open.len()));
                let cause = cause.map(|(cause, age)| (cause, self.now.minus(Duration::from_millis(age))));
                let removed = self.removed(|core, _, remove| core.end_elsewhere(id(&tag), number, cause, remove));
                match cause {
                    Some((cause, since)) => self.purged_one(tag, cause, since, removed),
                    None => assert!(removed.is_empty(), "nothing has changed"),
                }
            }
            Step::ChangedElsewhere(tag) => {
                let removed = self.removed(|core, now, remove| core.changed_elsewhere(id(&tag), now, remove));
                self.purged_one(tag, Cause::Changed, self.now, removed);
            }
            Step::AllElsewhere(doubt) | Step::Rejoined(_, doubt) => {
                let removes = matches!(step, Step::AllElsewhere(_));
                let cause = if let Step::Rejoined(cause, _) = step { cause } else { Cause::Answered };
                let doubt = doubt.map(|millis| self.now.plus(Duration::from_millis(millis)));
                self.core.all_changed_elsewhere(cause, doubt, self.now, || ());
                self.purged_all(cause, doubt.unwrap_or_default(), removes);
                if removes {
                    self.drop_from_map(self.entries.keys().copied().collect());
                }
            }
            Step::ForgetOverdue => {
                self.core.forget_overdue(self.now);
                let (before, known) = (self.now.minus(MAX_TTL), self.open.len());
                self.open.retain(|write| write.overdue >= before);
                // A core that no longer tells writes apart forgets them at other times.
                if self.exact && self.open.len() < known {
                    self.purged_all(Cause::Changed, Mono::default(), false);
                }
            }
            _ => {}
        }
    }

    fn purged_one(&mut self, tag: Tag, cause: Cause, at: Mono, removed: Vec<Uuid>) {
        let under = |key: &Uuid| {
            let indexed = self.indexed().any(|(fetch_id, tags)| fetch_id.key == *key && tags.contains(&tag));
            indexed || tag == Tag::Session(*key)
        };
        assert!(removed.iter().all(under), "{tag:?} {removed:?}");
        self.history.push(Purged { tag: Some(tag), cause, at, doubt: Mono::default(), removes: true });
        self.drop_from_map(removed);
    }

    fn purged_all(&mut self, cause: Cause, doubt: Mono, removes: bool) {
        self.history.push(Purged { tag: None, cause, at: self.now, doubt, removes });
    }

    fn end(&mut self, fetch: Fetch, tags: Vec<Tag>) {
        let expected = self.verdict(&fetch, &tags);
        let newer =
            self.entries.get(&fetch.fetch_id.key).is_some_and(|(known, _)| known.fetch_id.id > fetch.fetch_id.id);
        let insert = |most| if newer { Err(NotStored::Superseded) } else { Ok(most) };
        let result = self.core.insert_unless_purged(&all_ids(&tags), fetch.began, fetch.sent, fetch.fetch_id, insert);
        if self.exact {
            assert_eq!(result, expected, "{fetch:?} {tags:?}");
        } else if let Ok(most) = result {
            assert!(expected.is_ok_and(|allowed| most <= allowed), "{fetch:?} {tags:?}: {expected:?}");
        }
        if result.is_ok() {
            let overwritten = self.entries.insert(fetch.fetch_id.key, (fetch, tags));
            self.evicted.extend(overwritten.map(|(fetch, tags)| (fetch.fetch_id, tags)));
        }
    }

    fn offer(&self, fetch: &Fetch, arrived: PurgeEpoch, until: usize, tags: Option<&[Tag]>) {
        let accepted = self.core.accepts(tags.map(all_ids).as_deref(), fetch.began, arrived, self.now);
        let (end, is_open) = (self.history.len(), self.written(tags).any(|write| self.now < write.overdue));
        if is_open {
            assert_eq!(accepted, Err(Refused::Open), "{fetch:?} {tags:?}");
        }
        let purged = |to: usize| match tags {
            Some(tags) => self.purged(tags, fetch.since, to),
            None => fetch.since < to,
        };
        // The caller may have arrived before the fetch began. What another sidecar tells later may have been before.
        let until = if self.in_fleet { end } else { until.max(fetch.since) };
        let is_known = tags.is_some() || self.in_fleet;
        assert!(accepted.is_err() || !purged(until), "{fetch:?} {tags:?} {until}");
        let certain = !is_open && (fetch.since == until || is_known && !purged(end));
        assert!(accepted.is_ok() || !certain || !self.exact, "{fetch:?} {tags:?} {until}");
    }

    /// The keys that a purge removes.
    fn removed(&self, purge: impl FnOnce(&Invalidation, Mono, &mut dyn FnMut(Uuid))) -> Vec<Uuid> {
        let mut removed = Vec::new();
        purge(&self.core, self.now, &mut |key| removed.push(key));
        removed
    }

    fn drop_from_map(&mut self, keys: Vec<Uuid>) {
        for key in keys {
            self.evicted.extend(self.entries.remove(&key).map(|(fetch, tags)| (fetch.fetch_id, tags)));
        }
    }

    /// The entries that the map holds, or has not yet reported as gone.
    fn indexed(&self) -> impl Iterator<Item = (FetchId, &Vec<Tag>)> {
        let held = self.entries.values().map(|(fetch, tags)| (fetch.fetch_id, tags));
        held.chain(self.evicted.iter().map(|(fetch_id, tags)| (*fetch_id, tags)))
    }

    /// No purged body can be found, and every body is indexed once under each tag, outside a fleet except its
    /// session's.
    fn check(&self) {
        for (fetch, tags) in self.entries.values() {
            let mut purges = self.concerning(tags, fetch.since, self.history.len());
            assert!(!purges.any(|purge| purge.removes), "{fetch:?} {tags:?}");
        }
        let known: usize = self.indexed().map(|(_, tags)| tags.len() - usize::from(!self.in_fleet)).sum();
        let state = self.core.lock();
        assert_eq!(state.index.len(), known, "the index holds what the map held");
        assert!(state.history.len() <= self.core.capacity && state.open.len() <= self.core.capacity);
    }
}

/// The tags of a body, first the session that was asked for.
fn named(fetch: &Fetch, mut tags: Vec<Tag>) -> Vec<Tag> {
    tags.insert(0, Tag::Session(fetch.fetch_id.key));
    tags
}

fn id(tag: &Tag) -> TagId {
    TagIds::alone().id(tag)
}

fn all_ids(tags: &[Tag]) -> Vec<TagId> {
    tags.iter().map(id).collect()
}

/// A tag of an order or a token.
fn tag() -> impl Strategy<Value = Tag> {
    (0_u8..5).prop_map(|number| match number {
        0..3 => Tag::order(&number.to_string()),
        _ => Tag::token(&number.to_string()),
    })
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    // Without duplicates, as in the body of a session.
    proptest::collection::hash_set(tag(), 0..3).prop_map(|tags| tags.into_iter().collect())
}

fn purged() -> impl Strategy<Value = Tag> {
    prop_oneof![5 => tag(), 1 => (0_u8..3).prop_map(|key| Tag::Session(Uuid::from_u128(key.into())))]
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![3 => Just(Cause::Changed), 2 => Just(Cause::Answered), 1 => Just(Cause::Unknown)]
}

fn millis() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), 0_u64..12_000, Just(10_000), Just(60_000)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..3).prop_map(Step::Begin),
        6 => (any::<Index>(), tags()).prop_map(|(fetch, tags)| Step::End(fetch, tags)),
        3 => (purged(), cause()).prop_map(|(tag, cause)| Step::Purge(tag, cause)),
        1 => Just(Step::PurgeAll),
        3 => millis().prop_map(Step::Pass),
        1 => (0_u8..3).prop_map(Step::Evict),
        3 => any::<Index>().prop_map(Step::Report),
        3 => Just(Step::Arrive),
        4 => (any::<Index>(), any::<Index>(), proptest::option::weighted(0.9, tags()))
            .prop_map(|(fetch, caller, tags)| Step::Offer(fetch, caller, tags)),
        2 => (purged(), millis()).prop_map(|(tag, length)| Step::BeginElsewhere(tag, length)),
        2 => (any::<Index>(), proptest::option::weighted(0.8, (cause(), millis())))
            .prop_map(|(write, cause)| Step::EndElsewhere(write, cause)),
        1 => purged().prop_map(Step::ChangedElsewhere),
        1 => proptest::option::of(millis()).prop_map(Step::AllElsewhere),
        1 => (cause(), proptest::option::of(millis())).prop_map(|(cause, doubt)| Step::Rejoined(cause, doubt)),
        1 => Just(Step::ForgetOverdue),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_core_decides_as_the_whole_history_would(
        in_fleet: bool,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(100, true, in_fleet);
        steps.into_iter().for_each(|step| world.take(step));
    }

    #[test]
    fn a_log_that_overflows_is_never_less_cautious(
        capacity in 1_usize..5,
        in_fleet: bool,
        steps in proptest::collection::vec(step(), 0..120),
        long in proptest::collection::vec(any::<Index>(), 0..3),
    ) {
        let mut world = World::new(capacity, false, in_fleet);
        let mut steps = steps;
        for at in long {
            let too_long = Tag::order(&"o".repeat(MAX_IDENTIFIER + 1));
            steps.insert(at.index(steps.len() + 1), Step::Purge(too_long, Cause::Answered));
        }
        steps.into_iter().for_each(|step| world.take(step));
    }
}
