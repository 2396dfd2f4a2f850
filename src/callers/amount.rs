//! Amounts of money, and the bounds of `max_amount`.

use std::fmt;

/// An amount in hundredths of its currency, as Sezzle counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    pub cents: u64,
    pub currency: Currency,
}

/// Three capital letters, such as `USD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 3] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Amount {
    /// Parses `500.00 USD` or `500 USD`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, currency) = text.split_once(' ')?;
        let (whole, hundredths) = match number.split_once('.') {
            Some((whole, hundredths)) if hundredths.len() == 2 => (whole, digits(hundredths)?),
            Some(_) => return None,
            None => (number, 0),
        };
        let cents = digits(whole)?.checked_mul(100)?.checked_add(hundredths)?;
        Some(Self { cents, currency: Currency::parse(currency)? })
    }
}

fn digits(text: &str) -> Option<u64> {
    // `str::parse` would accept a sign, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:02} {}", self.cents / 100, self.cents % 100, self.currency.as_str())
    }
}

/// The largest amounts that one call of a caller may move: one for each currency that the caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds(Vec<Amount>);

/// Why the bounds of its caller forbid a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfBounds {
    /// The body does not say the amount in the documented way, and only in that way.
    Unreadable,
    OtherCurrency,
    Larger,
}

impl Bounds {
    /// `None` if `bounds` is empty, or has two bounds of one currency.
    pub fn new(bounds: Vec<Amount>) -> Option<Self> {
        let twice = bounds
            .iter()
            .enumerate()
            .any(|(index, bound)| bounds.iter().take(index).any(|earlier| earlier.currency == bound.currency));
        (!bounds.is_empty() && !twice).then_some(Self(bounds))
    }

    /// Checks whether one call may move this amount; `None` is an amount that could not be read.
    pub fn check(&self, amount: Option<Amount>) -> Result<(), OutOfBounds> {
        let amount = amount.ok_or(OutOfBounds::Unreadable)?;
        let bound = self.0.iter().find(|bound| bound.currency == amount.currency).ok_or(OutOfBounds::OtherCurrency)?;
        if amount.cents > bound.cents { Err(OutOfBounds::Larger) } else { Ok(()) }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn amounts_are_parsed_exactly() {
        for (text, cents, shown) in [
            ("500.00 USD", 50_000, "500.00 USD"),
            ("500 USD", 50_000, "500.00 USD"),
            ("0.01 CAD", 1, "0.01 CAD"),
            ("0 EUR", 0, "0.00 EUR"),
            ("007.50 USD", 750, "7.50 USD"),
        ] {
            assert_eq!((amount(text).cents, amount(text).to_string().as_str()), (cents, shown), "{text}");
        }
        for wrong in [
            "",
            "500",
            "USD",
            "500.0 USD",
            "500.000 USD",
            "500. USD",
            ".50 USD",
            "-1.00 USD",
            "+1.00 USD",
            "1e3 USD",
            "1,000.00 USD",
            "500.00 usd",
            "500.00 US",
            "500.00  USD",
            " 500.00 USD",
            "500.00 USD ",
            "500.00USD",
            "USD 500.00",
            "184467440737095517 USD",
            "\u{661}.00 USD",
        ] {
            assert_eq!(Amount::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_bound_is_for_its_currency() {
        let bounds = Bounds::new(vec![amount("500.00 USD"), amount("100.00 CAD")]).expect("bounds");
        assert_eq!(bounds.to_string(), "500.00 USD, 100.00 CAD");
        for (moved, expected) in [
            ("500.00 USD", Ok(())),
            ("0.00 USD", Ok(())),
            ("500.01 USD", Err(OutOfBounds::Larger)),
            ("100.01 CAD", Err(OutOfBounds::Larger)),
            ("0.01 EUR", Err(OutOfBounds::OtherCurrency)),
        ] {
            assert_eq!(bounds.check(Some(amount(moved))), expected, "{moved}");
        }
        assert_eq!(bounds.check(None), Err(OutOfBounds::Unreadable));
        assert_eq!(Bounds::new(Vec::new()), None);
        assert_eq!(Bounds::new(vec![amount("1 USD"), amount("2 USD")]), None);
    }
}
