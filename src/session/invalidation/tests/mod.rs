mod model;

use super::*;

const KEY: Uuid = Uuid::from_u128(7);
const MAX_TTL: Duration = Duration::from_secs(60);
const START: Mono = Mono(Duration::ZERO);

fn invalidation(capacity: usize) -> Invalidation {
    Invalidation::new(capacity, MAX_TTL, None)
}

/// The ids of the tags of a body, which also has the tag of its session.
fn ids(tags: &[Tag]) -> Vec<TagId> {
    std::iter::once(&Tag::Session(KEY)).chain(tags).map(|tag| TagIds::alone().id(tag)).collect()
}

fn accepts(
    invalidation: &Invalidation,
    tags: Option<&[Tag]>,
    began: PurgeEpoch,
    arrived: PurgeEpoch,
) -> Result<(), Refused> {
    invalidation.accepts(tags.map(ids).as_deref(), began, arrived, START)
}

fn changed(invalidation: &Invalidation, tag: &Tag) -> Vec<Uuid> {
    let mut removed = Vec::new();
    invalidation.purge(tag, Cause::Changed, START, |key| removed.push(key));
    removed
}

/// Stores a fetched body, and returns the longest lifetime that it may get.
fn store(
    invalidation: &Invalidation,
    tags: &[Tag],
    began: PurgeEpoch,
    sent: Mono,
    id: u64,
) -> Result<Duration, NotStored> {
    invalidation.insert_unless_purged(&ids(tags), began, sent, FetchId { key: KEY, id }, Ok)
}

fn later(seconds: f64) -> Mono {
    START.plus(Duration::from_secs_f64(seconds))
}

#[test]
fn a_purge_finds_what_is_stored_under_the_tag_in_any_case() {
    let invalidation = invalidation(8);
    let tags = [Tag::order("12a-G"), Tag::token("T")];
    assert_eq!(store(&invalidation, &tags, invalidation.epoch(), START, 1), Ok(Duration::MAX));
    assert_eq!(changed(&invalidation, &Tag::order("12A-g")), [KEY]);
    assert_eq!(changed(&invalidation, &Tag::token("t")), [KEY]);
    assert_eq!(changed(&invalidation, &Tag::order("t")), Vec::<Uuid>::new(), "an order is not a token");
}

#[test]
fn a_fetch_that_began_before_a_purge_is_neither_stored_nor_handed_to_later_callers() {
    let invalidation = invalidation(8);
    let tags = [Tag::order("o")];
    let early = invalidation.epoch();
    changed(&invalidation, &Tag::order("o"));
    let late = invalidation.epoch();

    let fetch_id = FetchId { key: KEY, id: 1 };
    let refused = invalidation
        .insert_unless_purged(&ids(&tags), early, START, fetch_id, |_| -> Result<(), _> { panic!("must not run") });
    assert_eq!(refused, Err(NotStored::Purged));
    assert_eq!(accepts(&invalidation, Some(&tags), early, early), Ok(()), "it joined before the purge");
    assert_eq!(accepts(&invalidation, Some(&tags), early, late), Err(Refused::Purged));
    assert_eq!(
        accepts(&invalidation, Some(&[Tag::order("p")]), early, late),
        Ok(()),
        "another order's purge does not matter"
    );
    assert_eq!(accepts(&invalidation, None, early, late), Err(Refused::Purged), "it may relate to anything");
    assert_eq!(accepts(&invalidation, Some(&tags), late, late), Ok(()));
    assert_eq!(accepts(&invalidation, None, late, late), Ok(()));
    assert_eq!(store(&invalidation, &tags, late, START, 2), Ok(Duration::MAX));
}

#[test]
fn what_begins_during_a_purge_began_before_it() {
    let invalidation = invalidation(8);
    let tags = [Tag::order("o")];
    store(&invalidation, &tags, invalidation.epoch(), START, 1).expect("stored");
    let mut during = None;
    invalidation.purge(&tags[0], Cause::Changed, START, |_| during = Some(invalidation.epoch()));
    let during = during.expect("something was stored");
    assert!(during < invalidation.epoch());
    assert_eq!(store(&invalidation, &tags, during, START, 2), Err(NotStored::Purged));
}

#[test]
fn what_is_not_stored_is_not_indexed() {
    let invalidation = invalidation(8);
    let (tags, fetch_id) = ([Tag::order("o")], FetchId { key: KEY, id: 1 });
    let superseded = invalidation.insert_unless_purged(&ids(&tags), invalidation.epoch(), START, fetch_id, |_| {
        Err::<(), _>(NotStored::Superseded)
    });
    assert_eq!(superseded, Err(NotStored::Superseded));
    assert!(invalidation.lock().index.len() == 0);
}

#[test]
fn after_an_answered_write_what_is_fetched_lives_shortly_for_a_while() {
    let invalidation = invalidation(8);
    let (tags, other) = ([Tag::token("t"), Tag::order("o")], [Tag::order("p")]);
    invalidation.purge(&Tag::order("o"), Cause::Answered, later(5.0), |_| ());
    let began = invalidation.epoch();
    assert_eq!(store(&invalidation, &tags, began, later(5.0), 1), Ok(SETTLING_TTL));
    assert_eq!(store(&invalidation, &tags, began, later(14.999), 2), Ok(SETTLING_TTL));
    assert_eq!(store(&invalidation, &tags, began, later(15.0), 3), Ok(Duration::MAX));
    assert_eq!(store(&invalidation, &other, began, later(5.0), 4), Ok(Duration::MAX), "another order's write");
}

#[test]
fn after_an_unknown_outcome_nothing_is_stored_for_as_long_as_an_entry_may_live() {
    let invalidation = invalidation(8);
    let tags = [Tag::order("o")];
    invalidation.purge(&tags[0], Cause::Unknown, START, |_| ());
    // Neither a later write with a known outcome nor a purge for another cause settles the first write.
    invalidation.purge(&tags[0], Cause::Answered, later(1.0), |_| ());
    changed(&invalidation, &tags[0]);
    invalidation.purge_all(|| ());
    let began = invalidation.epoch();
    assert_eq!(store(&invalidation, &tags, began, later(59.999), 1), Err(NotStored::Unsettled));
    assert_eq!(store(&invalidation, &tags, began, later(60.0), 2), Ok(Duration::MAX));
    assert_eq!(store(&invalidation, &[Tag::order("p")], began, later(2.0), 3), Ok(Duration::MAX));
    assert_eq!(
        accepts(&invalidation, Some(&tags), began, invalidation.epoch()),
        Ok(()),
        "it may be handed on all the same"
    );
}

#[test]
fn an_unknown_outcome_settles_where_entries_live_shorter_than_that_takes() {
    let invalidation = Invalidation::new(8, Duration::from_secs(3), None);
    let tags = [Tag::order("o")];
    invalidation.purge(&tags[0], Cause::Unknown, START, |_| ());
    let began = invalidation.epoch();
    assert_eq!(store(&invalidation, &tags, began, later(2.999), 1), Err(NotStored::Unsettled));
    assert_eq!(store(&invalidation, &tags, began, later(3.0), 2), Ok(SETTLING_TTL));
    assert_eq!(store(&invalidation, &tags, began, later(10.0), 3), Ok(Duration::MAX));
}

#[test]
fn a_full_log_forgets_nothing_but_gets_more_cautious() {
    let invalidation = invalidation(2);
    let early = invalidation.epoch();
    for order in ["a", "b", "c"] {
        changed(&invalidation, &Tag::order(order));
    }
    let late = invalidation.epoch();
    for order in ["a", "b", "c", "never-purged"] {
        assert_eq!(accepts(&invalidation, Some(&[Tag::order(order)]), early, late), Err(Refused::Purged), "{order}");
    }
    assert_eq!(accepts(&invalidation, Some(&[Tag::order("a")]), late, late), Ok(()));
    assert!(invalidation.lock().history.len() <= 2);
}

#[test]
fn a_full_log_keeps_writes_that_have_not_settled() {
    let invalidation = invalidation(4);
    let unknown = [Tag::order("unknown")];
    invalidation.purge(&unknown[0], Cause::Unknown, START, |_| ());
    for order in 0..100 {
        changed(&invalidation, &Tag::order(&order.to_string()));
    }
    let began = invalidation.epoch();
    assert_eq!(store(&invalidation, &unknown, began, later(59.0), 1), Err(NotStored::Unsettled));
    // The other purges have made room for each other, at no cost to later fetches.
    assert_eq!(store(&invalidation, &[Tag::order("7")], began, later(1.0), 2), Ok(Duration::MAX));

    // Too many purges to remember one by one: for a while each session could be concerned.
    for order in 0..100 {
        invalidation.purge(&Tag::order(&order.to_string()), Cause::Answered, START, |_| ());
    }
    let began = invalidation.epoch();
    for tags in [&unknown, &[Tag::order("never-written")]] {
        assert_eq!(store(&invalidation, tags, began, later(59.0), 3), Err(NotStored::Unsettled));
        assert_eq!(store(&invalidation, tags, began, later(60.0), 4), Ok(Duration::MAX), "and then it is over");
    }
    assert!(invalidation.lock().history.len() <= 4);
}

#[test]
fn an_identifier_too_long_to_be_stored_does_not_fill_the_log() {
    let invalidation = invalidation(8);
    let early = invalidation.epoch();
    changed(&invalidation, &Tag::order(&"o".repeat(4000)));
    assert!(invalidation.lock().history.len() == 0);
    assert_eq!(
        accepts(&invalidation, Some(&[Tag::order("p")]), early, invalidation.epoch()),
        Err(Refused::Purged),
        "cautious instead"
    );
}

#[test]
fn what_left_the_cache_leaves_the_index() {
    let invalidation = invalidation(8);
    let tags = [Tag::order("o")];
    let (old, new) = (FetchId { key: KEY, id: 1 }, FetchId { key: KEY, id: 2 });
    for fetch_id in [old, new] {
        invalidation
            .insert_unless_purged(&ids(&tags), invalidation.epoch(), START, fetch_id, |_| Ok(()))
            .expect("stored");
    }
    invalidation.unindex([(invalidation.indexed(&ids(&tags)), old)].into_iter());
    assert_eq!(changed(&invalidation, &Tag::order("o")), [KEY], "the overwriting body is still there");
    invalidation.unindex([(invalidation.indexed(&ids(&tags)), new)].into_iter());
    assert!(invalidation.lock().index.len() == 0);
}
