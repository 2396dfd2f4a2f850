//! Telling the other pods, and holding answers.

use super::*;

#[test]
fn what_is_published_is_what_is_needed() {
    let (mut log, mut items) = joined();
    let end = |log: &mut Log, write, ending| log.end(write, A, ending, at(1).mono);
    let (open, quick, unsent, unknown) = (
        log.begin(A, LONGEST, at(0).mono),
        log.begin(A, LONGEST, at(0).mono),
        log.begin(A, LONGEST, at(0).mono),
        log.begin(A, LONGEST, at(0).mono),
    );
    end(&mut log, quick, Ending::Answered);
    end(&mut log, unsent, Ending::NotSent);
    end(&mut log, unknown, Ending::Unknown);
    log.purge(B, at(1).mono);
    log.purge(B, at(1).mono);
    log.purge_all(at(1).mono);
    log.purge_all(at(1).mono);
    assert_eq!(log.unpublished(), 5);
    let published = publish(&mut log, &mut items, 2);
    let words: Vec<_> = published.iter().map(|entry| (entry.as_str(), entry.write())).collect();
    // One write has ended before its beginning was sent, and one was never sent.
    let all = WriteId(FIRST + 6);
    let expected = [
        ("begin", Some(open)),
        ("answered", Some(quick)),
        ("unknown", Some(unknown)),
        ("changed", Some(WriteId(FIRST + 4))),
        ("all", Some(all)),
    ];
    assert_eq!(words, expected);
    assert_eq!((log.unpublished(), log.publish(9, at(3))), (0, None));
    // An ending of which the beginning is out has to be told, whatever it is.
    end(&mut log, open, Ending::NotSent);
    log.purge(B, at(3).mono);
    let words: Vec<_> = publish(&mut log, &mut items, 4).iter().map(Entry::as_str).collect();
    assert_eq!(words, ["not-sent", "changed"]);
}

#[test]
fn an_acknowledgement_in_a_log_that_is_gone_counts_no_more() {
    let (mut log, mut items) = joined();
    let write = log.begin(A, LONGEST, at(0).mono);
    publish(&mut log, &mut items, 0);
    // Another primary, which has not got the beginning.
    items.truncate(1);
    let greeting = Greeting { server: server("r", "g"), ..greeting(items[0], items[0], 200) };
    assert!(matches!(log.greet(&greeting), Step::Scan(_, Rejoin::RunId)));
    assert!(log.rejoin(&greeting, &page(&items, 200), at(200).mono).is_ok());
    log.end(write, A, Ending::Answered, at(250).mono);
    assert_eq!(publish(&mut log, &mut items, 250), [answered(A, write.0)]);
    assert_eq!(log.hold(Wait::Write(write), NEVER, at(549).mono), Hold::Until(at(550).mono));
    assert_eq!(log.hold(Wait::Write(write), NEVER, at(550).mono), Hold::Go(HoldEnd::AllKnow));
}

#[test]
fn an_entry_is_acknowledged_only_where_others_read_it() {
    let (log, items) = joined();
    let (id, own) = (items[0], item(5, begin(A, FIRST)));
    let other = item(6, begin(A, 1));
    let known = Some(own.at);
    type Reply = (Vec<Option<Position>>, Vec<Item>, bool);
    let rows: [(&str, Reply, Result<usize, Rejoin>); 8] = [
        ("as it should be", (vec![known], vec![id, own], true), Ok(0)),
        ("with more behind it", (vec![known], vec![id, own, other], true), Ok(0)),
        ("no log", (vec![None], vec![id, own], true), Err(Rejoin::Gap)),
        ("no position", (vec![], vec![id, own], true), Err(Rejoin::Gap)),
        ("another log", (vec![known], vec![item(1, Entry::Id(ID)), own], true), Err(Rejoin::Gap)),
        ("not in the log", (vec![known], vec![id, other], true), Ok(1)),
        ("another at its place", (vec![known], vec![id, item(5, begin(A, 1))], true), Ok(1)),
        ("behind the end of the page", (vec![known], vec![id], false), Ok(1)),
    ];
    for (name, (positions, reply, is_whole), expected) in rows {
        let mut log = log.clone();
        log.begin(A, LONGEST, at(0).mono);
        let batch = log.publish(9, at(5)).expect("a begin");
        let page = Page { is_whole, ..page(&reply, 6) };
        let result = log.published(&batch, &positions, &page, at(6).mono).map(|_| log.unpublished());
        assert_eq!(result, expected, "{name}");
        if name.starts_with("behind") {
            assert_eq!(poll(&mut log, &[id, own], 7), Ok(vec![]));
            assert_eq!(log.unpublished(), 0, "the next poll has it");
        } else if expected == Ok(1) {
            assert!(log.publish(9, at(7)).is_some(), "{name}: published again");
        }
    }
}

#[test]
fn an_entry_that_another_reply_shows_first_is_acknowledged_all_the_same() {
    let (mut log, mut items) = joined();
    log.begin(A, LONGEST, at(0).mono);
    let batch = log.publish(9, at(1)).expect("a begin");
    items.push(item(1, begin(A, FIRST)));
    assert_eq!(poll(&mut log, &items, 2), Ok(vec![]));
    assert_eq!(log.unpublished(), 1, "its position is not known yet");
    assert_eq!(log.published(&batch, &[Some(position(1))], &page(&items, 2), at(2).mono), Ok(vec![]));
    assert_eq!(log.unpublished(), 0);
}

#[test]
fn an_earlier_purge_of_a_tag_does_not_acknowledge_a_later_one() {
    let (mut log, mut items) = joined();
    log.purge(A, at(1).mono);
    let first = log.publish(9, at(1)).expect("a purge");
    log.purge(A, at(2).mono);
    let second = log.publish(9, at(2)).expect("another");
    items.push(item(1, Entry::Changed { tag: A, write: WriteId(FIRST) }));
    let cut = Page { is_whole: false, ..page(&items, 3) };
    assert_eq!(log.published(&second, &[Some(position(2))], &cut, at(3).mono), Ok(vec![]));
    assert_eq!(log.published(&first, &[Some(position(1))], &page(&items, 3), at(3).mono), Ok(vec![]));
    assert_eq!(log.hold(Wait::Purge(A), NEVER, at(1000).mono), Hold::Until(NEVER));
    items.push(item(2, Entry::Changed { tag: A, write: WriteId(FIRST + 1) }));
    assert_eq!(poll(&mut log, &items, 4), Ok(vec![]));
    assert_eq!(log.hold(Wait::Purge(A), NEVER, at(1000).mono), Hold::Go(HoldEnd::AllKnow));
}

#[test]
fn what_was_under_way_when_the_connection_broke_is_published_again() {
    let (mut log, mut items) = joined();
    let told = log.begin(A, LONGEST, at(0).mono);
    publish(&mut log, &mut items, 1);
    let untold = log.begin(B, LONGEST, at(0).mono);
    log.purge(A, at(2).mono);
    assert!(log.publish(9, at(2)).is_some());
    log.lose_connection();
    log.end(untold, B, Ending::NotSent, at(3).mono);
    let Step::GoOn(ticket) = log.greet(&greeting(items[0], items[1], 4)) else { panic!("the same log") };
    assert_eq!(log.publish(9, at(4)), None, "not before the log goes on");
    assert_eq!(log.polled(&ticket, &page(&items[1..], 4), at(4).mono), Ok(vec![]));
    let words: Vec<_> = publish(&mut log, &mut items, 5).iter().map(|entry| (entry.as_str(), entry.write())).collect();
    // The beginning may have arrived, so the end of the write that was not sent has to be told.
    assert_eq!(words, [("changed", Some(WriteId(FIRST + 2))), ("not-sent", Some(untold))]);
    log.end(told, A, Ending::Answered, at(6).mono);
    assert_eq!(publish(&mut log, &mut items, 6), [answered(A, told.0)]);
}

#[test]
fn what_was_under_way_when_a_reply_made_no_sense_is_published_again() {
    let (mut log, items) = joined();
    log.begin(A, LONGEST, at(1).mono);
    let batch = log.publish(9, at(1)).expect("a begin");
    assert_eq!(log.published(&batch, &[None], &page(&items, 2), at(2).mono), Err(Rejoin::Gap));
    let Step::GoOn(ticket) = log.greet(&greeting(items[0], items[0], 3)) else { panic!("the same log") };
    assert!(log.polled(&ticket, &page(&items, 3), at(3).mono).is_ok());
    assert!(log.publish(9, at(4)).is_some());
}

#[test]
fn a_new_log_learns_what_is_open_and_what_has_just_ended() {
    let (mut log, mut items) = joined();
    let writes: Vec<_> = (0..5).map(|_| log.begin(A, LONGEST, at(0).mono)).collect();
    publish(&mut log, &mut items, 1);
    for (write, ending) in writes.iter().zip([Ending::Answered, Ending::Unknown, Ending::NotSent]) {
        log.end(*write, A, ending, at(2).mono);
    }
    log.purge(B, at(2).mono);
    publish(&mut log, &mut items, 3);
    log.end(writes[3], A, Ending::Answered, at(8_000).mono);
    publish(&mut log, &mut items, 8_001);
    for (ms, expected) in [
        (9_000, vec!["begin", "answered", "unknown", "answered"]),
        (11_000, vec!["begin", "unknown", "answered"]),
        (20_000, vec!["begin", "unknown"]),
        (61_000, vec!["begin"]),
    ] {
        let mut log = log.clone();
        assert_eq!(log.tidy(at(ms).mono), 0);
        let mut items = vec![item(ms, Entry::Id(LogId([8; 16])))];
        let greeting = Greeting { id: Some(LogId([8; 16])), ..greeting(items[0], items[0], ms) };
        assert!(log.rejoin(&greeting, &page(&items, ms), at(ms).mono).is_ok());
        let words: Vec<_> = publish(&mut log, &mut items, ms + 1).iter().map(Entry::as_str).collect();
        assert_eq!(words, expected, "lost at {ms}");
    }
}

#[test]
fn an_answer_is_held_until_every_lease_from_before_its_write_is_over() {
    let go = Hold::Go;
    let (mut log, mut items) = joined();
    let write = log.begin(A, LONGEST, at(0).mono);
    let hold = |log: &Log, deadline: u64, now: u64| log.hold(Wait::Write(write), at(deadline).mono, at(now).mono);
    assert_eq!(hold(&log, 150, 100), Hold::Until(at(150).mono), "not told yet");
    publish(&mut log, &mut items, 100);
    log.end(write, A, Ending::Answered, at(200).mono);
    assert_eq!(hold(&log, 250, 200), Hold::Until(at(250).mono), "the end is not told yet");
    assert_eq!(hold(&log, 250, 250), go(HoldEnd::TimeIsUp));
    publish(&mut log, &mut items, 210);
    assert_eq!(hold(&log, 1000, 210), Hold::Until(at(400).mono), "the lease counts from the beginning");
    assert_eq!(hold(&log, 250, 210), Hold::Until(at(250).mono));
    assert_eq!(hold(&log, 250, 400), go(HoldEnd::AllKnow));
    assert_eq!(hold(&log, 1000, 399), Hold::Until(at(400).mono));
    log.set_late();
    assert_eq!(hold(&log, 1000, 399), go(HoldEnd::NotAwaited), "nobody waits for a link that is late");
    assert_eq!(log.hold(Wait::Write(WriteId(7)), at(9).mono, at(1).mono), go(HoldEnd::NotAwaited));
}

#[test]
fn a_purge_is_held_like_a_write() {
    let (mut log, mut items) = joined();
    log.purge(A, at(0).mono);
    log.purge_all(at(0).mono);
    for wait in [Wait::Purge(A), Wait::All] {
        assert_eq!(log.hold(wait, at(500).mono, at(10).mono), Hold::Until(at(500).mono));
    }
    publish(&mut log, &mut items, 20);
    for wait in [Wait::Purge(A), Wait::All] {
        assert_eq!(log.hold(wait, at(500).mono, at(30).mono), Hold::Until(at(320).mono));
        assert_eq!(log.hold(wait, at(500).mono, at(320).mono), Hold::Go(HoldEnd::AllKnow));
    }
    assert_eq!(log.hold(Wait::Purge(B), at(500).mono, at(30).mono), Hold::Go(HoldEnd::NotAwaited));
}

#[test]
fn a_beginning_that_was_stuck_on_the_way_is_closed_again() {
    let late = |items: &mut Vec<Item>, ms, write: WriteId| items.push(item(ms, begin(A, write.0)));
    let (mut log, mut items) = joined();
    let write = log.begin(A, LONGEST, at(0).mono);
    log.end(write, A, Ending::Answered, at(1).mono);
    assert_eq!(publish(&mut log, &mut items, 2), [answered(A, write.0)]);
    late(&mut items, 3, write);
    assert_eq!(poll(&mut log, &items, 4), Ok(vec![]));
    assert_eq!(publish(&mut log, &mut items, 5), [answered(A, write.0)]);
    // Nothing is known of it any more.
    assert_eq!(log.tidy(at(60_000).mono), 0);
    late(&mut items, 60_001, write);
    assert_eq!(poll(&mut log, &items, 60_002), Ok(vec![]));
    assert_eq!(publish(&mut log, &mut items, 60_003), [Entry::NotSent { tag: A, write }]);
    // The end that follows was only not read yet.
    assert_eq!(log.tidy(at(120_000).mono), 0);
    late(&mut items, 120_001, write);
    items.push(item(120_002, answered(A, write.0)));
    assert_eq!(poll(&mut log, &items, 120_003), Ok(vec![]));
    assert_eq!(publish(&mut log, &mut items, 120_004), []);
}
