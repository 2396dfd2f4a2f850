//! The pieces that a section of the page is made of, without any markup.

use crate::status::chart::Chart;
use crate::status::verdict::remark::Remark;

/// A section of the page.
#[derive(Debug)]
pub struct Section {
    /// Names the section in a link.
    pub id: &'static str,
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

#[derive(Debug)]
pub enum Block {
    /// One or more sentences.
    Text(String),
    Remarks(Vec<Remark>),
    /// Names with their values.
    Facts(Vec<(&'static str, String)>),
    Table(Table),
    Figures(Vec<Figure>),
    Events(Vec<Event>),
    /// Lines that stay as they are, such as those of a configuration.
    Lines(Vec<String>),
    /// Details below a summary. A browser shows them on demand.
    Folded(&'static str, Box<Block>),
}

/// A table. The first cell of each row is the heading of the row.
#[derive(Debug, Default)]
pub struct Table {
    pub caption: String,
    /// Headings of the columns of text, which come first.
    pub texts: &'static [&'static str],
    /// Headings of the columns of numbers.
    pub numbers: &'static [&'static str],
    /// Whether the heading of a row is a word of the metrics.
    pub is_of_words: bool,
    pub rows: Vec<Vec<String>>,
}

/// A number with its chart.
#[derive(Debug)]
pub struct Figure {
    pub name: &'static str,
    pub value: String,
    pub words: String,
    pub chart: Chart,
}

/// An event, which may have happened several times.
#[derive(Debug, Default)]
pub struct Event {
    pub subject: String,
    /// The word that matters most, such as the error.
    pub what: &'static str,
    pub cause: Option<&'static str>,
    pub when: String,
    /// Identifiers, each with its name.
    pub identifiers: Vec<(&'static str, String)>,
}
