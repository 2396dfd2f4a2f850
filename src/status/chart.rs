//! A chart of the last hour as static SVG: one column for each part of the hour, and no text but title and description.
//!
//! The page's style sheet colours the chart by class. The page also states every chart's content in words, for readers
//! who cannot see the chart and for text browsers.

use super::html::Html;

/// A column chart with its description.
#[derive(Debug)]
pub struct Chart {
    pub title: &'static str,
    /// The chart's content in words.
    pub description: String,
    /// Columns from the earliest to the latest; `None` where no observation was made.
    pub columns: Vec<Option<Column>>,
    /// The value of a column of full height; at least 1.
    pub full: u32,
    /// The value of a column of full height, in words.
    pub scale: String,
}

/// One column: a lower part, and a part of another kind stacked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Value of the part that stands on the ground.
    pub lower: u32,
    /// Value of the part on top of `lower`.
    pub upper: u32,
}

impl Chart {
    /// Writes the chart as an `<svg>` element.
    pub fn write(&self, html: &mut Html) {
        html.raw("<svg viewBox=\"0 0 298 80\" role=\"img\">\n").element("title", self.title);
        html.element("desc", &self.description);
        let mut x = 0_u32;
        // Before the start of the process there was nothing to count.
        let start = self.columns.iter().position(Option::is_some).unwrap_or(self.columns.len());
        let last = self.columns.len().saturating_sub(1);
        for (index, column) in self.columns.iter().enumerate() {
            // The last column covers a part of its time only, so it is drawn lighter.
            let is_partial = index == last && column.is_some();
            html.raw(if is_partial { "<g class=\"partial\">\n" } else { "" });
            match column {
                None if index < start => {}
                None => rectangle(html, "gap", x, HEIGHT - GROUND, GROUND),
                Some(Column { lower, upper }) => {
                    let (lower, upper) = (self.height(*lower), self.height(*upper));
                    let upper = upper.min(HEIGHT - lower);
                    rectangle(html, "ground", x, HEIGHT - GROUND, GROUND);
                    rectangle(html, "lower", x, HEIGHT - lower, lower);
                    rectangle(html, "upper", x, HEIGHT - lower - upper, upper);
                }
            }
            html.raw(if is_partial { "</g>\n" } else { "" });
            x = x.saturating_add(STEP);
        }
        html.raw("</svg>\n");
    }

    /// The height of a bar for `count`. Any count above zero is visible.
    fn height(&self, count: u32) -> u32 {
        let scaled = u64::from(count).saturating_mul(u64::from(HEIGHT)) / u64::from(self.full.max(1));
        let least = if count > 0 { LEAST } else { 0 };
        u32::try_from(scaled).unwrap_or(HEIGHT).clamp(least, HEIGHT)
    }
}

const HEIGHT: u32 = 80;
const STEP: u32 = 10;
const WIDTH: u32 = 8;
const GROUND: u32 = 1;
const LEAST: u32 = 2;

fn rectangle(html: &mut Html, class: &'static str, x: u32, y: u32, height: u32) {
    if height > 0 {
        html.raw("<rect class=\"").raw(class).raw("\" x=\"").text(x).raw("\" y=\"").text(y).raw("\" width=\"");
        html.text(WIDTH).raw("\" height=\"").text(height).raw("\"/>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The boxes of each column: class, y and height.
    fn drawn(full: u32, column: Option<Column>) -> Vec<(String, u32, u32)> {
        let chart =
            Chart { title: "<t>", description: "\"d\"".to_owned(), columns: vec![column], full, scale: String::new() };
        let mut html = Html::default();
        chart.write(&mut html);
        let text = html.finish();
        assert!(text.contains("<title>&lt;t&gt;</title>\n<desc>&quot;d&quot;</desc>"), "{text}");
        let rectangles = text.lines().filter_map(|line| line.strip_prefix("<rect class=\""));
        let value = |line: &str, name: &str| -> u32 {
            let rest = line.split(&format!(" {name}=\"")).nth(1).expect("an attribute");
            rest.split('"').next().and_then(|value| value.parse().ok()).expect("a number")
        };
        rectangles
            .map(|line| {
                (line.split('"').next().unwrap_or_default().to_owned(), value(line, "y"), value(line, "height"))
            })
            .filter(|(class, _, _)| class != "ground")
            .collect()
    }

    #[test]
    fn columns_are_as_high_as_what_they_stand_for() {
        let column = |lower, upper| Some(Column { lower, upper });
        let part = |class: &str, y, height| (class.to_owned(), y, height);
        assert_eq!(drawn(100, None), [], "nothing before the start");
        assert_eq!(drawn(100, column(0, 0)), []);
        assert_eq!(drawn(100, column(50, 25)), [part("lower", 40, 40), part("upper", 20, 20)]);
        assert_eq!(drawn(100, column(100, 0)), [part("lower", 0, 80)]);
        // Any count above zero is visible.
        assert_eq!(drawn(1_000_000, column(1, 1)), [part("lower", 78, 2), part("upper", 76, 2)]);
        // No bar leaves the picture.
        assert_eq!(drawn(0, column(u32::MAX, u32::MAX)), [part("lower", 0, 80)]);
        assert_eq!(drawn(10, column(6, 6)), [part("lower", 32, 48), part("upper", 0, 32)]);
    }

    #[test]
    fn the_time_before_the_start_is_empty_and_the_last_column_is_marked() {
        let one = Some(Column { lower: 1, upper: 0 });
        let columns = vec![None, one, None, one];
        let chart = Chart { title: "t", description: String::new(), columns, full: 1, scale: "1".to_owned() };
        let mut html = Html::default();
        chart.write(&mut html);
        let text = html.finish();
        let places = |class: &str| {
            let of = format!("<rect class=\"{class}\" x=\"");
            let found = text.lines().filter_map(|line| line.strip_prefix(&of)?.split('"').next());
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((places("lower"), places("gap")), (vec!["10".to_owned(), "30".to_owned()], vec!["20".to_owned()]));
        let (_, partial) = text.split_once("<g class=\"partial\">").expect("the last column");
        assert_eq!(partial.matches("<rect class=\"lower\"").count(), 1, "{text}");
    }
}
