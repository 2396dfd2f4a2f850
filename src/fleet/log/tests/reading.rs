//! Reading the log.

use proptest::prelude::*;

use super::*;

#[test]
fn each_entry_has_its_effect() {
    use Cause::{Answered, Unknown};
    let (tag, write) = (A, WriteId(1));
    let ended = |cause| Some(Effect::End { tag, write, cause });
    let since = at(1000).mono;
    // The entries were appended at 1000 and are read at 1500.
    let rows = [
        (begin(A, 1), Some(Effect::Begin { tag, write, overdue: at(46_000).mono })),
        (answered(A, 1), ended(Some((Answered, since)))),
        (Entry::Unknown { tag, write }, ended(Some((Unknown, since)))),
        (Entry::NotSent { tag, write }, ended(None)),
        (Entry::Changed { tag, write }, Some(Effect::Changed(A))),
        (Entry::All { write, doubt: Duration::ZERO }, Some(Effect::All { doubt: None })),
        (Entry::All { write, doubt: Duration::from_secs(60) }, Some(Effect::All { doubt: Some(at(61_000).mono) })),
        (Entry::Id(LogId([8; 16])), None),
    ];
    for (entry, effect) in rows {
        let (mut log, mut items) = joined();
        items.push(item(1000, entry));
        assert_eq!(poll(&mut log, &items, 1500), Ok(effect.into_iter().collect()), "{entry:?}");
        assert_eq!(log.position().map(|(position, ..)| position), Some(position(1000)));
        assert_eq!(log.horizon().synced, Some(at(1500)));
    }
    let (mut log, mut items) = joined();
    items.push(item(1, Entry::Id(LogId([8; 16]))));
    assert_eq!(poll(&mut log, &items, 2), Ok(vec![]));
    assert_eq!(log.position().map(|(.., id)| id), Some(LogId([8; 16])));
}

#[test]
fn an_entry_of_a_newer_version_is_the_worst_that_one_can_be() {
    let (mut log, mut items) = joined();
    let newer = Item::read(format!("{}-0", TIME + 10).as_bytes(), &[200; 50]).expect("a position");
    items.push(newer);
    items.push(item(11, Entry::Changed { tag: A, write: WriteId(1) }));
    let doubt = Some(at(20).mono.plus(LIMITS.window));
    assert_eq!(poll(&mut log, &items, 20), Ok(vec![Effect::All { doubt }, Effect::Changed(A)]));
    let ticket = log.ask(at(30)).expect("joined");
    let last = page(&items[2..], 30);
    assert!(!log.may_take(&ticket, &last, &[B], position(9)), "a body from before it");
    assert!(log.may_take(&ticket, &last, &[B], position(10)));
    // The gap check compares it byte for byte, as any other.
    let (mut log, mut items) = joined();
    items.push(newer);
    assert!(poll(&mut log, &items, 20).is_ok());
    items[1] = Item::read(format!("{}-0", TIME + 10).as_bytes(), &[201; 50]).expect("a position");
    assert_eq!(poll(&mut log, &items, 20), Err(Rejoin::Gap));
}

#[test]
fn a_server_clock_that_was_set_shortens_nothing() {
    for (time, overdue) in [(TIME - 3_600_000, 46_500), (TIME + 3_600_000, 45_100)] {
        let (mut log, mut items) = joined();
        assert_eq!(poll(&mut log, &items, 100), Ok(vec![]));
        items.push(item(1000, begin(A, 1)));
        let ticket = log.ask(at(1500)).expect("joined");
        let set = Page { items: &items, is_whole: true, time };
        // Set back, the entry seems to be new; set forward, as old as the last poll.
        let effect = Effect::Begin { tag: A, write: WriteId(1), overdue: at(overdue).mono };
        assert_eq!(log.polled(&ticket, &set, at(1500).mono), Ok(vec![effect]));
    }
}

#[test]
fn a_reply_that_does_not_go_on_changes_nothing() {
    let (known, next) = (item(5, begin(A, 1)), item(6, answered(A, 1)));
    let rows: [(&str, Vec<Item>); 7] = [
        ("nothing", vec![]),
        ("without the last known entry", vec![next]),
        ("another entry at its place", vec![item(5, begin(A, 2)), next]),
        ("the same entry elsewhere", vec![item(4, begin(A, 1)), next]),
        ("a foreign entry at its place", vec![Item { at: known.at, entry: Entry::decode(b"") }, next]),
        ("out of order", vec![known, item(7, answered(A, 1)), next]),
        ("one twice", vec![known, next, next]),
    ];
    for (name, reply) in rows {
        let (mut log, mut items) = joined();
        items.push(known);
        assert!(poll(&mut log, &items, 10).is_ok());
        let before = log.clone();
        let ticket = log.ask(at(20)).expect("joined");
        assert_eq!(log.polled(&ticket, &page(&reply, 20), at(20).mono), Err(Rejoin::Gap), "{name}");
        assert_eq!(log, before, "{name}");
    }
}

#[test]
fn replies_may_overtake_each_other() {
    let (mut log, mut items) = joined();
    let early = log.ask(at(10)).expect("joined");
    items.push(item(11, Entry::Changed { tag: A, write: WriteId(1) }));
    let early_page = items.clone();
    items.push(item(12, Entry::Changed { tag: B, write: WriteId(2) }));
    let late = log.ask(at(20)).expect("joined");
    assert_eq!(log.polled(&late, &page(&items, 20), at(21).mono), Ok(vec![Effect::Changed(A), Effect::Changed(B)]));
    assert_eq!(log.polled(&early, &page(&early_page, 20), at(22).mono), Ok(vec![]), "nothing twice");
    assert_eq!(log.horizon().synced, Some(at(20)));
    assert_eq!(log.position().map(|(position, ..)| position), Some(position(12)));
    // A reply that reaches as far as what is known has to have it.
    items[2] = item(13, Entry::Changed { tag: B, write: WriteId(2) });
    assert_eq!(log.polled(&early, &page(&items, 20), at(22).mono), Err(Rejoin::Gap));
}

#[test]
fn only_a_whole_poll_prolongs_the_lease() {
    let (mut log, mut items) = joined();
    items.push(item(1, Entry::Changed { tag: A, write: WriteId(1) }));
    let ticket = log.ask(at(100)).expect("joined");
    log.set_late();
    let cut = Page { is_whole: false, ..page(&items, 100) };
    assert_eq!(log.polled(&ticket, &cut, at(100).mono), Ok(vec![Effect::Changed(A)]));
    assert_eq!((log.horizon().synced, log.state()), (Some(at(0)), State::Late));
    let ticket = log.ask(at(200)).expect("joined");
    assert_eq!(log.advance(&ticket, &page(&items[1..], 200), at(200).mono), Ok(vec![]), "a lookup");
    assert_eq!((log.horizon().synced, log.state()), (Some(at(0)), State::Late));
    assert_eq!(log.polled(&ticket, &page(&items[1..], 250), at(250).mono), Ok(vec![]));
    assert_eq!((log.horizon().synced, log.state()), (Some(at(200)), State::Synced), "as of when it was sent");
}

#[test]
fn a_reply_from_an_earlier_connection_is_ignored() {
    let (mut log, items) = joined();
    let write = log.begin(A, LONGEST, at(0).mono);
    let (ticket, batch) = (log.ask(at(1)).expect("joined"), log.publish(9, at(1)).expect("a begin"));
    let late = [items[0], item(1, begin(A, write.0)), item(2, Entry::Changed { tag: B, write: WriteId(1) })];
    log.lose_connection();
    assert_eq!((log.state(), log.ask(at(2))), (State::Down, None));
    let ignores = |log: &mut Log| {
        let before = log.clone();
        assert_eq!(log.polled(&ticket, &page(&late, 3), at(3).mono), Ok(vec![]));
        assert_eq!(log.published(&batch, &[Some(position(1))], &page(&late, 3), at(3).mono), Ok(vec![]));
        assert_eq!(*log, before);
        assert!(!log.may_take(&ticket, &page(&late, 3), &[B], position(0)));
    };
    ignores(&mut log);
    // On a new log, the beginning is on its way again.
    let other = [item(5, Entry::Id(LogId([8; 16])))];
    let greeting = Greeting { id: Some(LogId([8; 16])), ..greeting(other[0], other[0], 6) };
    assert!(log.rejoin(&greeting, &page(&other, 6), at(6).mono).is_ok());
    assert!(log.publish(9, at(6)).is_some());
    ignores(&mut log);
}

#[test]
fn own_entries_are_known_by_their_number() {
    let mut log = Log::new(LIMITS, WriteId(u64::MAX));
    let items = [item(0, Entry::Id(ID))];
    let greeting = greeting(items[0], items[0], 0);
    assert!(log.rejoin(&greeting, &page(&items, 0), at(0).mono).is_ok());
    let (first, second) = (log.begin(A, LONGEST, at(0).mono), log.begin(A, LONGEST, at(0).mono));
    assert_eq!((first, second), (WriteId(u64::MAX), WriteId(0)));
    let is_own = |write| log.outbox.is_own(&Entry::Changed { tag: B, write: WriteId(write) });
    assert!(is_own(u64::MAX) && is_own(0) && !is_own(1) && !is_own(u64::MAX - 1));
    assert!(!log.outbox.is_own(&Entry::Id(ID)));
}

#[test]
fn a_body_is_taken_only_if_nothing_says_no() {
    let (mut log, mut items) = joined();
    items.push(item(10, Entry::Changed { tag: A, write: WriteId(1) }));
    items.push(item(20, Entry::Changed { tag: B, write: WriteId(2) }));
    assert!(poll(&mut log, &items, 30).is_ok());
    let takes = |log: &Log, tags: &[TagId], ms: u64, is_whole| {
        let ticket = log.ask(at(40)).expect("joined");
        log.may_take(&ticket, &Page { is_whole, ..page(&items[2..], 40) }, tags, position(ms))
    };
    assert!(takes(&log, &[A], 10, true) && !takes(&log, &[A], 9, true));
    assert!(!takes(&log, &[A, B], 19, true) && takes(&log, &[A, B], 20, true));
    assert!(!takes(&log, &[A], 21, true), "from a log that this one is behind");
    assert!(!takes(&log, &[A], 10, false), "there may be more in the log");
    assert!(log.may_share(&[A]));
    let write = log.begin(A, LONGEST, at(0).mono);
    assert!(!takes(&log, &[A], 20, true) && takes(&log, &[B], 20, true), "an own write");
    assert!(!log.may_share(&[B, A]) && log.may_share(&[B]));
    publish(&mut log, &mut items.clone(), 50);
    assert!(!log.may_share(&[A]), "it is open");
    log.end(write, A, Ending::NotSent, at(60).mono);
    assert!(!log.may_share(&[A]), "others do not know that it is over");
    let mut log = log.clone();
    log.set_late();
    assert!(!log.may_share(&[B]));
}

proptest! {
    #[test]
    fn each_entry_is_read_once_and_in_its_order(
        entries in proptest::collection::vec(0_u8..4, 1..40),
        polls in proptest::collection::vec((0_usize..40, 1_usize..12, 0_u64..1000), 1..40),
        order in proptest::collection::vec(0_usize..40, 0..80),
    ) {
        let (mut log, mut items) = joined();
        for (index, kind) in entries.iter().enumerate() {
            let (tag, write) = (A, WriteId(index as u64));
            items.push(item(index as u64 + 1, match kind {
                0 => begin(A, write.0),
                1 => answered(A, write.0),
                2 => Entry::NotSent { tag, write },
                _ => Entry::Changed { tag: TagId([index as u8; 16]), write },
            }));
        }
        // Each poll sees so much of the log, is cut after so many entries, and was sent then; some are read twice,
        // late, or never.
        let (mut replies, mut read, mut seen) = (Vec::new(), Vec::new(), 1);
        for (index, (more, cut, sent)) in polls.iter().enumerate() {
            seen = (seen + more).min(items.len());
            let ticket = log.ask(at(*sent)).expect("joined");
            let from = items.iter().position(|item| item.at == ticket.from()).expect("there");
            let page: Vec<_> = items[from..seen.max(from + 1)].iter().copied().take(*cut).collect();
            let is_whole = page.len() == seen.max(from + 1) - from;
            replies.push((ticket, page, is_whole, seen));
            for pick in order.iter().skip(index * 2).take(2) {
                let Some((ticket, page, is_whole, _)) = replies.get(*pick) else { continue };
                let page = Page { items: page, is_whole: *is_whole, time: TIME };
                read.extend(log.polled(ticket, &page, at(5000).mono).expect("the log goes on"));
            }
        }
        let last = log.position().expect("joined").0;
        let known: Vec<_> = items[1..].iter().filter(|item| item.at <= last).collect();
        prop_assert_eq!(read.len(), known.len());
        for (effect, item) in read.iter().zip(known) {
            let of = match effect {
                Effect::Begin { write, .. } | Effect::End { write, .. } => Some(*write),
                _ => None,
            };
            prop_assert!(of.is_none() || item.entry.expect("ours").write() == of);
        }
        // Synced as of a poll that saw no more than what was read.
        if let Some(synced) = log.horizon().synced.filter(|synced| *synced != at(0)) {
            let reaches = |(ticket, _, is_whole, seen): &&(Ticket, Vec<Item>, bool, usize)| {
                ticket.sent == synced && *is_whole && items[*seen - 1].at <= last
            };
            prop_assert!(replies.iter().find(reaches).is_some());
        }
    }

    #[test]
    fn no_reply_that_lacks_the_last_entry_is_believed(
        known in 1_usize..10, cut in 0_usize..10, change in 0_u8..4, place in 0_usize..10,
    ) {
        let (mut log, mut items) = joined();
        items.extend((1..10).map(|index| item(index, begin(A, index))));
        let before = poll(&mut log, &items[..known], 20);
        prop_assert_eq!(before.map(|effects| effects.len()), Ok(known - 1));
        let state = log.clone();
        let ticket = log.ask(at(30)).expect("joined");
        let mut reply = items[known - 1..].to_vec();
        let place = place % reply.len();
        let is_damaged = match change {
            // A gap at the beginning.
            0 => { reply.drain(..cut.min(reply.len())); cut > 0 }
            // Another entry at a place.
            1 => { reply[place].entry = Ok(begin(B, 99)); place == 0 }
            // Two entries the other way round.
            2 => { let other = cut % reply.len(); reply.swap(place, other); place != other }
            // One entry twice.
            _ => { reply.insert(place, reply[place]); true }
        };
        let result = log.polled(&ticket, &page(&reply, 30), at(30).mono);
        prop_assert_eq!(result.is_err(), is_damaged);
        prop_assert!(result.is_ok() || log == state);
    }
}
