//! A list of computers: pairs of a name and an address, in the forms that AMS²'s Importer took. Everything that is wrong
//! with it is found at once, each by its line.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Read},
};

use super::{address::Address, separator::Separator};

/// Largest list, in bytes: some hundred thousand pairs.
pub const LIST_BYTES_MAX: u64 = 64 << 20;
/// Most pairs of a list, and of the cache.
pub const HOSTS_MAX: usize = 1_000_000;
/// Longest name, in bytes: that of a domain name.
const NAME_BYTES_MAX: usize = 255;
/// Longest start of an item that a message shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// How a list is written.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Between the items of a pair.
    pub inside: Separator,
    /// Between pairs.
    pub between: Separator,
    /// Which item comes first.
    pub order: Order,
    /// Whether there are comments.
    pub comments: Comments,
}

/// Which item of a pair comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `1`: the name.
    NameFirst,
    /// `2`: the address.
    AddressFirst,
}

/// Whether `;` or `:` before a pair, or before its address, says that it does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comments {
    /// It does.
    Known,
    /// It means nothing.
    None,
}

/// One computer of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Address,
}

/// What of a list cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The line on which it begins, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it; may be empty.
    pub mend: String,
}

/// What a list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Its computers, each once, in their order.
    pub pairs: Vec<Pair>,
    /// What cannot be taken.
    pub refused: Vec<Refusal>,
    /// Lines that say once more what one before said.
    pub repeated: Vec<usize>,
    /// Pairs that are commented out.
    pub comments: usize,
    /// Addresses that begin with a colon and are none the less addresses, since they are IPv6.
    pub colons: usize,
}

/// Why a list cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum NotText {
    /// The system says so.
    #[error("cannot be read to its end: {0}")]
    Io(#[from] io::Error),
    /// It is larger than any list.
    #[error("is larger than {} MiB, and no list of computers", LIST_BYTES_MAX >> 20)]
    TooLarge,
    /// It is UTF-16, as some editors write it.
    #[error("is UTF-16")]
    Utf16,
    /// It is in another encoding, or no text.
    #[error("is not UTF-8 on line {line}")]
    NotUtf8 {
        /// From 1.
        line: usize,
    },
    /// It holds what no text holds.
    #[error("is no text: line {line} has a NUL byte")]
    Binary {
        /// From 1.
        line: usize,
    },
}

impl NotText {
    /// How to mend it; may be empty.
    pub fn mend(&self) -> &'static str {
        match self {
            NotText::Io(_) => "nothing was imported",
            NotText::TooLarge => "is this the right file?",
            NotText::Utf16 => "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
            NotText::NotUtf8 { .. } => "convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW",
            NotText::Binary { .. } => "is this the right file?",
        }
    }
}

/// The whole text of a list: none of it counts before all of it is read.
pub fn text_of(file: impl Read) -> Result<String, NotText> {
    let mut bytes = Vec::new();
    file.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIST_BYTES_MAX {
        return Err(NotText::TooLarge);
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(NotText::Utf16);
    }
    let line_of = |bytes: &[u8]| 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(NotText::Binary { line: line_of(&bytes[..at]) });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        NotText::NotUtf8 { line: line_of(&error.as_bytes()[..at]) }
    })?;
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

/// Reads a list.
pub fn read(text: &str, form: &Form) -> List {
    let mut list = List::default();
    // Names have no case.
    let mut names: HashMap<String, (usize, Address)> = HashMap::new();
    let mut addresses: HashMap<Address, (usize, String)> = HashMap::new();
    // With blanks between pairs, a name with a blank is two entries: the second is no pair either, though it looks like one.
    let mut torn = None;
    for (line, entry) in entries(text, form.between) {
        let read = match torn.take() {
            Some(before) => {
                Err((format!("`{}` follows `{}`", shown(entry), shown(before)), no_separator(form)))
            }
            None => items(entry, form),
        };
        if form.between == Separator::Blanks && read.is_err() && form.inside.find(entry).is_none() {
            torn = Some(entry);
        }
        let (name, address) = match read {
            Ok(Item::Pair { name, address, begins_with_colon }) => {
                list.colons += usize::from(begins_with_colon);
                (name, address)
            }
            Ok(Item::Comment) => {
                list.comments += 1;
                continue;
            }
            Err((what, mend)) => {
                list.refused.push(Refusal { line, what, mend });
                continue;
            }
        };
        let by_name = names.get(&name.to_lowercase());
        let by_address = addresses.get(&address);
        let what = match (by_name, by_address) {
            (Some((_, known)), _) if *known == address => {
                list.repeated.push(line);
                continue;
            }
            (Some((first, known)), _) => {
                format!(
                    "`{}` is there twice: with {known} on line {first}, with {address} here",
                    shown(&name)
                )
            }
            (None, Some((first, known))) => {
                format!(
                    "{address} is there twice: as `{}` on line {first}, as `{}` here",
                    shown(known),
                    shown(&name)
                )
            }
            (None, None) if list.pairs.len() == HOSTS_MAX => {
                let what = format!("the list has more than {HOSTS_MAX} computers");
                list.refused.push(Refusal { line, what, mend: "is this the right file?".into() });
                break;
            }
            (None, None) => {
                names.insert(name.to_lowercase(), (line, address.clone()));
                addresses.insert(address.clone(), (line, name.clone()));
                list.pairs.push(Pair { line, name, address });
                continue;
            }
        };
        list.refused.push(Refusal { line, what, mend: "remove the wrong one: the first was taken".into() });
    }
    list
}

enum Item {
    Pair { name: String, address: Address, begins_with_colon: bool },
    Comment,
}

/// What is between separators, without the blanks around it, each with the line on which it begins. Empty ones are nothing.
fn entries(text: &str, between: Separator) -> impl Iterator<Item = (usize, &str)> {
    let (mut rest, mut line) = (Some(text), 1);
    std::iter::from_fn(move || {
        let text = rest?;
        let (entry, after) = match between.find(text) {
            Some((at, length)) => {
                rest = Some(&text[at + length..]);
                (&text[..at], &text[at..at + length])
            }
            None => {
                rest = None;
                (text, "")
            }
        };
        let lines = |text: &str| text.matches('\n').count();
        let blank = entry.len() - entry.trim_start().len();
        let begins = line + lines(&entry[..blank]);
        line += lines(entry) + lines(after);
        Some((begins, entry.trim()))
    })
    .filter(|(_, entry)| !entry.is_empty())
}

/// The items of one entry; else what is wrong, and how to mend it.
fn items(entry: &str, form: &Form) -> Result<Item, (String, String)> {
    let knows_comments = form.comments == Comments::Known;
    let begins_comment = |item: &str| knows_comments && item.starts_with([';', ':']);
    // The item that may hold the separator itself is the address: IPv6 has colons.
    let place = match form.order {
        Order::NameFirst => form.inside.find(entry),
        Order::AddressFirst => form.inside.find_last(entry),
    };
    let (first, second) = match place {
        Some((at, length)) => (entry[..at].trim(), entry[at + length..].trim()),
        None => (entry, ""),
    };
    if begins_comment(first) && !Address::is_v6(first) {
        return Ok(Item::Comment);
    }
    if place.is_none() {
        let what = format!("`{}` has no `{}` between name and address", shown(entry), form.inside);
        return Err((what, no_separator(form)));
    }
    let (name, address) = match form.order {
        Order::NameFirst => (first, second),
        Order::AddressFirst => (second, first),
    };
    if begins_comment(name) && form.order == Order::NameFirst {
        let what = format!("`{}` is an address where a name should be", shown(name));
        return Err((what, "is the address first in this list? Then ORDER is 2".into()));
    }
    if begins_comment(address) && !Address::is_v6(address) {
        return Ok(Item::Comment);
    }
    check_name(name)?;
    let begins_with_colon = knows_comments && address.starts_with(':');
    let address = address.parse().map_err(|error| {
        let what = format!("`{}` {error}", shown(address));
        (what, no_address(name, address, form))
    })?;
    Ok(Item::Pair { name: name.into(), address, begins_with_colon })
}

fn check_name(name: &str) -> Result<(), (String, String)> {
    if name.is_empty() {
        return Err(("the name is empty".into(), "write one, or remove the line".into()));
    }
    if name.len() > NAME_BYTES_MAX {
        let what =
            format!("the name `{}` has {} bytes; one may have {NAME_BYTES_MAX}", shown(name), name.len());
        return Err((what, "use a shorter one".into()));
    }
    match name.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => {
            let what =
                format!("the name `{}` has a control character in it ({})", shown(name), c.escape_default());
            Err((what, "does another separator stand between pairs?".into()))
        }
    }
}

/// How to mend an entry without the separator.
fn no_separator(form: &Form) -> String {
    match (form.inside, form.between) {
        (_, Separator::Blanks) => {
            "with SP between pairs no name may have a blank: use another separator between them".into()
        }
        (Separator::Blanks, _) => "write both with a blank between them".into(),
        (inside, _) => {
            format!("write both with `{inside}` between them, or name the separator that the list has")
        }
    }
}

/// How to mend what should be an address and is none.
fn no_address(name: &str, address: &str, form: &Form) -> String {
    if form.inside == Separator::Blanks
        && (address.contains(char::is_whitespace) || name.contains(char::is_whitespace))
    {
        return "with SP between name and address no name may have a blank: use another separator".into();
    }
    if name.parse::<Address>().is_ok() {
        let order = match form.order {
            Order::NameFirst => 2,
            Order::AddressFirst => 1,
        };
        return format!("is it the other way round in this list? Then ORDER is {order}");
    }
    "write it like 192.0.2.1 or 2001:db8::1".into()
}

/// The start of an item, as it may be shown.
fn shown(item: &str) -> Shown<'_> {
    Shown(item)
}

struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        characters.by_ref().take(SHOWN_CHARS_MAX).try_for_each(|c| write!(f, "{c}"))?;
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
