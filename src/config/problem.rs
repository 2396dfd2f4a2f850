//! Mistakes in the configuration, as the person who has to correct them reads them.
//!
//! A problem holds text only, and no text that could be a secret. The code that finds a problem decides whether to
//! quote the value, because only that code knows the meaning of the value.

use std::fmt;

/// Every mistake that was found, in a fixed order: unreadable sources, then keys by section, then unknown keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub(super) fn append(&mut self, mut later: Problems) {
        self.0.append(&mut later.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One mistake: its subject, its description, and the file or variable that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    subject: String,
    message: String,
    origin: Option<String>,
}

impl Problem {
    /// `subject` is a key, a file or a variable.
    pub(super) fn new(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { subject: subject.into(), message: message.into(), origin: None }
    }

    /// Names the file or the variable that the value came from.
    pub(super) fn at(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each() {
        let mut problems = Problems::default();
        problems.push(Problem::new("log.level", "expected a level").at("a.toml"));
        problems.push(Problem::new("b.toml", "cannot be read"));
        assert_eq!(problems.to_string(), "log.level: expected a level (a.toml)\nb.toml: cannot be read");
    }
}
