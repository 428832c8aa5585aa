//! What the documentation lists is what the source has.

use std::{collections::BTreeSet, path::Path};

/// What stands in the source as `OwnAlert::new("Event", "id", Severity::Word, ...)`.
fn own_alerts() -> BTreeSet<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/machine");
    let mut found = BTreeSet::new();
    let files = std::fs::read_dir(folder).expect("readable").filter_map(Result::ok);
    let files = files.filter(|file| file.file_type().expect("a type").is_file());
    let texts: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.path()).expect("readable")).collect();
    let all = texts.concat();
    for text in &texts {
        let constant = |name: &str| {
            let value = all.split_once(&format!("const {name}: &str = \""));
            value.and_then(|(_, rest)| rest.split('"').next()).map(str::to_owned)
        };
        // The first part is what stands before the first of them; the function itself names no severity.
        for made in text.split("OwnAlert::new(").skip(1) {
            let arguments: Vec<&str> = made.splitn(4, ',').map(str::trim).take(3).collect();
            let [event, id, severity] = arguments.as_slice() else { panic!("{made}") };
            // The end of any of them, by its name.
            if *event == "event" {
                continue;
            }
            let Some(severity) = severity.strip_prefix("Severity::") else { panic!("{made}") };
            let event = match event.strip_prefix('"') {
                Some(event) => event.trim_end_matches('"').to_owned(),
                None => constant(event).unwrap_or_else(|| panic!("{event}")),
            };
            found.insert((event, id.trim_matches('"').to_owned(), severity.to_lowercase()));
        }
    }
    found
}

#[test]
fn every_own_alert_is_documented_as_it_is() {
    let page = include_str!("../../docs/operating.md");
    let (_, table) = page.split_once("| event | event_id |").expect("the table of own alerts");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<_> = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].to_owned(), cells[1].to_owned(), cells[2].to_owned())
        })
        .collect();
    assert_eq!(documented, own_alerts());
    // `check` knows them all, too.
    let known = ams2_core::machine::OWN_EVENTS
        .map(|(event, id, severity)| (event.to_owned(), id.to_owned(), severity.word().to_owned()));
    assert_eq!(BTreeSet::from(known), documented);
}
