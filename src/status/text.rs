//! Renders the content as plain text of 80 columns, for a terminal. Pure.

use std::fmt::Write;

use super::content::Content;
use super::content::block::{Block, Event, Figure, Table};
use super::verdict::remark::{Level, Remark};

/// Columns of a line.
const WIDTH: usize = 80;
const INDENT: usize = 2;
const GAP: usize = 2;
/// The smallest width to which a column of text is cut down.
const NARROWEST: usize = 8;

/// Renders the content.
pub fn render(content: &Content) -> String {
    let mut text = String::new();
    let head = format!("sezzle-sidecar {} on {}: {}", content.environment, content.host, content.state);
    paragraph(&mut text, &head, 0, 0);
    paragraph(&mut text, &format!("As of {}. {}", content.as_of, content.covers), 0, 0);
    for section in content.sections() {
        text.push('\n');
        paragraph(&mut text, section.title, 0, 0);
        section.blocks.iter().for_each(|one| block(&mut text, one));
    }
    text
}

fn block(text: &mut String, block: &Block) {
    match block {
        Block::Text(words) => paragraph(text, words, INDENT, INDENT),
        Block::Remarks(remarks) => remarks.iter().for_each(|one| remark(text, one)),
        Block::Facts(facts) => {
            let rows: Vec<Vec<String>> =
                facts.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
            self::rows(text, &rows, 2);
        }
        Block::Table(whole) => table(text, whole),
        Block::Figures(figures) => figures.iter().for_each(|one| figure(text, one)),
        Block::Events(events) => events.iter().for_each(|one| event(text, one)),
        Block::Lines(lines) => lines.iter().for_each(|line| paragraph(text, line, INDENT, INDENT + GAP)),
        Block::Folded(summary, folded) => {
            paragraph(text, &format!("{summary}:"), INDENT, INDENT);
            self::block(text, folded);
        }
    }
}

fn remark(text: &mut String, remark: &Remark) {
    let mark = if remark.level == Level::Trouble { "!!" } else { "! " };
    let alerts = match remark.condition.alerts() {
        [] => String::new(),
        alerts => format!(" [{}]", alerts.join(", ")),
    };
    paragraph(text, &format!("{mark} {}{alerts}", remark.text), INDENT, INDENT + 3);
}

fn figure(text: &mut String, Figure { name, value, words, chart }: &Figure) {
    paragraph(text, &format!("{name}: {value} {words}. {}", chart.description), INDENT, INDENT + GAP);
}

fn event(text: &mut String, Event { subject, what, cause, when, identifiers }: &Event) {
    let cause = cause.map_or(String::new(), |cause| format!(" ({cause})"));
    paragraph(text, &format!("{subject} {what}{cause}"), INDENT, INDENT + GAP);
    let mut details = when.clone();
    for (name, identifier) in identifiers {
        // Writing to a string cannot fail.
        let _ = write!(details, ", {name} {identifier}");
    }
    paragraph(text, &details, INDENT + GAP, INDENT + GAP);
}

fn table(text: &mut String, table: &Table) {
    paragraph(text, &table.caption, INDENT, INDENT);
    let heads: Vec<String> = table.texts.iter().chain(table.numbers).map(|head| (*head).to_owned()).collect();
    let all: Vec<Vec<String>> = [heads].into_iter().chain(table.rows.iter().cloned()).collect();
    rows(text, &all, table.texts.len());
}

/// Rows with aligned columns. The first `texts` columns are text, which is broken where a line would be too long; the
/// others are numbers, to the right.
fn rows(text: &mut String, rows: &[Vec<String>], texts: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let natural: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell)).max().unwrap_or_default())
        .collect();
    let widths = fitted(natural, texts, WIDTH - INDENT - GAP * columns.saturating_sub(1));
    for row in rows {
        let cells: Vec<Vec<String>> = row.iter().zip(&widths).map(|(cell, width)| broken(cell, *width)).collect();
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
            let mut written = " ".repeat(INDENT);
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let part = cell.get(line).map_or("", String::as_str);
                let space = " ".repeat(width.saturating_sub(length(part)));
                let (before, after) = if column < texts { ("", space.as_str()) } else { (space.as_str(), "") };
                let gap = if column > 0 { " ".repeat(GAP) } else { String::new() };
                let _ = write!(written, "{gap}{before}{part}{after}");
            }
            text.push_str(written.trim_end());
            text.push('\n');
        }
    }
}

/// The widths of columns that fit into `room` together. The first `texts` columns are text, and the widest of them
/// gives way.
fn fitted(mut widths: Vec<usize>, texts: usize, room: usize) -> Vec<usize> {
    loop {
        let over = widths.iter().sum::<usize>().saturating_sub(room);
        let widest = widths.iter_mut().take(texts).max();
        match widest {
            Some(widest) if over > 0 && *widest > NARROWEST => {
                *widest = widest.saturating_sub(over.min(*widest / 4 + 1)).max(NARROWEST)
            }
            _ => return widths,
        }
    }
}

/// Words in lines, the first indented by `first` columns and all others by `others`.
fn paragraph(text: &mut String, words: &str, first: usize, others: usize) {
    for (index, line) in broken(words, WIDTH - others.max(first)).iter().enumerate() {
        let indent = if index == 0 { first } else { others };
        text.push_str(&" ".repeat(indent));
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Breaks text between words, and a word that is longer than a line wherever the line ends.
fn broken(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut rest: Vec<char> = word.chars().map(shown).collect();
        if let Some(line) = lines.last_mut() {
            let space = usize::from(!line.is_empty());
            if length(line) + space + rest.len() <= width {
                line.push_str(&" ".repeat(space));
                line.extend(rest);
                continue;
            }
        }
        while !rest.is_empty() {
            let more = rest.split_off(rest.len().min(width));
            match lines.last_mut().filter(|line| line.is_empty()) {
                Some(line) => line.extend(rest),
                None => lines.push(rest.into_iter().collect()),
            }
            rest = more;
        }
    }
    lines
}

/// A character that a terminal may show: a terminal obeys control characters, so each of them is replaced.
fn shown(character: char) -> char {
    if character.is_control() { char::REPLACEMENT_CHARACTER } else { character }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{HOSTILE, ill, well};

    #[test]
    fn text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(broken("", 5), [""]);
        assert_eq!(broken("one two three", 7), ["one two", "three"]);
        assert_eq!(broken("a 0123456789 b", 4), ["a", "0123", "4567", "89 b"]);
        assert_eq!(broken("a\x1b[2Jb", 9), ["a\u{fffd}[2Jb"]);
    }

    #[test]
    fn columns_give_way_until_the_line_fits() {
        assert_eq!(fitted(vec![10, 20, 5], 2, 40), [10, 20, 5]);
        let widths = fitted(vec![100, 60, 5], 2, 60);
        assert!(widths.iter().sum::<usize>() <= 60 && widths[2] == 5, "{widths:?}");
        assert_eq!(fitted(vec![9, 50, 50], 1, 60), [8, 50, 50], "numbers are whole");
    }

    #[test]
    fn every_state_fits_into_a_terminal() {
        for s in [well(), ill()] {
            let text = render(&Content::of(&s));
            let wide: Vec<_> = text.lines().filter(|line| length(line) > WIDTH).collect();
            assert!(wide.is_empty(), "{wide:#?}");
            assert!(!text.contains(HOSTILE) && !text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
            assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        }
        let text = render(&Content::of(&ill()));
        for words in [
            "sezzle-sidecar sandbox on shop-7f9c: Ready, but in trouble",
            "  !! Sezzle fails: the circuit breaker is open for session, read.",
            "[SezzleSidecarUnauthorized]",
            "\nWrites with an unknown outcome\n  POST /v2/order/{order}/capture outcome unknown\n",
            "Sezzle-Request-Id none",
        ] {
            assert!(text.contains(words), "{words:?} in\n{text}");
        }
    }
}
