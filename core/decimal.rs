//! Numbers in labels, compared exactly: decimals of at most 18 digits, without floating point.

/// A decimal number of at most [`DIGITS_MAX`] digits, before and after the point together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    /// The value times 10^18: 18 digits before the point and 18 after fit into 127 bits.
    scaled: i128,
}

/// Most digits of a number that order operators compare. More match no order operator.
pub const DIGITS_MAX: usize = 18;

impl Decimal {
    /// Reads `-12.5`, `+3`, `.5`, `7.`; anything else (exponents, blanks, hex, `NaN`, 19 digits) is `None`.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let count = whole.len() + fraction.len();
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if count == 0 || count > DIGITS_MAX || !all_digits {
            return None;
        }
        let mut scaled = 0i128;
        for byte in whole.bytes().chain(fraction.bytes()) {
            scaled = scaled * 10 + i128::from(byte - b'0');
        }
        let missing = u32::try_from(DIGITS_MAX - fraction.len()).ok()?;
        scaled *= 10i128.pow(missing);
        Some(Decimal { scaled: if negative { -scaled } else { scaled } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_exactly() {
        let rows = [
            ("1", "2"),
            ("-2", "-1"),
            ("0.1", "0.10000000000000001"),
            ("999999999999999998", "999999999999999999"),
        ];
        for (less, more) in rows {
            assert!(Decimal::parse(less) < Decimal::parse(more), "{less} < {more}");
        }
        assert_eq!(Decimal::parse("1.50"), Decimal::parse("+1.5"));
        assert_eq!(Decimal::parse("-0"), Decimal::parse("0"));
        assert_eq!(Decimal::parse(".5"), Decimal::parse("0.5"));
    }

    #[test]
    fn what_is_not_a_short_decimal_is_refused() {
        for text in
            ["", "-", ".", "1e3", "0x1", " 1", "1 ", "NaN", "1,5", "1.2.3", "1234567890123456789", "٣"]
        {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }
}
