//! What the translation says about itself.

use super::{
    super::{Library, NoteKind, Target},
    noted, render, translate,
};

#[test]
fn notes_have_their_places() {
    use NoteKind::{Approximated, Impossible};
    let rows = [
        ("a\n  {{ .Nosuch }}", Impossible, 2, 6, "has no `.Nosuch`; there are .Receiver"),
        ("{{ range .Alerts }}\n{{ .Label.x }}{{ end }}", Impossible, 2, 4, "an alert has no `.Label`"),
        ("ü{{ template \"x\" . }}", Impossible, 1, 5, "no template is called \"x\""),
        ("{{ index \"abc\" 1 }}", Impossible, 1, 4, "number of a byte"),
        ("{{ call .Receiver }}", Impossible, 1, 4, "`call` needs a function"),
        ("{{ .Receiver.Foo.Bar }}", Impossible, 1, 4, "a text has no `.Foo`"),
        ("{{ match \"a(\" .Receiver }}", Impossible, 1, 4, "the pattern \"a(\" cannot be used"),
        ("{{ range .Receiver }}x{{ end }}", Impossible, 1, 10, "`range` cannot go through a text"),
        ("{{ . }}", Approximated, 1, 4, "Go prints the notification's data"),
        ("{{ range .Alerts }}{{ . }}{{ end }}", Approximated, 1, 23, "Go prints an alert"),
        (
            "{{ range .CommonLabels.SortedPairs }}{{ toJson . }}{{ end }}",
            Approximated,
            1,
            41,
            "JSON of a label",
        ),
        ("{{ $x := list 1 .Receiver . }}{{ (index $x 2).Status }}", Approximated, 1, 34, "belongs to"),
        ("{{ (now.Local).Format \"15:04\" }}", Approximated, 1, 5, "the local zone"),
    ];
    for (template, kind, line, column, words) in rows {
        let notes = noted(template);
        let found = notes.iter().any(|(found, at, position, what)| {
            (*found, *at, *position) == (kind, line, column) && what.contains(words)
        });
        assert!(found, "{template}: {notes:?}");
    }
}

#[test]
fn what_is_impossible_leaves_no_words() {
    for template in ["[{{ .Nosuch }}]", "[{{ call .Receiver | toUpper }}]", "[{{ template \"x\" . }}]"] {
        assert_eq!(render(&[], template, Target::Text).as_deref(), Ok("[]"), "{template}");
    }
}

#[test]
fn a_note_names_the_file_of_its_definition() {
    let files = [
        ("a.tmpl", "{{ define \"a\" }}{{ template \"b\" . }}{{ end }}"),
        ("b.tmpl", "\n{{ define \"b\" }}{{ .X }}{{ end }}"),
    ];
    let notes = translate(&files, "{{ template \"a\" . }} {{ template \"a\" . }}", Target::Text)
        .expect("reads")
        .notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((&notes[0].file[..], notes[0].line, notes[0].column), ("b.tmpl", 2, 20));
}

#[test]
fn a_mistake_names_its_file() {
    let mistake = Library::new().add("etc/a.tmpl", "\n {{ if }}").expect_err("no value");
    assert_eq!(mistake.to_string(), "etc/a.tmpl:2:8: if lacks a value");
}

#[test]
fn links_in_attributes_of_html_are_noted() {
    let template = "<b>{{ .Receiver }}</b><a href=\"{{ .ExternalURL }}\">{{ .Status }}</a>";
    let notes = translate(&[], template, Target::Html).expect("reads").notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!((notes[0].kind, notes[0].column), (NoteKind::Approximated, 35));
    let template = "<STYLE>a{}</style>{{ .Status }}<script>{{ .Status }}</script>{{ .Status }}";
    let notes = translate(&[], template, Target::Html).expect("reads").notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].column == 43 && notes[0].what.contains("script"), "{notes:?}");
}

#[test]
fn the_output_reads_well() {
    let rows = [
        ("{{ .CommonLabels.alertname }}", "{{ common_labels.alertname | default(\"\") }}"),
        ("{{ .Alerts.Firing | len }}", "{{ alerts | firing | length }}"),
        ("{{ .Status | toUpper }}", "{{ status | upper }}"),
        (
            "{{ range .Alerts }}{{ .Labels.instance }}{{ end }}",
            "{% for alert in alerts %}{{ alert.labels.instance | default(\"\") }}{% endfor %}",
        ),
        (
            "{{ with .CommonLabels.a }}{{ . }}{{ end }}",
            "{% if common_labels.a %}{{ common_labels.a }}{% endif %}",
        ),
        ("{{ $a := .Alerts }}{{ len $a }}", "{{ alerts | length }}"),
        ("{{ date \"2006-01-02 15:04:05 MST\" now }}", "{{ decided | date(\"%Y-%m-%d %H:%M:%S %Z\") }}"),
        (
            "{{ range .Alerts }}{{ (.StartsAt.Add 28800e9).Format \"15:04\" }}{{ end }}",
            "{% for alert in alerts %}{{ alert.starts_at | plus(28800.0) | date(\"%H:%M\") }}{% endfor %}",
        ),
        (
            "{{ if eq .Status \"a\" }}1{{ else if gt (len .Alerts) 2 }}2{{ else }}3{{ end }}",
            "{% if status == \"a\" %}1{% elif alerts | length > 2 %}2{% else %}3{% endif %}",
        ),
        ("{{ define \"a\" }}{{ .Status }}{{ end }}{{ template \"a\" . }}", "{{ status }}"),
        (
            "{{ define \"a\" }}{{ .Status }}{{ end }}x{{ template \"a\" . }}",
            "{% macro a() %}{{ status }}{% endmacro -%}\nx{{ a() }}",
        ),
    ];
    for (template, source) in rows {
        let translated = translate(&[], template, Target::Text).expect(template);
        assert_eq!((&translated.source[..], translated.notes), (source, Vec::new()), "{template}");
    }
}

#[test]
fn words_that_are_newer_than_the_oracles_are_known() {
    let rows = [
        ("{{ with .CommonLabels.no }}a{{ else with .Receiver }}{{ . }}{{ else }}c{{ end }}", "team-a"),
        ("{{ with .CommonLabels.no }}a{{ else with $x := .CommonLabels.no }}b{{ else }}c{{ end }}", "c"),
        ("{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}", "01201"),
    ];
    for (template, text) in rows {
        assert_eq!(render(&[], template, Target::Text).as_deref(), Ok(text), "{template}");
    }
}
