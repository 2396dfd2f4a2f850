//! Two pods through anything that may happen to them and their Redis, in any order.

use proptest::prelude::*;

use super::model::{Redis, join, whole};
use super::*;
use crate::session::invalidation::open::OpenWrites;

/// One thing that happens to two pods and their Redis.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin(bool),
    End(usize, u8),
    Purge(bool),
    PurgeAll,
    /// Sends what is queued; the server executes it.
    Publish,
    /// The reply to a batch comes in.
    Reply,
    /// The connection breaks, and what was sent is executed or not.
    Break(bool),
    /// The server executes what was sent on a connection that is broken.
    Thaw,
    Poll,
    FailOver(usize),
    LoseLog,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => any::<bool>().prop_map(Event::Begin),
        4 => (0_usize..8, 0_u8..3).prop_map(|(write, ending)| Event::End(write, ending)),
        1 => any::<bool>().prop_map(Event::Purge),
        1 => Just(Event::PurgeAll),
        4 => Just(Event::Publish),
        4 => Just(Event::Reply),
        1 => any::<bool>().prop_map(Event::Break),
        1 => Just(Event::Thaw),
        3 => Just(Event::Poll),
        1 => (1_usize..6).prop_map(Event::FailOver),
        1 => Just(Event::LoseLog),
    ]
}

/// Two pods, of which one writes and one reads, through everything that may happen.
struct Pair {
    redis: Redis,
    writer: Log,
    reader: Log,
    open: OpenWrites,
    writer_process: u8,
    reader_process: u8,
    under_way: Vec<(WriteId, TagId)>,
    ended: Vec<(WriteId, Ending)>,
    batch: Option<(Batch, Vec<Option<Position>>, Vec<Item>)>,
    stuck: Vec<Entry>,
}

impl Pair {
    fn new() -> Self {
        let redis = Redis::new(false);
        let pod = |first| {
            let mut log = Log::new(LIMITS, WriteId(first));
            join(&mut log, &redis, at(0));
            log
        };
        let (writer, reader) = (pod(FIRST), pod(0));
        Self {
            redis,
            writer,
            reader,
            open: OpenWrites::default(),
            writer_process: 0,
            reader_process: 0,
            under_way: Vec::new(),
            ended: Vec::new(),
            batch: None,
            stuck: Vec::new(),
        }
    }

    fn happen(&mut self, event: Event, ms: u64) {
        let now = at(ms);
        match event {
            Event::Begin(first) => {
                let tag = if first { A } else { B };
                self.under_way.push((self.writer.begin(tag, LONGEST, now.mono), tag));
            }
            Event::End(index, ending) => {
                if index < self.under_way.len() {
                    let (write, tag) = self.under_way.remove(index);
                    let ending = [Ending::Answered, Ending::Unknown, Ending::NotSent][usize::from(ending)];
                    self.writer.end(write, tag, ending, now.mono);
                    self.ended.push((write, ending));
                }
            }
            Event::Purge(first) => self.writer.purge(if first { A } else { B }, now.mono),
            Event::PurgeAll => self.writer.purge_all(now.mono),
            Event::Publish => {
                if self.batch.is_none()
                    && self.writer_process == self.redis.process
                    && let Some(batch) = self.writer.publish(3, now)
                {
                    let positions = batch.entries().map(|entry| Some(self.redis.append(*entry))).collect();
                    let page = self.redis.range(batch.ticket.from());
                    self.batch = Some((batch, positions, page));
                }
            }
            Event::Reply => {
                if let Some((batch, positions, page)) = self.batch.take()
                    && self.writer.published(&batch, &positions, &whole(&page), now.mono).is_err()
                {
                    join(&mut self.writer, &self.redis, now);
                }
            }
            Event::Break(is_executed) => {
                if let Some(batch) = self.writer.publish(3, now).filter(|_| !is_executed) {
                    self.stuck.extend(batch.entries());
                }
                self.batch = None;
                self.connect(now);
            }
            Event::Thaw => std::mem::take(&mut self.stuck).into_iter().for_each(|entry| _ = self.redis.append(entry)),
            Event::Poll => self.poll(now),
            Event::FailOver(keep) => {
                if self.redis.process < 200 {
                    self.redis.fail_over(keep.min(self.redis.log.len()));
                    self.stuck.clear();
                }
            }
            Event::LoseLog => self.redis.lose_log(),
        }
    }

    fn connect(&mut self, now: Now) {
        self.writer.lose_connection();
        self.writer_process = self.redis.process;
        join(&mut self.writer, &self.redis, now);
    }

    fn poll(&mut self, now: Now) {
        let effects = if self.reader_process == self.redis.process {
            let ticket = self.reader.ask(now).expect("joined");
            let page = self.redis.range(ticket.from());
            match self.reader.polled(&ticket, &whole(&page), now.mono) {
                Ok(effects) => effects,
                Err(_) => join(&mut self.reader, &self.redis, now),
            }
        } else {
            self.reader.lose_connection();
            self.reader_process = self.redis.process;
            join(&mut self.reader, &self.redis, now)
        };
        for effect in effects {
            match effect {
                Effect::Begin { tag, write, overdue } => self.open.open(tag, write.0, overdue, 1000),
                Effect::End { tag, write, .. } => self.open.close(tag, write.0),
                Effect::Changed(_) | Effect::All { .. } | Effect::Rejoined { .. } => {}
            }
        }
    }

    fn has_end(&self, write: WriteId) -> bool {
        let is_end = |entry: &Entry| !matches!(entry, Entry::Begin { .. }) && entry.write() == Some(write);
        self.redis.log.iter().any(|item| item.entry.as_ref().is_ok_and(is_end))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_is_told_in_the_end(events in proptest::collection::vec(event(), 0..60)) {
        let mut pair = Pair::new();
        let mut ms = 0;
        for event in events {
            ms += 1;
            pair.happen(event, ms);
            // An acknowledged entry stands in a log that the writer has read, unless that log was lost since.
            if pair.writer_process == pair.redis.process {
                let is_known = |last: Item| pair.redis.log.contains(&last);
                if pair.writer.place.as_ref().is_some_and(|place| is_known(place.last)) {
                    for (write, _) in &pair.ended {
                        let hold = pair.writer.hold(Wait::Write(*write), Mono(Duration::MAX), Mono(Duration::MAX));
                        prop_assert!(hold != Hold::Go(HoldEnd::AllKnow) || pair.has_end(*write), "{write:?}");
                    }
                }
            }
        }
        // Then all is well again, and every write ends.
        for (write, tag) in std::mem::take(&mut pair.under_way) {
            pair.writer.end(write, tag, Ending::Answered, at(ms).mono);
            pair.ended.push((write, Ending::Answered));
        }
        pair.happen(Event::Thaw, ms);
        pair.happen(Event::Break(true), ms);
        for _ in 0..200 {
            for event in [Event::Publish, Event::Reply, Event::Poll] {
                pair.happen(event, ms);
            }
            // Sees its own entries that were stuck.
            let ticket = pair.writer.ask(at(ms)).expect("joined");
            let page = pair.redis.range(ticket.from());
            if pair.writer.polled(&ticket, &whole(&page), at(ms).mono).is_err() {
                join(&mut pair.writer, &pair.redis, at(ms));
            }
        }
        prop_assert_eq!(pair.writer.unpublished(), 0);
        let open = pair.open.overdue(&[A, B]);
        prop_assert!(open.is_none(), "no write stays open: {open:?}");
        for (write, ending) in &pair.ended {
            prop_assert!(*ending == Ending::NotSent || pair.has_end(*write), "{write:?}, {ending:?}");
        }
    }
}
