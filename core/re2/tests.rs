//! Each row names what it is taken from.

use alloc::{string::String, vec::Vec};

use crate::{
    Severities,
    matcher::{Matcher, Op},
};

fn compile(regex: &str) -> Result<crate::matcher::Compiled, String> {
    let matcher = Matcher { name: "a".into(), value: regex.into(), op: Op::Regex };
    matcher.compile(&Severities::default()).map_err(|error| error.message)
}

/// Sections of the RE2 syntax page (github.com/google/re2/wiki/Syntax); "Go" is pkg.go.dev/regexp/syntax.
#[test]
fn regexes_mean_what_re2_says() {
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        ("Single characters", ".", &["a", "é", "\r", "\u{2028}"], &["\n", "ab"]),
        ("Single characters", "[xyz]", &["x"], &["a"]),
        ("Single characters", "[^xyz]", &["a", "\n"], &["x"]),
        ("Single characters", "\\d", &["5"], &["٣", "५"]),
        ("Single characters", "\\D", &["٣", "a"], &["5"]),
        ("Single characters", "[[:alpha:]]", &["a"], &["é", "1"]),
        ("Single characters", "[[:^alpha:]]", &["é", "1"], &["a"]),
        ("Single characters", "\\pN", &["5", "٣", "Ⅷ"], &["a"]),
        ("Single characters", "\\p{Greek}", &["λ"], &["a"]),
        ("Single characters", "\\PN", &["a"], &["5", "٣"]),
        ("Single characters", "\\P{Greek}", &["a"], &["λ"]),
        ("Single characters", "\\p{^Greek}", &["a"], &["λ"]),
        ("Composites", "xy|z", &["xy", "z"], &["xz"]),
        ("Repetitions", "x{2,3}", &["xx", "xxx"], &["x", "xxxx"]),
        ("Repetitions", "x{2,}?", &["xx", "xxxx"], &["x"]),
        ("Repetitions", "x{2}", &["xx"], &["xxx"]),
        ("Repetitions", "(x{2}){2}", &["xxxx"], &["xx"]),
        ("Repetitions", "x{1000}", &[], &["x"]),
        ("Go, repeat: a brace that is no count is a literal", "x{,3}", &["x{,3}"], &["xx"]),
        ("Go, repeat: a brace that is no count is a literal", "x{", &["x{"], &["x"]),
        ("Go, repeat: a brace that is no count is a literal", "{a}", &["{a}"], &[]),
        ("Go, repeat: a brace that is no count is a literal", "x{01}", &["x{01}"], &["x"]),
        ("Grouping", "(?P<name>re)+", &["rere"], &["name"]),
        ("Grouping", "(?<name>re)", &["re"], &[]),
        ("Grouping", "(?P<1>re)", &["re"], &[]),
        ("Grouping", "(?:re)", &["re"], &[]),
        ("Grouping", "(?i)re", &["RE"], &[]),
        ("Grouping", "(?i:r)e", &["Re"], &["RE"]),
        ("Grouping", "(?i)r(?-i)e", &["Re"], &["RE"]),
        ("Flags", "(?s).", &["\n"], &[]),
        ("Flags", "(?s-i:.)", &["\n"], &[]),
        ("Flags", "(?is)A.", &["a\n"], &[]),
        ("Flags", "(?U)x+", &["xx"], &[]),
        ("Flags", "(?m)a$\\n^b", &["a\nb"], &[]),
        ("Flags", "(?)a", &["a"], &[]),
        ("Empty strings", "a$", &["a"], &["a\n"]),
        ("Empty strings", "a$\\n", &[], &["a\n"]),
        ("Empty strings", "\\Aa\\z", &["a"], &["a\n"]),
        ("Empty strings", "a\\b.*", &["a", "a b", "aé"], &["ab"]),
        ("Empty strings", "é\\B.*", &["é", "é "], &["éa"]),
        ("Empty strings", "a\\b{start}", &[], &["a"]),
        ("Escape sequences", "\\a\\f\\t\\n\\r\\v", &["\u{7}\u{c}\t\n\r\u{b}"], &[]),
        ("Escape sequences", "\\123", &["S"], &[]),
        ("Escape sequences", "\\x7F", &["\u{7f}"], &[]),
        ("Escape sequences", "\\x{10FFFF}", &["\u{10FFFF}"], &[]),
        ("Escape sequences", "\\Q[a.b]*\\E", &["[a.b]*"], &["a"]),
        ("Escape sequences", "\\Qa+\\E+", &["a+", "a++"], &["a"]),
        ("Escape sequences", "\\Qa\\b", &["a\\b"], &[]),
        ("Escape sequences", "\\<\\>\\_\\-\\&\\~\\#", &["<>_-&~#"], &[]),
        ("Character class elements", "[[a]&&b]", &["[&&b]", "a&&b]"], &["a", "b"]),
        ("Character class elements", "[a&&b]", &["a", "b", "&"], &[]),
        ("Character class elements", "[+--b]", &["+", ",", "-", "b"], &["a"]),
        ("Character class elements", "[a~~b]", &["a", "b", "~"], &[]),
        ("Character class elements", "[a[b]", &["a", "[", "b"], &["]"]),
        ("Character class elements", "[]a]", &["]", "a"], &[]),
        ("Character class elements", "[^]a]", &["b"], &["]", "a"]),
        ("Character class elements", "[a-]", &["a", "-"], &[]),
        ("Character class elements", "[\\d\\s_-]", &["5", " ", "_", "-"], &["٣", "\u{b}"]),
        ("Character class elements", "[\\D]", &["٣"], &["5"]),
        ("Character class elements", "[^\\x00-\\x{10FFFF}]", &[], &["a", ""]),
        ("Character class elements", "[\\p{Lu}x]", &["Ä", "x"], &["ä"]),
        ("Perl character classes", "\\s", &["\t", "\n", "\u{c}", "\r", " "], &["\u{b}", "\u{a0}"]),
        ("Perl character classes", "\\S", &["\u{b}", "\u{a0}"], &[" "]),
        ("Perl character classes", "\\w", &["a", "_", "0"], &["é"]),
        ("Perl character classes", "\\W", &["é", " "], &["a"]),
        ("Go: literals outside classes", "a]}-#&~ b", &["a]}-#&~ b"], &[]),
    ];
    for (source, regex, yes, no) in rows {
        let compiled = compile(regex).unwrap_or_else(|error| panic!("{source}: {regex}: {error}"));
        let matches = |value: &&&str| compiled.matches(value, &Severities::default());
        let wrong: Vec<_> = yes.iter().filter(|v| !matches(v)).chain(no.iter().filter(matches)).collect();
        assert!(wrong.is_empty(), "{source}: {regex} and {wrong:?}");
    }
}

#[test]
fn what_re2_refuses_is_refused_with_a_mend() {
    let rows = [
        ("Single characters: not supported by Go", "\\C", "write `.`"),
        ("Repetitions: at most 1000", "x{1001}", "more than 1000"),
        ("Repetitions: at most 1000", "x{2,1001}", "more than 1000"),
        ("Go: ErrInvalidRepeatSize", "x{3,2}", "larger number first"),
        ("Go: ErrInvalidRepeatOp", "a**", "repeats a repetition"),
        ("Possessive repetitions: not supported", "a++", "repeats a repetition"),
        ("Possessive repetitions: not supported", "a{2}+", "repeats a repetition"),
        ("Go: ErrMissingRepeatArgument", "*a", "nothing stands before"),
        ("Go: ErrMissingRepeatArgument", "(|+a)", "nothing stands before"),
        ("Grouping: look-ahead, not supported", "(?=a)", "no look-ahead"),
        ("Grouping: look-behind, not supported", "(?<=a)b>", "no look-behind"),
        ("Flags: there is no x", "(?x)a", "flags are i, m, s and U"),
        ("Flags: there is no R", "(?R)a", "flags are i, m, s and U"),
        ("Go: ErrInvalidNamedCapture", "(?P<a>x)(?P<a>y)", "two groups"),
        ("Empty strings: not supported", "a\\Z", "means nothing"),
        ("Backreferences: not supported", "(a)\\1", "refer back"),
        ("Escape sequences", "\\y", "means nothing"),
        ("Escape sequences", "\\é", "means nothing"),
        ("Escape sequences", "\\x{110000}", "no character"),
        ("Escape sequences", "\\xg0", "no character"),
        ("Go: ErrTrailingBackslash", "a\\", "at the end"),
        ("Go: ErrMissingParen", "(a", "`)` is missing"),
        ("Go: ErrUnexpectedParen", "a)", "has no `(`"),
        ("Go: ErrMissingBracket", "[a", "lacks its `]`"),
        ("Go: ErrMissingBracket", "[]", "lacks its `]`"),
        ("Go: ErrInvalidCharRange", "[z-a]", "larger end first"),
        ("Go: ErrInvalidCharRange", "[a--b]", "larger end first"),
        ("Go: ErrInvalidCharRange", "[[:word1:]]", "no class of POSIX"),
        ("Character class elements", "[\\b]", "means nothing"),
        ("Unicode character class names", "\\p{Alphabetic2}", "neither"),
        ("Unicode character class names", "\\p{greek}", "neither"),
        ("Unicode character class names", "\\p{Alphabetic}", "not valid"),
    ];
    for (source, regex, words) in rows {
        let error = compile(regex).err().unwrap_or_else(|| panic!("{source}: {regex} is taken"));
        assert!(error.contains(words), "{source}: {regex}: {error}");
    }
}
