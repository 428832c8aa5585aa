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

/// Keys of routes as in Alertmanager's `dispatch/route_test.go`, `TestRouteMatch`, and of groups as its documentation of web hooks has them.
#[test]
fn keys_of_groups_name_the_way_and_the_labels() {
    let route = |texts: &[&str], routes: Vec<Route>| Route {
        matchers: texts.iter().map(|text| Matcher::parse(text).expect(text)).collect(),
        routes,
        ..Route::default()
    };
    let tree = Route {
        receiver: Some("ops".into()),
        group_by: Some(GroupBy::Labels(vec!["alertname".into(), "zone".into()])),
        routes: vec![
            route(
                &["owner=team-A"],
                vec![
                    route(&["env=testing"], vec![]),
                    Route { goes_on: true, ..route(&["env=production"], vec![]) },
                    Route {
                        group_by: Some(GroupBy::Labels(vec!["job".into()])),
                        ..route(&["job=~\".*\"", "env=~\"produ.*\""], vec![])
                    },
                ],
            ),
            route(&["owner=~\"^(?:team-(B|C))$\""], vec![]),
            Route {
                group_by: Some(GroupBy::All),
                ..route(
                    &["group_by=role"],
                    vec![route(&["env=testing"], vec![route(&["long=true"], vec![])])],
                )
            },
        ],
        ..Route::default()
    };
    let rows: [(&str, &[(&str, &str)], &[&str]); 8] = [
        ("TestRouteMatch", &[("owner", "team-A")], &[r#"{}/{owner="team-A"}:{}"#]),
        ("TestRouteMatch", &[("owner", "team-C")], &[r#"{}/{owner=~"^(?:team-(B|C))$"}:{}"#]),
        (
            "TestRouteMatch, a child",
            &[("env", "testing"), ("owner", "team-A")],
            &[r#"{}/{owner="team-A"}/{env="testing"}:{}"#],
        ),
        (
            "TestRouteMatch, two by `continue`; matchers in the order of their names",
            &[("env", "production"), ("job", "j"), ("owner", "team-A")],
            &[
                r#"{}/{owner="team-A"}/{env="production"}:{}"#,
                r#"{}/{owner="team-A"}/{env=~"produ.*",job=~".*"}:{job="j"}"#,
            ],
        ),
        (
            "TestRouteMatch, all labels",
            &[("group_by", "role"), ("host", "a")],
            &[r#"{}/{group_by="role"}:{group_by="role", host="a"}"#],
        ),
        (
            "TestRouteMatch, three deep",
            &[("env", "testing"), ("group_by", "role"), ("long", "true")],
            &[
                r#"{}/{group_by="role"}/{env="testing"}/{long="true"}:{env="testing", group_by="role", long="true"}"#,
            ],
        ),
        (
            "docs/notifications.md, groupKey; absent labels are absent",
            &[("alertname", "X")],
            &[r#"{}:{alertname="X"}"#],
        ),
        (
            "model.LabelSet.String: values quoted as Go does",
            &[("alertname", "a\"b\\c\nd"), ("zone", "é")],
            &[r#"{}:{alertname="a\"b\\c\nd", zone="é"}"#],
        ),
    ];
    for (source, labels, expected) in rows {
        let mut world = World::new(config(vec![action("ops", "log")], tree.clone()));
        world.alert(labels, Some(HOUR));
        let groups = world.machine.groups().map(|group| group.name().key.clone());
        let mut keys: Vec<String> = groups.filter(|key| !key.contains("event")).collect();
        keys.sort();
        assert_eq!(keys, expected, "{source}: {labels:?}");
    }
}
