//! Reports the server of the fleet, and the mistakes in its configuration. Changes nothing there.

use std::time::Duration;

use super::failure::CheckFailure;
use crate::clock::Clock;
use crate::fleet::commands;
use crate::fleet::connect::{Connection, Connector, STEP};
use crate::fleet::failure::Failure;
use crate::fleet::inspect::{inspect, inspected};
use crate::fleet::life::ServerClock;
use crate::fleet::log::Greeting;
use crate::fleet::names::{Names, space};

/// The check of the fleet's server.
pub struct FleetCheck {
    pub connector: Connector,
    /// `gateway.environment`.
    pub environment: &'static str,
    /// `fleet.name`.
    pub name: String,
    /// `fleet.poll`.
    pub poll: Duration,
}

impl FleetCheck {
    /// Connects, and reports the facts that the server states. `merchant` is a part of the names of the fleet's keys.
    pub(super) async fn run(
        &self,
        merchant: &str,
        clock: &Clock,
        say: &mut impl FnMut(&str, &str),
    ) -> Result<(), CheckFailure> {
        self.try_all(merchant, clock, say).await.map_err(|failure| CheckFailure::of_fleet(&failure))
    }

    async fn try_all(&self, merchant: &str, clock: &Clock, say: &mut impl FnMut(&str, &str)) -> Result<(), Failure> {
        let names = Names::new(space(self.environment, merchant, &self.name));
        let began = clock.mono();
        let connection = self.connector.connect(None).await?;
        say("fleet", &format!("{}, reached in {} ms", connection.at, clock.mono().since(began).as_millis()));
        let greeted = greet(&connection, &names, clock).await;
        let node = match &greeted {
            Err(Failure::Refused(error)) => error.moved_to(),
            _ => None,
        };
        let (connection, greeting) = match node {
            None => (connection, greeted?),
            Some(node) => {
                let connection = self.connector.connect(Some(&node)).await?;
                say("node", &format!("{}, which has the keys", connection.at));
                let greeted = greet(&connection, &names, clock).await?;
                (connection, greeted)
            }
        };
        let received = clock.now();
        let found = inspected(connection.ask(&inspect(&names), STEP).await?)?;
        say("server", &found.to_string());
        let has_log = greeting.id.is_some() && greeting.ends.is_some();
        say("log", if has_log { "there" } else { "none yet: the first sidecar makes one" });
        let took = received.since(greeting.sent);
        say("round trip", &format!("{} ms", took.as_millis()));
        // The server read its clock between these two times.
        let ServerClock { time, .. } = ServerClock::new(greeting.time, greeting.sent, received);
        let (behind, ahead) = (greeting.sent.wall.millis_since(time), time.millis_since(received.wall));
        say("server time", &difference(behind, ahead));
        for warning in found.warnings() {
            say("note", &warning);
        }
        if took >= self.poll {
            say(
                "note",
                "a reply takes longer than fleet.poll: raise fleet.poll and fleet.lease, or use a nearer server",
            );
        }
        Ok(())
    }
}

async fn greet(connection: &Connection, names: &Names, clock: &Clock) -> Result<Greeting, Failure> {
    let sent = clock.now();
    commands::greeted(connection.ask(&commands::greet(names), STEP).await?, sent)
}

/// The difference between the server's clock and this machine's, in words.
fn difference(behind: i64, ahead: i64) -> String {
    let (amount, way) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    match amount {
        ..ACCEPTED => "agrees with this machine's clock to the second".to_owned(),
        _ => format!("{} s {way} this machine's clock: shared sessions live shorter by that", amount / 1000),
    }
}

const ACCEPTED: i64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_in_words() {
        for (behind, ahead, expected) in [
            (2, 3, "agrees with this machine's clock to the second"),
            (-5, -5, "agrees with this machine's clock to the second"),
            (999, -1003, "agrees with this machine's clock to the second"),
            (5999, -6003, "5 s behind this machine's clock: shared sessions live shorter by that"),
            (-6003, 1000, "1 s ahead of this machine's clock: shared sessions live shorter by that"),
        ] {
            assert_eq!(difference(behind, ahead), expected);
        }
    }
}
