//! Reads PromQL as far as tests need: the series that an expression asks for, and what the expression does with them.
//!
//! promtool does not suffice: it accepts a query for a series or a label that no sidecar has, and never says which series
//! a query names. The dashboard's queries also hold variables that only Grafana knows. Besides, these tests run where
//! Prometheus is not installed.

/// A series that an expression asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub name: String,
    /// Required labels: name, operator, value.
    pub matchers: Vec<(String, String, String)>,
    /// The text in the brackets.
    pub range: Option<String>,
    /// The function or aggregation right around the series.
    pub within: Option<String>,
}

impl Selector {
    /// The selector as the expression has it, without its range.
    pub fn text(&self) -> String {
        let matchers: Vec<_> =
            self.matchers.iter().map(|(label, is, value)| format!("{label}{is}\"{value}\"")).collect();
        format!("{}{{{}}}", self.name, matchers.join(","))
    }
}

/// The series of an expression, and the labels that the expression groups and joins by.
pub fn read(expression: &str) -> (Vec<Selector>, Vec<String>) {
    let mut reader = Reader { rest: expression, selectors: Vec::new(), groups: Vec::new() };
    reader.run();
    (reader.selectors, reader.groups)
}

struct Reader<'e> {
    rest: &'e str,
    selectors: Vec<Selector>,
    groups: Vec<String>,
}

impl Reader<'_> {
    fn run(&mut self) {
        // For each open parenthesis the word before it.
        let mut open: Vec<Option<String>> = Vec::new();
        let mut before = None;
        while let Some(next) = self.rest.chars().next() {
            let word = self.word();
            if !word.is_empty() {
                match word.as_str() {
                    "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                        let list = self.between('(', ')').expect("a list of labels");
                        self.groups.extend(list.split(',').map(|label| label.trim().to_owned()));
                    }
                    "and" | "or" | "unless" | "offset" | "bool" => {}
                    _ if self.rest.trim_start().starts_with('(')
                        || matches!(word.as_str(), "sum" | "max" | "min" | "count") =>
                    {
                        before = Some(word);
                    }
                    _ => self.selector(word, open.last().cloned().flatten()),
                }
                continue;
            }
            if next == '"' {
                self.string();
                continue;
            }
            // A duration after `offset`, or a number such as 5e3.
            if next.is_ascii_digit() {
                let is_number = |c: char| c.is_ascii_alphanumeric() || c == '.';
                self.rest = self.rest.trim_start_matches(is_number);
                continue;
            }
            match next {
                '(' => open.push(before.take()),
                ')' => drop(open.pop().expect("opened")),
                '{' => panic!("a selector without a name: {}", self.rest),
                _ => {}
            }
            self.rest = &self.rest[next.len_utf8()..];
        }
        assert!(open.is_empty(), "unclosed");
    }

    fn word(&mut self) -> String {
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(self.rest.len());
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == ':') {
            return String::new();
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn string(&mut self) -> String {
        let inner = self.rest.strip_prefix('"').expect("a string");
        let end = inner.find('"').expect("a closed string");
        self.rest = &inner[end + 1..];
        inner[..end].to_owned()
    }

    /// The text between two characters, if the first of them comes next.
    fn between(&mut self, open: char, close: char) -> Option<String> {
        let inner = self.rest.trim_start().strip_prefix(open)?;
        let end = inner.find(close).expect("closed");
        self.rest = &inner[end + 1..];
        Some(inner[..end].to_owned())
    }

    fn selector(&mut self, name: String, within: Option<String>) {
        let mut matchers = Vec::new();
        if let Some(inner) = self.rest.strip_prefix('{') {
            self.rest = inner;
            while !self.rest.trim_start().starts_with('}') {
                self.rest = self.rest.trim_start_matches([' ', ',']);
                let label = self.word();
                let end = self.rest.find('"').expect("a value");
                let (is, rest) = self.rest.split_at(end);
                self.rest = rest;
                matchers.push((label, is.trim().to_owned(), self.string()));
            }
            self.rest = &self.rest.trim_start()[1..];
        }
        let range = self.between('[', ']');
        self.selectors.push(Selector { name, matchers, range, within });
    }
}

#[test]
fn expressions_are_read() {
    let (selectors, groups) = read(
        r#"sum by (le, class) (rate(a_total{b="c(d)", e!~"f|g"}[5m])) / on (job) (job:x:rate5m > 5e3)
           and max(abs(h) - time()) without (i) > 0 or avg_over_time(j[1d] offset 1h)"#,
    );
    let found: Vec<_> = selectors
        .iter()
        .map(|selector| (selector.text(), selector.range.as_deref(), selector.within.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            (r#"a_total{b="c(d)",e!~"f|g"}"#.to_owned(), Some("5m"), Some("rate")),
            ("job:x:rate5m{}".to_owned(), None, None),
            ("h{}".to_owned(), None, Some("abs")),
            ("j{}".to_owned(), Some("1d"), Some("avg_over_time")),
        ]
    );
    assert_eq!(groups, ["le", "class", "job", "i"]);
}
