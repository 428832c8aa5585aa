//! The schema that editors use, by somebody else's validator: what ships fits it, and what the reader refuses does not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::harness::*;

/// Every configuration that ships.
fn shipped() -> Vec<PathBuf> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut found = Vec::new();
    for folder in [config.clone(), config.join("examples")] {
        let entries = fs::read_dir(&folder).map(|entries| entries.map_while(Result::ok).collect::<Vec<_>>());
        let paths = entries.unwrap_or_default().into_iter().map(|entry| entry.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")));
    }
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn validate(site: &Site, yaml: &str) -> Ran {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).expect("YAML");
    let (instance, schema) = (site.path().join("instance.json"), site.path().join("schema.json"));
    fs::write(&instance, value.to_string()).expect("written");
    fs::write(&schema, run(ams2().args(["config", "schema"])).ends(0).stdout).expect("written");
    let mut jsonschema = Command::new("jsonschema");
    clean(&mut jsonschema);
    run(jsonschema.arg("-i").arg(&instance).arg(&schema))
}

#[test]
fn what_ships_fits_the_schema_and_names_it_in_its_first_line() {
    let site = Site::new(EACH);
    for path in shipped() {
        let text = fs::read_to_string(&path).expect("readable");
        validate(&site, &text).ends(0);
        if path.ends_with("config/default.yaml") {
            continue;
        }
        let first = text.lines().next().unwrap_or_default();
        let schema = first.strip_prefix("# yaml-language-server: $schema=");
        let schema = schema.unwrap_or_else(|| panic!("{}: {first}", path.display()));
        assert!(path.parent().expect("a folder").join(schema).exists(), "{}: {schema}", path.display());
    }
}

#[test]
fn what_the_reader_refuses_does_not_fit() {
    let site = Site::new(EACH);
    validate(&site, EACH).ends(0);
    for (right, wrong) in [
        ("notify: each", "notify: eech"),
        ("event_log", "event_lgo"),
        ("to: file", "to: tape"),
        ("path: events.log", "path: 7"),
        ("receiver: log", "receivers: log"),
        ("name: log", "name: log, colour: red"),
    ] {
        assert!(EACH.contains(right), "{right}");
        let text = EACH.replacen(right, wrong, 1);
        validate(&site, &text).ends(1);
        site.configure(&text);
        run(ams2().arg("check").arg(site.config())).ends(2);
    }
}

#[test]
fn pages_and_completions_come_from_the_command_line_itself() {
    let site = Site::new(EACH);
    let man = site.path().join("man");
    run(ams2().arg("man").arg(&man)).ends(0);
    let send = fs::read_to_string(man.join("ams2-send.1")).expect("a page");
    assert!(send.contains("spool") && send.contains(".TH"), "{send}");
    for shell in ["bash", "zsh", "fish"] {
        let text = run(ams2().args(["completions", shell])).ends(0).stdout;
        assert!(text.contains("reload") && text.contains("spool"), "{shell}: {text}");
    }
    let mut bash = Command::new("bash");
    clean(&mut bash);
    let script = format!("{} completions bash > c && . ./c && complete -p ams2", env!("CARGO_BIN_EXE_ams2"));
    run(bash.args(["-c", &script]).current_dir(site.path())).ends(0);
}
