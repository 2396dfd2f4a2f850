//! The input of a request to the control interface: its path, query and body.

use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::CommandError;

/// The prefix of every path of the control interface.
pub const PREFIX: &str = "/_simulator/";

/// The input of a request besides its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    /// The variable part of the path, if it has one.
    pub(super) name: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) body: &'a [u8],
}

impl Input<'_> {
    /// Refuses a query and a body. An empty object is accepted, because some clients send one in place of no body.
    pub(super) fn refuse(self) -> Result<(), CommandError> {
        self.refuse_query()?;
        match self.body.trim_ascii() {
            b"" | b"{}" => Ok(()),
            _ => Err(CommandError::unreadable("this call takes no body")),
        }
    }

    fn refuse_query(self) -> Result<(), CommandError> {
        match self.query {
            None | Some("") => Ok(()),
            Some(_) => Err(CommandError::unreadable("this call takes no query")),
        }
    }

    /// Reads the body. Refuses a query.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, CommandError> {
        self.refuse_query()?;
        serde_json::from_slice(self.body).map_err(|error| match error.classify() {
            Category::Data => CommandError::wrong(error.to_string()),
            Category::Syntax | Category::Eof | Category::Io => CommandError::unreadable(format!("not JSON: {error}")),
        })
    }
}
