//! The bounds of what is remembered.

use super::*;

#[test]
fn too_much_becomes_one_purge_of_everything() {
    let tag = |number: usize| TagId(((number as u128) << 8).to_be_bytes());
    let (mut log, mut items) = joined();
    let open = log.begin(A, LONGEST, at(0).mono);
    publish(&mut log, &mut items, 1);
    for number in 0..CAPACITY - 1 {
        log.purge(tag(number), at(2).mono);
    }
    assert_eq!(log.unpublished(), CAPACITY - 1);
    log.purge(tag(CAPACITY), at(3).mono);
    assert_eq!(log.unpublished(), 2, "all, and the one that did not fit");
    let words: Vec<_> = publish(&mut log, &mut items, 4).iter().map(Entry::as_str).collect();
    assert_eq!(words, ["all", "changed"]);
    log.end(open, A, Ending::Answered, at(5).mono);
    assert_eq!(publish(&mut log, &mut items, 5), [answered(A, open.0)], "what is open is not folded");

    // Of a write whose outcome is unknown, nothing is stored until it cannot take effect any more.
    let (mut log, mut items) = joined();
    for ending in [Ending::Unknown].into_iter().chain(std::iter::repeat_n(Ending::Answered, CAPACITY)) {
        let write = log.begin(A, LONGEST, at(0).mono);
        log.end(write, A, ending, at(2).mono);
    }
    let entries = publish(&mut log, &mut items, 3);
    assert!(
        matches!(entries[..], [Entry::All { doubt, .. }, Entry::Answered { .. }] if doubt == LIMITS.max_ttl),
        "{entries:?}"
    );

    // Writes that are open at once beyond the bound are told at their end only.
    let (mut log, _) = joined();
    let writes: Vec<_> = (0..=CAPACITY).map(|_| log.begin(A, LONGEST, at(0).mono)).collect();
    let begins =
        log.publish(CAPACITY * 2, at(4)).expect("many").entries().filter(|entry| entry.as_str() == "begin").count();
    assert_eq!(begins, CAPACITY);
    log.end(writes[CAPACITY], A, Ending::Unknown, at(4).mono);
    let all = log.publish(9, at(4)).expect("the end").entries().last().copied();
    assert!(matches!(all, Some(Entry::All { doubt, .. }) if doubt == LIMITS.max_ttl), "{all:?}");
}

#[test]
fn what_is_taken_back_or_replaced_leaves_nothing_behind() {
    let (mut log, mut items) = joined();
    log.lose_connection();
    for _ in 0..10_000 {
        let write = log.begin(A, LONGEST, at(1).mono);
        log.end(write, A, Ending::NotSent, at(1).mono);
        log.purge_all(at(1).mono);
        log.purge(A, at(1).mono);
    }
    assert!(log.outbox.queue.len() < 1000, "{}", log.outbox.queue.len());
    let Step::GoOn(ticket) = log.greet(&greeting(items[0], items[0], 2)) else { panic!("the same log") };
    assert!(log.polled(&ticket, &page(&items, 2), at(2).mono).is_ok());
    let words: Vec<_> = publish(&mut log, &mut items, 3).iter().map(Entry::as_str).collect();
    assert_eq!(words, ["all", "changed"]);
}

#[test]
fn a_doubt_that_others_have_not_read_is_told_by_the_next_purge_of_everything() {
    let (mut log, mut items) = joined();
    let doubt = |log: &mut Log, items: &mut Vec<Item>, ms| match publish(log, items, ms)[..] {
        [Entry::All { doubt, .. }] => doubt,
        ref other => panic!("{other:?}"),
    };
    log.outbox.purge_all(LIMITS.max_ttl, at(1).mono);
    log.purge_all(at(1).mono);
    assert!(log.publish(9, at(2)).is_some());
    log.purge_all(at(2).mono);
    assert_eq!(doubt(&mut log, &mut items, 3), LIMITS.max_ttl, "the one before may be lost");
    log.purge_all(at(4).mono);
    assert_eq!(doubt(&mut log, &mut items, 5), Duration::ZERO);
}

#[test]
fn acknowledged_writes_make_room_first() {
    let (mut log, mut items) = joined();
    for round in 0..3 {
        for _ in 0..CAPACITY / 2 {
            let write = log.begin(A, LONGEST, at(0).mono);
            log.end(write, A, Ending::Answered, at(round * 1000).mono);
        }
        while !publish(&mut log, &mut items, round * 1000 + 1).is_empty() {}
        items.drain(..items.len() - 1);
    }
    assert_eq!(log.unpublished(), 0);
    assert!(log.outbox.writes.len() <= CAPACITY);
    let write = log.begin(A, LONGEST, at(0).mono);
    log.end(write, A, Ending::Answered, at(4000).mono);
    assert_eq!(publish(&mut log, &mut items, 4001).len(), 1, "nothing was folded");
}

#[test]
fn what_no_entry_can_be_older_than_is_given_up_and_counted() {
    let (mut log, mut items) = joined();
    let (ended, open) = (log.begin(A, LONGEST, at(0).mono), log.begin(A, LONGEST, at(0).mono));
    log.lose_connection();
    log.end(ended, A, Ending::Answered, at(1000).mono);
    log.purge(B, at(1000).mono);
    log.purge_all(at(2000).mono);
    assert_eq!((log.tidy(at(60_999).mono), log.unpublished()), (0, 4));
    assert_eq!((log.tidy(at(61_000).mono), log.unpublished()), (2, 2));
    assert_eq!((log.tidy(at(62_000).mono), log.unpublished()), (1, 1), "what is open is kept");
    let Step::GoOn(ticket) = log.greet(&greeting(items[0], items[0], 70_000)) else { panic!("the same log") };
    assert!(log.polled(&ticket, &page(&items, 70_000), at(70_000).mono).is_ok());
    assert_eq!(publish(&mut log, &mut items, 70_001), [begin(A, open.0)]);
}
