//! Which routes an alert takes, and how groups are named.

use super::*;

#[test]
fn routes_walk_as_alertmanagers() {
    let matchers =
        |texts: &[&str]| texts.iter().map(|text| Matcher::parse(text).expect(text)).collect::<Vec<_>>();
    let leaf = |receiver: &str, texts: &[&str]| Route {
        receiver: Some(receiver.into()),
        matchers: matchers(texts),
        ..Route::default()
    };
    let tree = Route {
        receiver: Some("default".into()),
        routes: vec![
            Route {
                routes: vec![
                    leaf("test", &["env=testing"]),
                    Route { goes_on: true, ..leaf("prod", &["env=production"]) },
                    leaf("prod-2", &["env=production"]),
                ],
                ..leaf("A", &["owner=team-A"])
            },
            leaf("BC", &["owner=~\"team-(B|C)\""]),
            Route { goes_on: true, ..leaf("high", &["severity>=major"]) },
            leaf("one-of", &["site=~\"boston|paris\""]),
        ],
        ..Route::default()
    };
    let names = ["default", "A", "test", "prod", "prod-2", "BC", "high", "one-of"];
    let receivers = names.iter().map(|name| Receiver { name: (*name).into(), actions: vec![] }).collect();
    let config = Config {
        receivers,
        route: tree,
        ..Config::single(Receiver { name: "x".into(), actions: vec![] }, Route::default())
    };
    let routing = Routing::compile(&config).expect("valid");
    let rows: [(&[(&str, &str)], &[&str]); 8] = [
        (&[("owner", "team-A")], &["A"]),
        (&[("env", "unset"), ("owner", "team-A")], &["A"]),
        (&[("owner", "team-C")], &["BC"]),
        (&[("env", "testing"), ("owner", "team-A")], &["test"]),
        (&[("env", "production"), ("owner", "team-A")], &["prod", "prod-2"]),
        (&[("severity", "critical"), ("site", "paris")], &["high", "one-of"]),
        (&[("severity", "critical")], &["high"]),
        (&[("owner", "nobody")], &["default"]),
    ];
    for (labels, expected) in rows {
        let found = batch(labels, None, None);
        let found = routing.routes(&found.alert(0).expect("one"));
        let found: Vec<&str> =
            found.iter().map(|route| names[routing.nodes[*route as usize].receiver as usize]).collect();
        assert_eq!(found, expected, "{labels:?}");
    }
}

#[test]
fn group_keys_print_as_alertmanagers() {
    let route = Route {
        receiver: Some("ops".into()),
        routes: vec![Route {
            matchers: vec![Matcher::parse("owner=\"team-A\"").expect("valid")],
            group_by: Some(GroupBy::Labels(vec!["alertname".into(), "zone".into()])),
            ..Route::default()
        }],
        ..Route::default()
    };
    let mut world = World::new(config(vec![action("ops", "log")], route));
    world.alert(&[("alertname", "X\"y"), ("owner", "team-A"), ("zone", "1")], Some(HOUR));
    let keys: Vec<&str> = world.machine.groups().map(|group| group.name().key.as_str()).collect();
    assert!(keys.contains(&r#"{}/{owner="team-A"}:{alertname="X\"y", zone="1"}"#), "{keys:?}");
}
