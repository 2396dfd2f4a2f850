//! Writes HTML. Only string literals of the code are markup; all other text is escaped.

use std::fmt::{Display, Write};

/// A page, or a part of one, while it is written.
#[derive(Debug, Default)]
pub struct Html(String);

impl Html {
    /// Writes a literal as it is: markup, or text that needs no escaping.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Writes escaped text, or the value of an attribute between double quotes.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// Writes an element on one line: a tag without attributes around escaped text.
    pub fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text).raw("</").raw(tag).raw(">\n")
    }

    /// Writes a table of names with their values.
    pub fn facts(&mut self, facts: &[(&'static str, String)]) -> &mut Self {
        self.raw("<table class=\"facts\">\n<tbody>\n");
        for (name, value) in facts {
            self.raw("<tr><th scope=\"row\">").raw(name).raw("</th><td>").text(value).raw("</td></tr>\n");
        }
        self.raw("</tbody>\n</table>\n")
    }

    pub fn finish(self) -> String {
        self.0
    }
}

struct Escaped<'h>(&'h mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // HTML allows no control characters.
                control if control.is_control() => self.0.push(char::REPLACEMENT_CHARACTER),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn what_is_not_markup_is_escaped() {
        for (text, expected) in [
            ("plain 1.5 %", "plain 1.5 %"),
            ("<script>a && b</script>", "&lt;script&gt;a &amp;&amp; b&lt;/script&gt;"),
            ("\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("&lt;", "&amp;lt;"),
            ("a\0b\x1b[2J\u{85}\n", "a\u{fffd}b\u{fffd}[2J\u{fffd}\u{fffd}"),
            ("é ✓", "é ✓"),
        ] {
            assert_eq!(escaped(text), expected, "{text:?}");
        }
        let mut html = Html::default();
        html.element("td", 12).raw("<hr>");
        assert_eq!(html.finish(), "<td>12</td>\n<hr>");
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_as_text_is_markup(text in ".*") {
            let escaped = escaped(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
        }
    }
}
