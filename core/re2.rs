//! Regexes as Alertmanager reads them: RE2 syntax as Go's `regexp` has it, put into the syntax of the `regex` crate.
//!
//! The two look alike and differ in meaning: `\d`, `\s`, `\w` and `\b` are ASCII in RE2, classes know no set operations
//! there, `{` that begins no repetition is a literal, `\Q...\E` exists, and much that the crate takes is refused. So the
//! text is read by RE2's rules, and every literal is written such that it cannot mean anything else. Groups capture
//! nothing: a matcher asks only whether all of a value matches. Sources: <https://github.com/google/re2/wiki/Syntax>
//! and <https://pkg.go.dev/regexp/syntax>.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
};

/// Most times that a repetition may ask for, as in RE2.
const REPEAT_MAX: u32 = 1000;

/// What may follow `[:` in a class.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];
/// Unicode's general categories that RE2 knows.
const CATEGORIES: [&str; 36] = [
    "C", "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No",
    "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
];

/// The same regex in the syntax of the `regex` crate, or what RE2 refuses in it.
pub(crate) fn translate(regex: &str) -> Result<String, String> {
    let mut reader =
        Reader { rest: regex, out: String::with_capacity(2 * regex.len()), names: BTreeSet::new() };
    let mut open = 0usize;
    // Whether a repetition may stand here, and whether one has just stood here.
    let (mut repeatable, mut repeated) = (false, false);
    while let Some(c) = reader.next() {
        let was_repeated = core::mem::take(&mut repeated);
        match c {
            '(' => {
                open += usize::from(reader.group()?);
                repeatable = false;
            }
            ')' => {
                open = open.checked_sub(1).ok_or("a `)` has no `(`; write `\\)` for a parenthesis")?;
                reader.out.push(')');
                repeatable = true;
            }
            '|' => {
                reader.out.push('|');
                repeatable = false;
            }
            '*' | '+' | '?' => {
                reader.repeat(c.encode_utf8(&mut [0; 4]), repeatable, was_repeated)?;
                repeated = true;
            }
            '{' => match reader.counts()? {
                Some(counts) => {
                    reader.repeat(&counts, repeatable, was_repeated)?;
                    repeated = true;
                }
                None => {
                    reader.literal('{');
                    repeatable = true;
                }
            },
            '[' => {
                reader.class()?;
                repeatable = true;
            }
            '.' | '^' | '$' => {
                reader.out.push(c);
                repeatable = true;
            }
            '\\' => {
                let something = reader.escape_outside()?;
                repeatable |= something;
                repeated = was_repeated && !something;
            }
            c => {
                reader.literal(c);
                repeatable = true;
            }
        }
    }
    if open > 0 {
        return Err("a `)` is missing".into());
    }
    Ok(reader.out)
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    names: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Writes a character that means itself.
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.code(c);
        }
    }

    fn code(&mut self, c: char) {
        self.out.push_str(&format!("\\x{{{:X}}}", c as u32));
    }

    fn repeat(&mut self, operator: &str, repeatable: bool, was_repeated: bool) -> Result<(), String> {
        if was_repeated {
            return Err(format!("`{operator}` repeats a repetition; put parentheses around the inner one"));
        }
        if !repeatable {
            return Err(format!("nothing stands before `{operator}` that it could repeat"));
        }
        self.out.push_str(operator);
        if self.take("?") {
            self.out.push('?');
        }
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}` after the `{`; `None` for a brace that means itself.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let Some((inside, rest)) = self.rest.split_once('}') else { return Ok(None) };
        let is_count = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits && (text == "0" || !text.starts_with('0'))
        };
        let (least, most) =
            inside.split_once(',').map_or((inside, None), |(least, most)| (least, Some(most)));
        if !is_count(least) || most.is_some_and(|most| !most.is_empty() && !is_count(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= REPEAT_MAX);
        let too_many = || format!("`{{{inside}}}` repeats more than {REPEAT_MAX} times");
        let low = number(least).ok_or_else(too_many)?;
        if let Some(most) = most.filter(|most| !most.is_empty())
            && number(most).ok_or_else(too_many)? < low
        {
            return Err(format!("`{{{inside}}}` has its larger number first"));
        }
        self.rest = rest;
        Ok(Some(format!("{{{inside}}}")))
    }

    /// What follows a `(`; whether it opens a group, and does not only set flags.
    fn group(&mut self) -> Result<bool, String> {
        if !self.take("?") {
            self.out.push_str("(?:");
            return Ok(true);
        }
        if self.take("P<") || self.take("<") {
            let (name, rest) = self.rest.split_once('>').ok_or("the name of a group lacks its `>`")?;
            let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !word {
                return Err(format!(
                    "`{name}` cannot name a group: use letters, digits and `_`; RE2 has no look-behind"
                ));
            }
            if !self.names.insert(name) {
                return Err(format!("two groups are named `{name}`"));
            }
            self.rest = rest;
            self.out.push_str("(?:");
            return Ok(true);
        }
        self.flags()
    }

    /// `i`, `m`, `s`, `U`, set or after `-` unset, up to `:` or `)`.
    fn flags(&mut self) -> Result<bool, String> {
        let (mut on, mut off) = (BTreeSet::new(), BTreeSet::new());
        let (mut negated, mut any) = (false, false);
        loop {
            match self.next() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    any = true;
                    if negated {
                        on.remove(&flag);
                        off.insert(flag);
                    } else {
                        on.insert(flag);
                    }
                }
                Some('-') if !negated => (negated, any) = (true, false),
                Some(end @ (':' | ')')) if any || !negated => {
                    let minus = if off.is_empty() { "" } else { "-" };
                    let flags = on.iter().collect::<String>() + minus + &off.iter().collect::<String>();
                    if end == ':' || !flags.is_empty() {
                        self.out.push_str(&format!("(?{flags}{end}"));
                    }
                    return Ok(end == ':');
                }
                Some(c) => {
                    return Err(format!(
                        "`(?` with `{c}` is not RE2: flags are i, m, s and U, and there is no look-ahead"
                    ));
                }
                None => return Err("a `)` is missing after `(?`".into()),
            }
        }
    }

    /// What follows a `\` outside a class; whether it is something that can be repeated.
    fn escape_outside(&mut self) -> Result<bool, String> {
        let before = self.rest;
        match self.next() {
            Some('A') => self.out.push_str("\\A"),
            Some('z') => self.out.push_str("\\z"),
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("(?-u:\\B)"),
            Some('Q') => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                quoted.chars().for_each(|c| self.literal(c));
                return Ok(!quoted.is_empty());
            }
            Some('E') => return Ok(false),
            Some('C') => return Err("`\\C` (one byte) does not exist in Go's RE2; write `.`".into()),
            Some(c @ ('d' | 's' | 'w' | 'D' | 'S' | 'W')) => {
                let not = if c.is_ascii_uppercase() { "^" } else { "" };
                self.out.push_str(&format!("[{not}{}]", perl(c)));
            }
            Some(c @ ('p' | 'P')) => self.unicode(c)?,
            _ => {
                self.rest = before;
                let c = self.escape()?;
                self.literal(c);
            }
        }
        Ok(true)
    }

    /// What follows a `\`, where it stands for one character.
    fn escape(&mut self) -> Result<char, String> {
        let c = self.next().ok_or("a `\\` stands at the end")?;
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => {
                let digits = if self.take("{") {
                    let (digits, rest) = self.rest.split_once('}').ok_or("`\\x{` lacks its `}`")?;
                    self.rest = rest;
                    digits
                } else {
                    let digits = self.rest.get(..2).ok_or("`\\x` takes two hex digits")?;
                    self.rest = &self.rest[2..];
                    digits
                };
                let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| hex);
                code.and_then(char::from_u32)
                    .ok_or_else(|| format!("`\\x` with `{digits}` is no character"))?
            }
            '0'..='7' => {
                let octal = |c: &char| ('0'..='7').contains(c);
                if c != '0' && !self.rest.chars().next().is_some_and(|next| octal(&next)) {
                    return Err(format!("`\\{c}` would refer back to a group, which RE2 cannot"));
                }
                let more: String = self.rest.chars().take(2).take_while(octal).collect();
                self.rest = &self.rest[more.len()..];
                let code = u32::from_str_radix(&format!("{c}{more}"), 8).ok().and_then(char::from_u32);
                code.ok_or_else(|| format!("`\\{c}{more}` is no character"))?
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            c => return Err(format!("`\\{c}` means nothing in RE2; a backslash itself is `\\\\`")),
        })
    }

    /// `\p` or `\P` with one letter or a name in braces.
    fn unicode(&mut self, p: char) -> Result<(), String> {
        let whole = self.rest;
        let name = if self.take("{") {
            let (name, rest) =
                self.rest.split_once('}').ok_or_else(|| format!("`\\{p}{{` lacks its `}}`"))?;
            self.rest = rest;
            name
        } else {
            let c = self.next().ok_or_else(|| format!("`\\{p}` takes a letter or a name in braces"))?;
            &whole[..c.len_utf8()]
        };
        let (negated, name) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
        let p = if negated == (p == 'P') { 'p' } else { 'P' };
        // Names are exact in RE2; the crate would take `greek` and `Alphabetic`, too.
        let is_script = name.len() > 2
            && name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
        let written = match name {
            "Any" => name.to_string(),
            _ if CATEGORIES.contains(&name) => format!("gc={name}"),
            _ if is_script => format!("sc={name}"),
            _ => return Err(format!("`{name}` is neither a category nor a script of Unicode")),
        };
        self.out.push_str(&format!("\\{p}{{{written}}}"));
        Ok(())
    }

    /// What follows a `[`.
    fn class(&mut self) -> Result<(), String> {
        let all = self.rest;
        let missing = || {
            let start: String = all.chars().take(20).collect();
            format!("the class `[{start}` lacks its `]`")
        };
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !core::mem::take(&mut first) && self.take("]") {
                self.out.push(']');
                return Ok(());
            }
            if let Some(inside) = self.rest.strip_prefix("[:")
                && let Some((name, rest)) = inside.split_once(":]")
            {
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("`[:{name}:]` is no class of POSIX"));
                }
                self.out.push_str(&format!("[:{name}:]"));
                self.rest = rest;
                continue;
            }
            let mut ahead = self.rest.strip_prefix('\\').unwrap_or("").chars();
            match ahead.next() {
                Some(c @ ('d' | 's' | 'w' | 'D' | 'S' | 'W')) => {
                    self.rest = ahead.as_str();
                    match c.is_ascii_uppercase() {
                        true => self.out.push_str(&format!("[^{}]", perl(c))),
                        false => self.out.push_str(perl(c)),
                    }
                    continue;
                }
                Some(c @ ('p' | 'P')) => {
                    self.rest = ahead.as_str();
                    self.unicode(c)?;
                    continue;
                }
                _ => {}
            }
            let low = self.class_character()?.ok_or_else(missing)?;
            self.code(low);
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                let high = self.class_character()?.ok_or_else(missing)?;
                if high < low {
                    return Err(format!("the range `{low}-{high}` has its larger end first"));
                }
                self.out.push('-');
                self.code(high);
            }
        }
    }

    fn class_character(&mut self) -> Result<Option<char>, String> {
        if self.take("\\") { self.escape().map(Some) } else { Ok(self.next()) }
    }
}

/// The inside of a class for `\d`, `\s` or `\w`, or what its capital letter is not. `\s` is without `\v`, as in Perl of old.
fn perl(c: char) -> &'static str {
    match c.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r\\x20",
        _ => "0-9A-Za-z_",
    }
}

#[cfg(test)]
mod tests;
