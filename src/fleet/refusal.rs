//! The meaning of an error reply of Redis for the link. Pure.

/// The kinds of error replies, by the link's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The server has no memory left, so nothing can be published: delete the log.
    Full,
    /// The keys are on another node: connect to that node.
    Moved,
    /// The server cannot accept writes now, or is not the primary: connect again.
    Unfit,
    /// The server refuses this pod or this command: an operator has to act.
    Denied,
    /// Any other error: connect again.
    Other,
}

impl Refusal {
    /// The kind of an error reply with this first word.
    pub fn of(code: &str) -> Self {
        match code {
            "OOM" => Self::Full,
            "MOVED" | "ASK" => Self::Moved,
            "READONLY" | "MISCONF" | "NOREPLICAS" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "BUSY" | "TRYAGAIN" => {
                Self::Unfit
            }
            "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" | "NOPROTO" => Self::Denied,
            _ => Self::Other,
        }
    }

    /// The node that an error names: `MOVED 3999 127.0.0.1:6381`. `None` if the error names no node, or
    /// a node without a host, which means the node that was asked.
    pub fn moved_to(error: &str) -> Option<(&str, u16)> {
        let mut words = error.split_ascii_whitespace();
        let ("MOVED" | "ASK", Some(_), Some(address), None) = (words.next()?, words.next(), words.next(), words.next())
        else {
            return None;
        };
        let (host, port) = address.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty() && host != "?").then_some((host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do() {
        let rows = [
            ("OOM", Refusal::Full),
            ("MOVED", Refusal::Moved),
            ("READONLY", Refusal::Unfit),
            ("NOREPLICAS", Refusal::Unfit),
            ("MISCONF", Refusal::Unfit),
            ("CLUSTERDOWN", Refusal::Unfit),
            ("NOAUTH", Refusal::Denied),
            ("NOPERM", Refusal::Denied),
            ("ERR", Refusal::Other),
            ("", Refusal::Other),
        ];
        for (code, expected) in rows {
            assert_eq!(Refusal::of(code), expected, "{code}");
        }
    }

    #[test]
    fn the_other_node_is_read_or_there_is_none() {
        assert_eq!(Refusal::moved_to("MOVED 3999 127.0.0.1:6381"), Some(("127.0.0.1", 6381)));
        assert_eq!(Refusal::moved_to("MOVED 3999 redis-1.internal:6381"), Some(("redis-1.internal", 6381)));
        assert_eq!(Refusal::moved_to("MOVED 1 [::1]:6381"), Some(("::1", 6381)));
        assert_eq!(Refusal::moved_to("MOVED 1 2001:db8::1:6381"), Some(("2001:db8::1", 6381)));
        for text in [
            "",
            "MOVED",
            "MOVED 1",
            "MOVED 1 :6381",
            "MOVED 1 ?:6381",
            "MOVED 1 a:0",
            "MOVED 1 a:65536",
            "ERR 1 a:1",
            "MOVED 1 a:1 b",
        ] {
            assert_eq!(Refusal::moved_to(text), None, "{text}");
        }
    }
}
