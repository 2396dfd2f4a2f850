//! How long a body may be served that another pod fetched. Pure.
//!
//! Three clocks take part: Redis's, by which the key expires; Sezzle's, as far as this pod has seen its `Date`; and
//! this pod's. Each clock can be wrong, so each of them ends a life, and the earliest end counts.

use std::time::Duration;

use crate::clock::{Now, Wall};

/// Redis's clock, known by one reply to `TIME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerClock {
    /// The reply.
    pub time: Wall,
    /// When the question was sent.
    pub sent: Now,
    /// When the reply was read.
    pub received: Now,
}

impl ServerClock {
    /// `time` is the reply in milliseconds.
    pub fn new(time: u64, sent: Now, received: Now) -> Self {
        Self { time: Wall(i64::try_from(time).unwrap_or(i64::MAX)), sent, received }
    }

    /// A lower bound of the server's clock at `now`.
    pub fn at_least(&self, now: Now) -> Wall {
        // The monotonic clock alone never runs ahead of real time.
        self.time.plus(now.mono.since(self.received.mono))
    }

    /// An upper bound of the server's clock at `now`.
    pub fn at_most(&self, now: Now) -> Wall {
        // One millisecond more, because both readings are cut to whole milliseconds.
        self.time.plus(now.since(self.sent)).plus(Duration::from_millis(1))
    }
}

/// The times that are sealed with a shared body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Times {
    /// Sezzle's `Date`, if the answer had one.
    pub date: Option<Wall>,
    /// `tokenize.expiration`, if the session has one.
    pub expiration: Option<Wall>,
    /// Age of the answer when it was shared (RFC 9111, 4.2.3).
    pub age: Duration,
    /// The life that was left when the body was shared.
    pub life: Duration,
    /// The end of that life by Redis's clock, which is also the end of the key.
    pub end: Wall,
}

impl Times {
    /// The times of a body that has `life` left at `now`.
    pub fn new(
        date: Option<Wall>,
        expiration: Option<Wall>,
        age: Duration,
        life: Duration,
        server: &ServerClock,
        now: Now,
    ) -> Self {
        let life = life.min(LONGEST);
        // The end counts from the lower bound, so that a delayed command does not lengthen the life.
        Self { date, expiration, age, life, end: server.at_least(now).plus(life) }
    }
}

/// The longest life of a shared body.
pub const LONGEST: Duration = Duration::from_secs(600);

/// The knowledge and the settings of the reading pod.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub server: ServerClock,
    /// The last `Date` that Sezzle sent to this pod, and when it came.
    pub sezzle: Option<(Wall, Now)>,
    /// The configured margin before `tokenize.expiration`.
    pub margin: Duration,
    /// The configured longest life of an entry.
    pub max_ttl: Duration,
}

/// The rest of a shared body's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How long from now the body may be served.
    pub ttl: Duration,
    /// The age of the answer now.
    pub age: Duration,
    /// Time from now until the session itself ends; `None` if the session names no end.
    pub session: Option<Duration>,
}

/// The rest at `now` of the life of a body with these times. `None` if nothing is left.
pub fn left(times: &Times, reader: &Reader, now: Now) -> Option<Left> {
    let by_server = signed_since(times.end, reader.server.at_most(now))?;
    // A clock that was set back must not lengthen the life.
    let given = by_server.min(times.life).min(LONGEST);
    let elapsed = times.life.saturating_sub(given);
    let age = times.age.saturating_add(elapsed);
    let session = match times.expiration {
        Some(expiration) => {
            let by_record = times.date.map(|date| date.plus(times.age));
            let by_sezzle = reader.sezzle.map(|(date, seen)| date.plus(now.since(seen)));
            let latest = by_record.into_iter().chain(by_sezzle).fold(now.wall, Wall::max);
            Some(signed_since(expiration, latest)?)
        }
        None => None,
    };
    let by_session = session.map_or(Duration::MAX, |session| session.saturating_sub(reader.margin));
    let ttl = given.min(by_session).min(reader.max_ttl.saturating_sub(elapsed));
    (!ttl.is_zero()).then_some(Left { ttl, age, session })
}

/// Time from `earlier` until `later`; `None` if there is none.
fn signed_since(later: Wall, earlier: Wall) -> Option<Duration> {
    (later > earlier).then(|| later.since(earlier))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Mono;

    const WALL: i64 = 1_764_000_000_000;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `ms` after the start by real time, on a machine whose wall clock is `off` by so much.
    fn at(ms: i64, off: i64) -> Now {
        Now { mono: Mono(Duration::from_millis(u64::try_from(5_000_000 + ms).unwrap())), wall: Wall(WALL + ms + off) }
    }

    fn server(sent: Now, received: Now, time: i64) -> ServerClock {
        ServerClock { time: Wall(WALL + time), sent, received }
    }

    fn reader(server: ServerClock) -> Reader {
        Reader { server, sezzle: None, margin: seconds(5), max_ttl: seconds(60) }
    }

    #[test]
    fn the_first_clock_that_ends_a_life_counts() {
        let now = at(0, 0);
        let right = server(at(-20, 0), at(-10, 0), -15);
        let times = Times::new(Some(Wall(WALL)), Some(Wall(WALL + 1_800_000)), seconds(1), seconds(60), &right, now);
        assert_eq!(times.end, Wall(WALL - 5 + 60_000), "TIME and what has passed since its reply");
        let ttl = |times: Times, reader: Reader, now| left(&times, &reader, now).map(|left| left.ttl.as_millis());
        let soon = Times { expiration: Some(Wall(WALL + 25_000)), ..times };
        let rows = [
            ("by Redis's clock, at its upper bound", times, reader(right), now, Some(59_989)),
            ("later", times, reader(right), at(40_000, 0), Some(19_989)),
            ("at its end", times, reader(right), at(59_989, 0), None),
            ("Redis's clock set back an hour", times, reader(server(now, now, -3_600_000)), now, Some(60_000)),
            (
                "set back, with a shorter life",
                Times { life: seconds(30), ..times },
                reader(server(now, now, -3_600_000)),
                now,
                Some(30_000),
            ),
            ("Redis's clock set forward", times, reader(server(now, now, 3_600_000)), now, None),
            ("own max_ttl", times, Reader { max_ttl: seconds(30), ..reader(right) }, now, Some(29_989)),
            (
                "own max_ttl counts from the fetch",
                times,
                Reader { max_ttl: seconds(30), ..reader(right) },
                at(29_990, 0),
                None,
            ),
            ("expiration less the margin", soon, reader(right), now, Some(19_000)),
            ("own clock fast", soon, reader(right), at(0, 15_000), Some(5_000)),
            (
                "own clock slow, Sezzle's known",
                soon,
                Reader { sezzle: Some((Wall(WALL + 10_000), now)), ..reader(right) },
                at(0, -600_000),
                Some(10_000),
            ),
            ("own clock slow, the record's Date", soon, reader(right), at(0, -600_000), Some(19_000)),
            ("within the margin", Times { expiration: Some(Wall(WALL + 6_000)), ..times }, reader(right), now, None),
            ("expired", Times { expiration: Some(Wall(WALL - 1)), ..times }, reader(right), now, None),
            ("no expiration", Times { expiration: None, date: None, ..times }, reader(right), now, Some(59_989)),
            (
                "a life no pod gives",
                Times { life: seconds(9_000), end: Wall(WALL + 9_000_000), ..times },
                Reader { max_ttl: seconds(9_000), ..reader(right) },
                now,
                Some(600_000),
            ),
        ];
        for (name, times, reader, now, expected) in rows {
            assert_eq!(ttl(times, reader, now), expected, "{name}");
        }
    }

    #[test]
    fn the_age_grows_with_the_time_in_redis() {
        let server = server(at(0, 0), at(0, 0), 0);
        let times = Times::new(None, None, seconds(2), seconds(60), &server, at(0, 0));
        let left = left(&times, &reader(server), at(10_000, 0)).expect("alive");
        assert_eq!(
            left,
            Left { ttl: Duration::from_millis(49_999), age: Duration::from_millis(12_001), session: None }
        );
    }

    #[test]
    fn a_suspended_reader_does_not_lengthen_a_life() {
        let asked = server(at(0, 0), at(0, 0), 0);
        let times = Times::new(None, None, seconds(0), seconds(60), &asked, at(0, 0));
        let woken = Now { mono: at(1, 0).mono, wall: at(61_000, 0).wall };
        assert_eq!(left(&times, &reader(asked), woken), None);
    }

    proptest! {
        /// Clocks are wrong by up to an hour and delays are any, yet while one of the clocks that see the expiration is
        /// right, nothing is served past it; and nothing is served longer than it was given.
        #[test]
        fn nothing_is_served_past_its_expiration_or_its_life(
            (writer_off, reader_off, server_off) in (-3_600_000_i64..3_600_000, -3_600_000_i64..3_600_000, -3_600_000_i64..3_600_000),
            (up, down) in (0_i64..2_000, 0_i64..2_000),
            (shared, read) in (0_i64..5_000, 0_i64..120_000),
            life in 1_u64..120, expires in -60_000_i64..600_000, sezzle_seen: bool, right: u8,
        ) {
            // By real time: TIME is asked at 0, the body shared after its reply, and read later.
            let reader_off = if right % 2 == 0 { 0 } else { reader_off };
            let knows_sezzle = sezzle_seen || right % 2 != 0;
            let shared = up + down + shared;
            let writer = server(at(0, writer_off), at(up + down, writer_off), up + server_off);
            let expiration = Wall(WALL + expires);
            let times = Times::new(
                Some(Wall(WALL + shared)), Some(expiration), Duration::ZERO, seconds(life), &writer, at(shared, writer_off),
            );
            let now = shared + read;
            let own = server(at(now - 10, reader_off), at(now - 5, reader_off), now - 7 + server_off);
            let sezzle = knows_sezzle.then(|| (Wall(WALL), at(0, reader_off)));
            let reader = Reader { server: own, sezzle, margin: seconds(5), max_ttl: seconds(60) };
            if let Some(left) = left(&times, &reader, at(now, reader_off)) {
                let end = now + i64::try_from(left.ttl.as_millis()).unwrap();
                prop_assert!(end <= expires - 5_000, "served until {end}, expires {expires}");
                prop_assert!(end <= shared + i64::try_from(life).unwrap() * 1000, "longer than given");
                prop_assert!(end <= shared + 60_000, "longer than its own max_ttl");
                prop_assert!(left.age.as_millis() >= u128::try_from(read).unwrap(), "younger than it is");
            }
        }
    }
}
