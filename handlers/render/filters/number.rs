//! Floating-point numbers as Go writes them.

/// `value` by one of the verbs `e`, `f` and `g`, with as many digits as it takes if there is no precision.
pub(super) fn float(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    match (verb, precision) {
        ('f', Some(precision)) => format!("{value:.precision$}"),
        ('f', None) => format!("{value}"),
        ('e', Some(precision)) => exponent(&format!("{value:.precision$e}")),
        ('e', None) => exponent(&format!("{value:e}")),
        _ => general(value, precision),
    }
}

/// Go's exponents have a sign and two digits.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The shorter of the two forms, without zeros at the end.
fn general(value: f64, precision: Option<usize>) -> String {
    let precision = precision.map(|precision| precision.max(1));
    let scientific = match precision {
        Some(precision) => format!("{value:.*e}", precision - 1),
        None => format!("{value:e}"),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mantissa =
        if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let power: i64 = power.parse().unwrap_or(0);
    let digits = i64::try_from(mantissa.bytes().filter(u8::is_ascii_digit).count()).unwrap_or(1);
    // Without a precision, Go decides as if it were 6.
    let limit = match precision.map(|precision| i64::try_from(precision).unwrap_or(i64::MAX)) {
        None => 6,
        Some(precision) if precision > digits && digits > power => digits,
        Some(precision) => precision,
    };
    if power < -4 || power >= limit {
        return exponent(&format!("{mantissa}e{power}"));
    }
    format!("{value:.*}", usize::try_from(digits - 1 - power).unwrap_or(0))
}
