//! Structured data of RFC 5424 (section 6.3): as much of it as is well formed, within limits.

use std::borrow::Cow;

/// Most elements of one message that are kept.
const ELEMENTS_MAX: usize = 32;
/// Most bytes of it that are kept, as they are sent.
const BYTES_MAX: usize = 8 << 10;
/// Longest id of an element and name of a parameter, in bytes (RFC 5424 section 6.3: `1*32PRINTUSASCII`).
const NAME_BYTES_MAX: usize = 32;

/// The elements of one message, each with an id of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StructuredData<'a> {
    /// In the order of the message.
    pub elements: Vec<Element<'a>>,
}

/// An element: `[origin ip="192.0.2.1" ip="192.0.2.2"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Such as `origin`, or `ams2@32473`.
    pub id: &'a str,
    /// Names and values; a name may stand there several times.
    pub params: Vec<(&'a str, Cow<'a, str>)>,
}

/// An element that is read, whether it is as RFC 5424 has it, and what stands behind.
struct Read<'a> {
    element: Element<'a>,
    is_well_formed: bool,
    rest: &'a str,
}

impl<'a> StructuredData<'a> {
    /// Reads what stands at the start of `text`, `-` for nothing. With what stands behind, and whether it is as it should be:
    /// not so what is over a limit, or has an id twice. What cannot be read is behind.
    pub fn read(text: &'a str) -> (StructuredData<'a>, &'a str, bool) {
        let mut data = StructuredData::default();
        if let Some(rest) = text.strip_prefix('-') {
            return (data, rest, true);
        }
        let (mut rest, mut is_well_formed) = (text, text.starts_with('['));
        while rest.starts_with('[') {
            let Some(read) = element(rest) else { return (data, rest, false) };
            rest = read.rest;
            let bytes = text.len() - rest.len();
            let is_kept = data.elements.len() < ELEMENTS_MAX
                && bytes <= BYTES_MAX
                && data.elements.iter().all(|known| known.id != read.element.id);
            is_well_formed &= is_kept && read.is_well_formed;
            if is_kept {
                data.elements.push(read.element);
            }
        }
        (data, rest, is_well_formed)
    }

    /// The first value of a parameter by `ID.NAME`; an id may have dots of its own (`name@32473.1`).
    pub fn value(&self, path: &str) -> Option<&str> {
        self.elements.iter().find_map(|element| {
            let name = path.strip_prefix(element.id)?.strip_prefix('.')?;
            element.value(name)
        })
    }

    /// The element with this id.
    pub fn element(&self, id: &str) -> Option<&Element<'a>> {
        self.elements.iter().find(|element| element.id == id)
    }
}

impl Element<'_> {
    /// The first value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }
}

/// Reads `[id name="value" ...]`.
fn element(text: &str) -> Option<Read<'_>> {
    let (id, mut rest) = name(text.strip_prefix('[')?)?;
    let mut element = Element { id, params: Vec::new() };
    let mut is_well_formed = true;
    loop {
        let apart = rest.trim_start_matches(' ');
        if let Some(rest) = apart.strip_prefix(']') {
            return Some(Read { element, is_well_formed, rest });
        }
        if apart.len() == rest.len() {
            return None;
        }
        let (param, behind) = name(apart)?;
        let (value, plain, behind) = value(behind.strip_prefix("=\"")?)?;
        element.params.push((param, value));
        (rest, is_well_formed) = (behind, is_well_formed && plain);
    }
}

/// An id or a name, and what stands behind.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_of_name = |b: u8| b.is_ascii_graphic() && !matches!(b, b'=' | b']' | b'"');
    let end = text.bytes().position(|b| !is_of_name(b)).unwrap_or(text.len());
    (1..=NAME_BYTES_MAX).contains(&end).then(|| text.split_at(end))
}

/// A value up to its quotation mark, whether every `]` in it is escaped, and what stands behind. RFC 5424 section 6.3.3: a
/// backslash before anything but `"`, `\` and `]` is one.
fn value(text: &str) -> Option<(Cow<'_, str>, bool, &str)> {
    let bytes = text.as_bytes();
    let (mut owned, mut from, mut at, mut is_well_formed) = (None::<String>, 0, 0, true);
    loop {
        match bytes.get(at)? {
            b'"' => break,
            b'\\' if matches!(bytes.get(at + 1), Some(b'"' | b'\\' | b']')) => {
                owned.get_or_insert_default().push_str(&text[from..at]);
                from = at + 1;
                at += 2;
            }
            byte => {
                is_well_formed &= *byte != b']';
                at += 1;
            }
        }
    }
    let value = match owned {
        None => Cow::Borrowed(&text[..at]),
        Some(start) => Cow::Owned(start + &text[from..at]),
    };
    Some((value, is_well_formed, &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_formed_is_read_and_what_is_not_is_said() {
        let many = (0..1000).map(|n| format!("[e{n} a=\"1\"]")).collect::<String>();
        let long = format!("[e a=\"{}\"]", "x".repeat(BYTES_MAX));
        let name_33 = format!("[{} a=\"1\"] text", "n".repeat(33));
        let rows: &[(&str, &[(&str, &[(&str, &str)])], &str, bool)] = &[
            ("- text", &[], " text", true),
            ("[e] text", &[("e", &[])], " text", true),
            (
                "[e a=\"1\" a=\"2\"][f b=\"\"]",
                &[("e", &[("a", "1"), ("a", "2")]), ("f", &[("b", "")])],
                "",
                true,
            ),
            (r#"[e a="\"\\\]\n\x"]"#, &[("e", &[("a", r#""\]\n\x"#)])], "", true),
            ("[e a=\"line\nfeed é\"] t", &[("e", &[("a", "line\nfeed é")])], " t", true),
            ("[e  a=\"1\" ] t", &[("e", &[("a", "1")])], " t", true),
            // Unescaped: what is meant is plain.
            ("[e a=\"[x]\"] t", &[("e", &[("a", "[x]")])], " t", false),
            ("[e a=\"1\"][e b=\"2\"] t", &[("e", &[("a", "1")])], " t", false),
            ("[e a=\"1\"][f b=\"2 text", &[("e", &[("a", "1")])], "[f b=\"2 text", false),
            ("[e a=\"1\\", &[], "[e a=\"1\\", false),
            ("[e a=1] t", &[], "[e a=1] t", false),
            ("[e a=\"1\"b=\"2\"] t", &[], "[e a=\"1\"b=\"2\"] t", false),
            ("[ a=\"1\"] t", &[], "[ a=\"1\"] t", false),
            ("[é a=\"1\"] t", &[], "[é a=\"1\"] t", false),
            ("[", &[], "[", false),
            ("text", &[], "text", false),
            ("", &[], "", false),
            (&name_33, &[], &name_33, false),
        ];
        for (text, elements, rest, is_well_formed) in rows {
            let (data, behind, right) = StructuredData::read(text);
            let found: Vec<(&str, Vec<(&str, &str)>)> = data
                .elements
                .iter()
                .map(|e| (e.id, e.params.iter().map(|(name, value)| (*name, &**value)).collect()))
                .collect();
            let elements: Vec<(&str, Vec<(&str, &str)>)> =
                elements.iter().map(|(id, params)| (*id, params.to_vec())).collect();
            assert_eq!((found, behind, right), (elements, *rest, *is_well_formed), "{text}");
        }
        let (data, rest, right) = StructuredData::read(&many);
        assert_eq!((data.elements.len(), rest, right), (ELEMENTS_MAX, "", false));
        let (data, rest, right) = StructuredData::read(&long);
        assert_eq!((data.elements.len(), rest, right), (0, "", false));
    }

    #[test]
    fn a_value_is_found_by_its_path_also_where_names_have_dots() {
        let (data, ..) = StructuredData::read("[origin ip=\"192.0.2.1\"][x@32473.1.2 a.b=\"c\"]");
        assert_eq!(data.value("origin.ip"), Some("192.0.2.1"));
        assert_eq!(data.value("x@32473.1.2.a.b"), Some("c"));
        for missing in ["origin", "origin.x", "x@32473.1.a.b", "x", ""] {
            assert_eq!(data.value(missing), None, "{missing}");
        }
    }
}
