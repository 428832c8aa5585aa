//! Input that means harm, or is long: an answer soon, and no panic.

use std::{fmt::Write as _, time::Instant};

use super::{
    super::{Library, Target},
    render,
};

/// Longest that any of them may take without optimisation on a busy machine.
const SECONDS_MAX: u64 = 60;

fn answer(text: &str) -> Result<String, String> {
    let start = Instant::now();
    let answer = render(&[], text, Target::Text);
    assert!(start.elapsed().as_secs() < SECONDS_MAX, "{:.60}: {:?}", text, start.elapsed());
    answer
}

#[test]
fn long_and_deep_templates_are_refused() {
    let rows = [
        ("{{".repeat(500_000), "bytes; at most"),
        ("{{".repeat(100_000), "'{' has no meaning"),
        ("{{ if 1 }}".repeat(10_000), "nest deeper than"),
        (format!("{{{{ {}1 }}}}", "(".repeat(10_000)), "never closed"),
        (format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)), "nest deeper than"),
        ("{{ range .Alerts }}".repeat(10_000), "nest deeper than"),
        ("{{ with 1 }}{{ else }}".repeat(5_000), "nest deeper than"),
        ("{{ block \"a\" . }}".repeat(10_000), "nest deeper than"),
        (format!("{{{{ . {} }}}}", "x".repeat(200_000)), "no function is called"),
        (format!("{{{{ {} }}}}", ".A".repeat(40_000)), "more than"),
        (format!("{{{{ 1{} }}}}", " | print".repeat(10_000)), "more than 300 parts"),
        ("{{ 1 }}".repeat(30_000), "more than"),
        ("{{ $x := 1 }}".repeat(1_500), "more than 1000 variables"),
        (format!("{{{{ \"{}", "\\\"".repeat(100_000)), "has no end"),
        ("{{/*".repeat(50_000), "no end"),
        (format!("{{{{ 1 {}", " ".repeat(200_000)), "never closed"),
        ("{{ \0 }}".into(), "has no meaning"),
        ("{{ .A\0 }}".into(), "cannot stand in a name"),
        ("{{ 1e999999999 }}".into(), "is no number"),
        ("{{ \"\\xff\" }}".into(), "not UTF-8"),
    ];
    for (text, words) in rows {
        let error = answer(&text).expect_err("refused");
        assert!(error.contains(words), "{text:.60}: {error:.200}");
        assert!(error.len() < 300_000);
    }
}

#[test]
fn endless_templates_end() {
    let rows = [
        ("{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}", "recursion"),
        (
            "{{ define \"a\" }}x{{ template \"b\" . }}{{ end }}{{ define \"b\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}",
            "recursion",
        ),
        // Each call has a dot of another type, until types are no longer told apart.
        ("{{ define \"a\" }}{{ template \"a\" (list .) }}{{ end }}{{ template \"a\" . }}", "recursion"),
        (
            "{{ define \"a\" }}{{ template \"a\" (dict \"x\" . \"y\" .) }}{{ end }}{{ template \"a\" . }}",
            "recursion",
        ),
    ];
    for (text, words) in rows {
        let error = answer(text).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn doubling_is_bounded() {
    let rows = [
        ("{{ $s := \"xxxxxxxx\" }}", "{{ $s = printf \"%s%s\" $s $s }}", "{{ len $s }}"),
        ("{{ $s := \"xxxxxxxx\" }}", "{{ $s = print $s $s }}", "{{ len $s }}"),
        ("{{ $s := \"xxxxxxxx\" }}", "{{ $s = reReplaceAll \"x\" \"xx\" $s }}", "{{ len $s }}"),
        ("{{ $s := list 1 2 3 }}", "{{ $s = append $s $s $s $s }}", "{{ toJson $s }}"),
        ("{{ $s := list 1 2 3 }}", "{{ $s = list $s $s }}", "{{ $s }}"),
        ("{{ $s := list 1 2 3 }}", "{{ $s = list $s $s }}", "{{ printf \"%d\" $s }}"),
        ("{{ $s := \"<<<<<<<<\" }}", "{{ $s = toJson $s }}", "{{ len $s }}"),
    ];
    for (first, step, last) in rows {
        let text = format!("{first}{}{last}", step.repeat(64));
        assert!(answer(&text).is_err(), "{step}");
    }
    assert!(answer("{{ printf \"%999999999d\" 1 }}").is_err());
    assert!(answer("{{ printf \"%.999999999f\" 1.0 }}").is_err());
    assert!(answer("{{ reReplaceAll \"((a{100}){100}){100}\" \"\" .Receiver }}").is_err());
}

#[test]
fn many_definitions_are_no_problem() {
    let mut text = String::new();
    for number in 0..2_000 {
        write!(text, "{{{{ define \"t{number}\" }}}}{{{{ template \"t{}\" . }}}}{{{{ end }}}}", number + 1)
            .expect("text");
    }
    text.push_str("x{{ template \"t0\" . }}");
    assert!(
        answer(&text).is_err()
            || !Library::new().translate(&text, Target::Text).expect("reads").notes.is_empty()
    );
    let chain: String = (0..500).map(|number| format!("{{{{ else if $x{number} := .Status }}}}a")).collect();
    let text = format!("{{{{ if false }}}}{chain}{{{{ end }}}}");
    assert!(!Library::new().translate(&text, Target::Text).expect("reads").notes.is_empty());
    let chain = "{{ else if eq .Status \"x\" }}a".repeat(2_000);
    let text = format!("{{{{ if false }}}}{chain}{{{{ else }}}}z{{{{ end }}}}");
    assert_eq!(answer(&text).as_deref(), Ok("z"));
    assert!(!Library::new().translate(&text, Target::Text).expect("reads").notes.is_empty());
    let chain = "{{ else if eq .Status \"x\" }}a".repeat(90);
    assert_eq!(answer(&format!("{{{{ if false }}}}{chain}{{{{ else }}}}z{{{{ end }}}}")).as_deref(), Ok("z"));
}

#[test]
fn long_expressions_do_not_exhaust_the_stack() {
    let pipes = |text: &str| format!("{{{{ .Receiver {} }}}}", text.repeat(200));
    for text in ["| toJson ", "| printf \"%.9s\" ", "| html | print ", "| reReplaceAll \"a\" \"b\" "] {
        assert!(answer(&pipes(text)).is_err() || answer(&pipes(text)).is_ok_and(|text| text.len() < 300_000));
    }
    let all = format!("{{{{ and {} }}}}", "1 ".repeat(290));
    assert_eq!(answer(&all).as_deref(), Ok("1"));
    // Each variable is a path into the one before.
    let mut text = String::from("{{ $x := list 1 . }}{{ $y := index $x 0 }}");
    for _ in 0..500 {
        text.push_str("{{ $y := $y.a.b.c.d.e.f.g.h }}");
    }
    text.push_str("[{{ $y.a }}]");
    assert_eq!(answer(&text).as_deref(), Ok("[]"));
}

#[test]
fn text_with_odd_characters_stays() {
    for text in ["\0", "a\u{feff}b", "\u{202e}{%\u{0}%}{#", "\r\n\r\n", "{", "}}", "%}{", "{{`\0`}}"] {
        let plain = text.trim_start_matches("{{`").trim_end_matches("`}}");
        let wanted = if text.starts_with("{{") { plain } else { text };
        assert_eq!(answer(text).as_deref(), Ok(wanted));
    }
}

#[test]
fn forged_templates_do_not_panic() {
    let seeds = [
        "{{ if eq .Status \"x\" }}a{{ else }}b{{ end }}",
        "{{ range $i, $a := .Alerts }}{{ $i }}{{ .Labels.x | printf \"%5s\" }}{{ end }}",
        "{{ define \"a\" }}{{ . }}{{ end }}{{- template \"a\" (dict \"k\" 1.5) -}} x",
    ];
    let mut state = 1_u64;
    for seed in seeds {
        for _ in 0..400 {
            let mut characters: Vec<char> = seed.chars().collect();
            for _ in 0..3 {
                // A plain linear generator: the same inputs each time.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let position = usize::try_from(state >> 33).expect("31 bits") % characters.len();
                let other = usize::try_from(state >> 13 & 0xfffff).expect("20 bits") % characters.len();
                match state >> 61 {
                    0..=2 => drop(characters.remove(position)),
                    3..=5 => characters.insert(position, characters[other]),
                    _ => characters[position] = ['\0', '"', '(', '}', 'é', '$', '.', '|'][other % 8],
                }
            }
            let text: String = characters.into_iter().collect();
            let _ = answer(&text);
        }
    }
}
