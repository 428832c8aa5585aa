//! Go templates and what they give, checked against Go itself.
//!
//! The rows were made with two programs that execute the same templates with the same data (`alertmanager.json`):
//! Debian's `amtool template render`, version 0.25, and for what it lacks (`date`, `dict`, `toJson` and others came later)
//! Go's own `text/template`, version 1.19, with these functions as Alertmanager's documentation has them. `data.json` is
//! the same data with the names of ams2.

mod data;
mod functions;
mod hostile;
mod language;
mod notes;
mod refused;
mod whole;

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde, value::Value,
};

use super::{Library, NoteKind, Target, Translated};
use ams2_handlers::render::filters;

/// Who said what a template gives.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Oracle {
    Amtool,
    Go,
}

const DATA: &str = include_str!("data.json");

fn environment(target: Target) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax =
        SyntaxConfig::builder().keep_trailing_newline(true).build().expect("it changes no delimiter");
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(move |_| match target {
        Target::Text => AutoEscape::None,
        Target::Html => AutoEscape::Html,
    });
    environment.set_fuel(Some(500_000));
    environment.set_recursion_limit(64);
    environment.remove_global("debug");
    filters::add(&mut environment);
    environment
}

fn data() -> Value {
    let mut data: serde_json::Value = serde_json::from_str(DATA).expect("JSON");
    data["root"] = data.clone();
    data["decided"] = "2026-11-24T10:15:02Z".into();
    Value::from(Serde(&data))
}

fn translate(files: &[(&str, &str)], text: &str, target: Target) -> Result<Translated, String> {
    let mut library = Library::new();
    for (name, source) in files {
        library.add(name, source).map_err(|mistake| mistake.to_string())?;
    }
    library.translate(text, target).map_err(|mistake| mistake.to_string())
}

fn render(files: &[(&str, &str)], text: &str, target: Target) -> Result<String, String> {
    let translated = translate(files, text, target)?;
    let environment = environment(target);
    environment
        .render_str(&translated.source, data())
        .map_err(|error| format!("{error}: {}", translated.source))
}

#[test]
fn templates_say_what_they_say_in_alertmanager() {
    let rows: Vec<_> = [language::ROWS, data::ROWS, functions::ROWS].concat();
    for (oracle, template, text) in &rows {
        assert_eq!(render(&[], template, Target::Text).as_deref(), Ok(*text), "{oracle:?}: {template}");
    }
    let confirmed = rows.iter().filter(|(oracle, ..)| *oracle == Oracle::Amtool).count();
    assert!(rows.len() > 200 && confirmed > 150, "{confirmed} of {}", rows.len());
}

#[test]
fn sets_of_templates_say_what_they_say_in_alertmanager() {
    for (oracle, files, template, text) in whole::ROWS {
        assert_eq!(render(files, template, Target::Text).as_deref(), Ok(*text), "{oracle:?}: {template}");
    }
}

#[test]
fn html_says_what_it_says_in_alertmanager() {
    // minijinja has other names for the same characters.
    let plain = |text: &str| {
        let names = [("&#x2f;", "/"), ("&quot;", "&#34;"), ("&#x27;", "&#39;"), ("&#43;", "+")];
        names.iter().fold(text.to_owned(), |text, (one, other)| text.replace(one, other))
    };
    for (oracle, template, text) in whole::HTML {
        let shown = render(&[], template, Target::Html).map(|shown| plain(&shown));
        assert_eq!(shown, Ok(plain(text)), "{oracle:?}: {template}");
    }
}

#[test]
fn what_alertmanager_cannot_read_is_a_mistake_with_its_place() {
    for (template, line, column, what) in refused::BROKEN {
        let mistake = Library::new().translate(template, Target::Text).expect_err(template);
        assert_eq!((mistake.line, mistake.column), (*line, *column), "{template}: {mistake}");
        assert!(mistake.to_string().contains(what), "{template}: {mistake}");
    }
}

#[test]
fn what_fails_in_alertmanager_does_not_pass_unnoticed() {
    for template in refused::REFUSED {
        let translated = translate(&[], template, Target::Text).expect(template);
        let noted = !translated.notes.is_empty();
        assert!(noted || render(&[], template, Target::Text).is_err(), "{template}: {translated:?}");
    }
}

#[test]
fn only_the_variables_of_the_data_model_are_used() {
    let known = [
        "receiver",
        "status",
        "alerts",
        "group_labels",
        "common_labels",
        "common_annotations",
        "route_labels",
        "external_url",
        "reason",
        "root",
        "decided",
        "print",
        "println",
        "printf",
        "namespace",
        "range",
    ];
    let single = [language::ROWS, data::ROWS, functions::ROWS].concat();
    let single = single.iter().map(|(_, template, _)| (&[][..], *template));
    let sets = whole::ROWS.iter().map(|(_, files, template, _)| (*files, *template));
    for (files, template) in single.chain(sets) {
        let source = translate(files, template, Target::Text).expect(template).source;
        let environment = environment(Target::Text);
        let compiled = environment.template_from_str(&source).expect(template);
        let mut unknown = compiled.undeclared_variables(false).into_iter();
        assert_eq!(unknown.find(|name| !known.contains(&&name[..])), None, "{template}: {source}");
    }
}

#[test]
fn filters_are_pure() {
    let template = "{{ now }} {{ since (index .Alerts 0).StartsAt }} {{ toJson . }}";
    assert_eq!(render(&[], template, Target::Text), render(&[], template, Target::Text));
}

/// Kinds and places of the notes.
fn noted(template: &str) -> Vec<(NoteKind, usize, usize, String)> {
    let notes = translate(&[], template, Target::Text).expect(template).notes;
    notes.into_iter().map(|note| (note.kind, note.line, note.column, note.what)).collect()
}
