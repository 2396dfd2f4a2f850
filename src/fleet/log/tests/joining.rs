//! Joining the log.

use super::*;

#[test]
fn a_new_connection_goes_on_only_on_the_same_server_and_log() {
    let (log, items) = joined();
    let same = greeting(items[0], items[0], 10);
    let rows = [
        ("the same", same.clone(), None),
        ("another process", Greeting { server: server("s", "h"), ..same.clone() }, Some(Rejoin::RunId)),
        ("primary again", Greeting { server: server("r", "i"), ..same.clone() }, Some(Rejoin::RunId)),
        ("nameless", Greeting { server: None, ..same.clone() }, Some(Rejoin::RunId)),
        ("another log", Greeting { id: Some(LogId([8; 16])), ..same.clone() }, Some(Rejoin::Id)),
    ];
    for (name, greeting, expected) in rows {
        let mut log = log.clone();
        log.lose_connection();
        match (log.greet(&greeting), expected) {
            (Step::GoOn(ticket), None) => {
                assert_eq!(log.polled(&ticket, &page(&items, 10), at(11).mono), Ok(vec![]));
                assert_eq!((log.state(), log.horizon().epoch), (State::Synced, at(0).mono), "nothing is lost");
            }
            (Step::Scan(_, why), Some(expected)) => assert_eq!(why, expected, "{name}"),
            (step, _) => panic!("{name}: {step:?}"),
        }
    }
    for greeting in [Greeting { id: None, ..same.clone() }, Greeting { ends: None, ..same }] {
        assert_eq!(log.clone().greet(&greeting), Step::Create);
    }
}

#[test]
fn a_pod_that_joins_learns_what_is_open_and_trusts_nothing_from_before() {
    let mut log = Log::new(LIMITS, WriteId(FIRST));
    let items =
        [item(0, begin(A, 1)), item(100_000, begin(A, 2)), item(150_000, answered(A, 2)), item(190_000, begin(B, 3))];
    let greeting = greeting(items[0], items[3], 200_000);
    assert_eq!(log.greet(&greeting), Step::Scan(position(95_000), Rejoin::Connect));
    let effects = log.rejoin(&greeting, &page(&items[1..], 200_000), at(200_100).mono).expect("joined");
    // The page was read 100 ms after Redis's clock was asked, so each seems so much younger.
    let (write, tag) = (WriteId(2), A);
    assert_eq!(
        effects,
        [
            Effect::Rejoined { cause: Cause::Changed, doubt: None },
            Effect::Begin { tag, write, overdue: at(145_100).mono },
            Effect::End { tag, write, cause: Some((Cause::Answered, at(150_100).mono)) },
            Effect::Begin { tag: B, write: WriteId(3), overdue: at(235_100).mono },
        ]
    );
    let horizon = log.horizon();
    assert_eq!((horizon.epoch, horizon.synced, log.state()), (at(200_100).mono, Some(at(200_000)), State::Synced));
    let ticket = log.ask(at(200_200)).expect("joined");
    let last = page(&items[3..], 200_200);
    let takes = |tags: &[TagId], ms| log.may_take(&ticket, &last, tags, position(ms));
    assert!(
        takes(&[A], 150_000) && !takes(&[A], 149_999) && !takes(&[], 99_999),
        "not from before the first entry read"
    );
}

#[test]
fn a_long_scan_is_read_in_pages() {
    let mut log = Log::new(LIMITS, WriteId(FIRST));
    let items = [item(0, Entry::Id(ID)), item(1, begin(A, 1)), item(2, begin(B, 2))];
    let greeting = greeting(items[0], items[2], 10);
    let cut = Page { is_whole: false, ..page(&items[..2], 10) };
    assert_eq!(log.rejoin(&greeting, &cut, at(10).mono).map(|effects| effects.len()), Ok(2));
    assert_eq!((log.state(), log.horizon().synced), (State::Late, None));
    assert_eq!(poll(&mut log, &items, 20).map(|effects| effects.len()), Ok(1));
    assert_eq!((log.state(), log.horizon().synced), (State::Synced, Some(at(20))));
}

#[test]
fn a_scan_that_the_log_was_lost_under_is_none() {
    let mut log = Log::new(LIMITS, WriteId(FIRST));
    let items = [item(0, Entry::Id(ID)), item(1, begin(A, 1))];
    let asked = greeting(items[0], items[1], 10);
    for reply in [&[][..], &items[..1], &[items[1], items[0]]] {
        assert_eq!(log.rejoin(&asked, &page(reply, 10), at(10).mono), Err(Rejoin::Gap), "{reply:?}");
    }
    let nothing = Greeting { id: None, ends: None, ..asked };
    assert_eq!(log.rejoin(&nothing, &page(&items, 10), at(10).mono), Err(Rejoin::Id));
    assert_eq!(log.horizon().epoch, Mono::default());
}

#[test]
fn a_log_that_was_cut_leaves_doubt_until_nothing_in_the_lost_part_matters() {
    let doubt = |oldest: Item, time: u64| {
        let mut log = Log::new(LIMITS, WriteId(FIRST));
        let newest = item(time, begin(A, 2));
        let greeting = greeting(oldest, newest, time);
        let effects = log.rejoin(&greeting, &page(&[newest], time), at(time).mono).expect("joined");
        let Some(Effect::Rejoined { doubt, .. }) = effects.first() else { panic!("{effects:?}") };
        doubt.map(|until| until.since(at(time).mono).as_secs())
    };
    assert_eq!(doubt(item(0, begin(A, 1)), 105_000), None, "it reaches as far back as is read");
    assert_eq!(doubt(item(0, begin(A, 1)), 104_000), Some(15));
    assert_eq!(doubt(item(0, begin(A, 1)), 5_000), Some(100));
    assert_eq!(doubt(item(0, Entry::Id(ID)), 5_000), None, "it was made then");
}
