//! Lists as people have them, and every way in which they are wrong.

use super::*;

fn form(inside: &str, between: &str, order: Order) -> Form {
    let separator = |text| Separator::parse(text).expect("a separator");
    Form { inside: separator(inside), between: separator(between), order, comments: Comments::Known }
}

fn usual() -> Form {
    form(",", "LF", Order::NameFirst)
}

/// The pairs of a list, and what is refused, as `line: words`.
fn told(list: &List) -> (Vec<String>, Vec<String>) {
    let pair = |pair: &Pair| format!("{}: {} {}", pair.line, pair.name, pair.address);
    let refused = |refusal: &Refusal| format!("{}: {}: {}", refusal.line, refusal.what, refusal.mend);
    (list.pairs.iter().map(pair).collect(), list.refused.iter().map(refused).collect())
}

#[track_caller]
fn pairs(text: &str, form: &Form) -> Vec<String> {
    let (pairs, refused) = told(&read(text, form));
    assert_eq!(refused, [""; 0], "{text}");
    pairs
}

#[test]
fn the_importers_own_examples_are_read_byte_for_byte() {
    let six: String = (1..=6).map(|n| format!("Computer {n}, 192.0.2.{n}\n")).collect();
    let expected: Vec<String> = (1..=6).map(|n| format!("{n}: Computer {n} 192.0.2.{n}")).collect();
    assert_eq!(pairs(&six, &usual()), expected);
    let server = "Server 1,192.0.2.1\r\nServer 2,192.0.2.2\r\nServer 3,192.0.2.3";
    let expected: Vec<String> = (1..=3).map(|n| format!("{n}: Server {n} 192.0.2.{n}")).collect();
    assert_eq!(pairs(server, &usual()), expected);
    let turned = "192.0.2.1/Server 1\n192.0.2.2/Server 2\n192.0.2.3/Server 3\n";
    assert_eq!(pairs(turned, &form("/", "LF", Order::AddressFirst)), expected);
}

#[test]
fn every_separator_and_order_is_read() {
    let rows: [(&str, Form, &[&str]); 13] = [
        ("a,192.0.2.1\r\nb,192.0.2.2", usual(), &["1: a 192.0.2.1", "2: b 192.0.2.2"]),
        ("\n\n  a ,\t192.0.2.1  \n\n", usual(), &["3: a 192.0.2.1"]),
        ("a,192.0.2.1|b,192.0.2.2|", form(",", "|", Order::NameFirst), &["1: a 192.0.2.1", "1: b 192.0.2.2"]),
        (
            "a,192.0.2.1|\nb,192.0.2.2|\n",
            form(",", "|", Order::NameFirst),
            &["1: a 192.0.2.1", "2: b 192.0.2.2"],
        ),
        (
            "a   192.0.2.1\n b\t192.0.2.2\n",
            form("SP", "LF", Order::NameFirst),
            &["1: a 192.0.2.1", "2: b 192.0.2.2"],
        ),
        ("192.0.2.1  a\n", form("SP", "LF", Order::AddressFirst), &["1: a 192.0.2.1"]),
        (
            "a,192.0.2.1  b,192.0.2.2\n c,192.0.2.3\n",
            form(",", "SP", Order::NameFirst),
            &["1: a 192.0.2.1", "1: b 192.0.2.2", "2: c 192.0.2.3"],
        ),
        ("a&192.0.2.1", form("&", "LF", Order::NameFirst), &["1: a 192.0.2.1"]),
        ("a§192.0.2.1§§", form("§", "LF", Order::NameFirst), &[]),
        (
            "a\n192.0.2.1|b\n192.0.2.2",
            form("LF", "|", Order::NameFirst),
            &["1: a 192.0.2.1", "2: b 192.0.2.2"],
        ),
        ("\u{e5}ngström,2001:DB8::1", usual(), &["1: ångström 2001:db8::1"]),
        ("fe80::1%eth0/b", form("/", "LF", Order::AddressFirst), &["1: b fe80::1%eth0"]),
        ("", usual(), &[]),
    ];
    for (text, form, expected) in rows {
        let (pairs, refused) = told(&read(text, &form));
        assert_eq!(pairs, expected, "{text:?}");
        assert_eq!(refused.is_empty(), text != "a§192.0.2.1§§", "{text:?}: {refused:?}");
    }
}

#[test]
fn comments_stand_first_on_the_line_or_first_in_the_address_and_an_ipv6_address_is_none() {
    // Text, order, pairs, comments, colons, refused.
    let rows = [
        (";a,192.0.2.1", Order::NameFirst, 0, 1, 0, 0),
        (":a,192.0.2.1", Order::NameFirst, 0, 1, 0, 0),
        ("  ; a,192.0.2.1", Order::NameFirst, 0, 1, 0, 0),
        ("; only words", Order::NameFirst, 0, 1, 0, 0),
        (":", Order::NameFirst, 0, 1, 0, 0),
        ("a,;192.0.2.1", Order::NameFirst, 0, 1, 0, 0),
        ("a, :192.0.2.1", Order::NameFirst, 0, 1, 0, 0),
        ("a,:", Order::NameFirst, 0, 1, 0, 0),
        ("a,::1", Order::NameFirst, 1, 0, 1, 0),
        ("a,::ffff:192.0.2.1", Order::NameFirst, 1, 0, 1, 0),
        ("a,::xyz", Order::NameFirst, 0, 1, 0, 0),
        (";192.0.2.1,a", Order::AddressFirst, 0, 1, 0, 0),
        (":192.0.2.1,a", Order::AddressFirst, 0, 1, 0, 0),
        ("::1,a", Order::AddressFirst, 1, 0, 1, 0),
        ("::2,a\n:::2,b\n;::2,c", Order::AddressFirst, 1, 2, 1, 0),
        // A name may hold them elsewhere.
        ("a;b,192.0.2.1\nc:d,192.0.2.2", Order::NameFirst, 2, 0, 0, 0),
        // The other way round it is no comment either.
        ("::1,a", Order::NameFirst, 0, 0, 0, 1),
        ("::1", Order::NameFirst, 0, 0, 0, 1),
    ];
    for (text, order, pairs, comments, colons, refused) in rows {
        let list = read(text, &form(",", "LF", order));
        let found = (list.pairs.len(), list.comments, list.colons, list.refused.len());
        assert_eq!(found, (pairs, comments, colons, refused), "{text:?} {order:?}: {list:?}");
    }
    // Without comments, both characters may separate.
    let none = |inside, between, order| Form { comments: Comments::None, ..form(inside, between, order) };
    assert_eq!(pairs("a:192.0.2.1", &none(":", "LF", Order::NameFirst)), ["1: a 192.0.2.1"]);
    assert_eq!(pairs("a:fe80::1;b:::1", &none(":", ";", Order::NameFirst)), ["1: a fe80::1", "1: b ::1"]);
    assert_eq!(
        pairs("fe80::1:a\n::1:b", &none(":", "LF", Order::AddressFirst)),
        ["1: a fe80::1", "2: b ::1"]
    );
    let list = read(";a,192.0.2.1", &none(",", "LF", Order::NameFirst));
    assert_eq!((list.pairs[0].name.as_str(), list.comments), (";a", 0));
}

#[test]
fn each_mistake_is_said_by_its_line_with_its_mend_and_hides_no_other() {
    let long = "x".repeat(256);
    let rows = [
        ("a 192.0.2.1", usual(), "1: `a 192.0.2.1` has no `,` between name and address: write both with `,`"),
        ("a,192.0.2.300", usual(), "1: `192.0.2.300` is no IPv4 or IPv6 address: write it like 192.0.2.1"),
        ("a,", usual(), "1: `` is no IPv4 or IPv6 address"),
        ("a,host.example", usual(), "1: `host.example` is no IPv4 or IPv6 address"),
        ("a,255.255.255.255", usual(), "1: `255.255.255.255` is no address of one computer"),
        ("a,b,192.0.2.1", usual(), "1: `b,192.0.2.1` is no IPv4"),
        (",192.0.2.1", usual(), "1: the name is empty: write one, or remove the line"),
        ("a\u{7},192.0.2.1", usual(), "1: the name `a\u{7}` has a control character in it (\\u{7})"),
        (
            "192.0.2.1,a",
            usual(),
            "1: `a` is no IPv4 or IPv6 address: is it the other way round in this list? Then ORDER is 2",
        ),
        (
            "::1,a",
            usual(),
            "1: `::1` is an address where a name should be: is the address first in this list? Then ORDER is 2",
        ),
        ("a/192.0.2.1", form("/", "LF", Order::AddressFirst), "Then ORDER is 1"),
        (
            "Computer 1 192.0.2.1",
            form("SP", "LF", Order::NameFirst),
            "1: `1 192.0.2.1` is no IPv4 or IPv6 address: with SP between name and address no name may have a blank: use another separator",
        ),
        (
            "192.0.2.1 Computer 1",
            form("SP", "LF", Order::AddressFirst),
            "with SP between name and address no name may have a blank: use another separator",
        ),
        (
            "a,192.0.2.1 Computer 2,192.0.2.2",
            form(",", "SP", Order::NameFirst),
            "1: `2,192.0.2.2` follows `Computer`: with SP between pairs no name may have a blank: use another separator between them",
        ),
        (
            "a,192.0.2.1\nA,192.0.2.2",
            usual(),
            "2: `A` is there twice: with 192.0.2.1 on line 1, with 192.0.2.2 here",
        ),
        (
            "a,2001:db8::1\nb,2001:DB8:0::1",
            usual(),
            "2: 2001:db8::1 is there twice: as `a` on line 1, as `b` here",
        ),
        (&format!("{long},192.0.2.1"), usual(), "has 256 bytes; one may have 255: use a shorter one"),
        ("\u{1f},\u{2},\u{3}\n", usual(), "control character"),
    ];
    for (text, form, expected) in rows {
        let refused = told(&read(text, &form)).1.join("\n");
        assert!(refused.contains(expected), "{text}\nwanted {expected}\ngot {refused}");
    }
    let list =
        read("a,192.0.2.1\nb\nc,192.0.2.999\n,192.0.2.3\nd,192.0.2.4\na,192.0.2.1\na,192.0.2.5\n", &usual());
    assert_eq!(list.refused.iter().map(|refusal| refusal.line).collect::<Vec<_>>(), [2, 3, 4, 7]);
    assert_eq!(told(&list).0, ["1: a 192.0.2.1", "5: d 192.0.2.4"]);
    assert_eq!(list.repeated, [6]);
    // Long items are cut where they are said.
    let list = read(&"y".repeat(100_000), &usual());
    assert!(list.refused[0].what.len() < 200, "{}", list.refused[0].what.len());
}

#[test]
fn what_is_no_text_or_cannot_be_read_to_its_end_is_refused_whole() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let begins = &b"a,192.0.2.1\n"[..];
    let rows: [(Box<dyn Read>, &str); 6] = [
        (Box::new(begins.chain(Broken)), "cannot be read to its end: the disk is gone"),
        (Box::new(io::repeat(b'a')), "is larger than 64 MiB"),
        (Box::new(&b"\xff\xfea\0,\0"[..]), "is UTF-16"),
        (Box::new(&b"\xfe\xff\0a\0,"[..]), "is UTF-16"),
        (Box::new(&b"a,192.0.2.1\nb\xfc,192.0.2.2\n"[..]), "is not UTF-8 on line 2"),
        (Box::new(&b"a,192.0.2.1\nb\0"[..]), "is no text: line 2 has a NUL byte"),
    ];
    for (file, words) in rows {
        let error = text_of(file).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(!error.mend().is_empty(), "{words}");
    }
    assert_eq!(text_of(&b"\xef\xbb\xbfa,192.0.2.1"[..]).expect("text"), "a,192.0.2.1");
}

proptest::proptest! {
    /// Whatever is in a file, nothing of it is lost: each entry is a pair, a comment, a repetition or refused, in order.
    #[test]
    fn nonsense_is_read_to_its_end(text in "\\PC{0,200}|[a,;:/ \r\n.0-9]{0,200}", order in proptest::bool::ANY) {
        let order = if order { Order::NameFirst } else { Order::AddressFirst };
        for (inside, between) in [(",", "LF"), ("SP", "LF"), ("/", "SP"), (",", "|")] {
            let form = form(inside, between, order);
            let list = read(&text, &form);
            let count = list.pairs.len() + list.refused.len() + list.repeated.len() + list.comments;
            proptest::prop_assert_eq!(count, entries(&text, form.between).count());
            let lines = text.matches('\n').count() + 1;
            proptest::prop_assert!(list.pairs.iter().all(|pair| (1..=lines).contains(&pair.line)));
            proptest::prop_assert!(list.refused.iter().all(|refusal| (1..=lines).contains(&refusal.line)));
        }
    }
}
