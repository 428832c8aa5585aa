//! What the golden rows of the translator do not reach.

use minijinja::{Environment, context};

use super::layout;

fn render(source: &str) -> Result<String, String> {
    let mut environment = Environment::new();
    super::add(&mut environment);
    let context =
        context! { summer => "2026-07-05T13:04:05.06Z", winter => "2026-12-25T00:30:00Z", none => () };
    environment.render_str(source, context).map_err(|error| error.to_string())
}

#[test]
fn layouts_become_strftime_where_it_can_say_them() {
    let rows = [
        ("2006-01-02 15:04:05 MST", Some("%Y-%m-%d %H:%M:%S %Z")),
        ("Mon Jan _2 15:04:05 2006", Some("%a %b %e %H:%M:%S %Y")),
        ("Monday, 02-Jan-06 3:4:5 PM", Some("%A, %d-%b-%y %-I:%-M:%-S %p")),
        ("15:04:05.000 -0700", Some("%H:%M:%S.%3f %z")),
        ("100%", Some("%-m00%%")),
        ("Januar 2006", Some("Januar %Y")),
        ("2006-01-02T15:04:05Z07:00", None),
        ("15:04:05,000", None),
        ("", Some("")),
    ];
    for (layout, format) in rows {
        assert_eq!(layout::strftime(layout).as_deref(), format, "{layout}");
    }
}

#[test]
fn strftime_and_layout_say_the_same() {
    let layouts = [
        "2006-01-02 15:04:05 MST",
        "Mon Jan _2 3:04:05PM 2006",
        "Monday 2 January 06 -0700 -07:00",
        "1/2/2006 03:04 pm .000 002",
        "15h04m05s",
    ];
    for layout in layouts {
        let format = layout::strftime(layout).expect(layout);
        for time in ["summer", "winter", "winter | zone('Asia/Kolkata')", "summer | zone('America/New_York')"]
        {
            let one = render(&format!("{{{{ {time} | date('{format}') }}}}")).expect(layout);
            let other = render(&format!("{{{{ {time} | date_layout('{layout}') }}}}")).expect(layout);
            assert_eq!(one, other, "{layout} {time}");
            assert!(!one.contains('%'), "{one}");
        }
    }
}

#[test]
fn what_is_written_by_a_layout_is_read_by_it() {
    for layout in [
        "2006-01-02T15:04:05Z07:00",
        "Mon, 02 Jan 2006 03:04:05 PM -0700",
        "20060102150405",
        "_2.1.06 15:4:5",
    ] {
        let source = format!(
            "{{{{ '%' | replace('%', summer | date_layout('{layout}')) | parse_date('{layout}') }}}}"
        );
        assert_eq!(render(&source).as_deref(), Ok("2026-07-05T13:04:05Z"), "{layout}");
    }
}

#[test]
fn mistakes_are_errors_with_a_reason() {
    let rows = [
        ("{{ 'noon' | date('%H') }}", "is no time"),
        ("{{ summer | zone('Mars/Base') }}", "no known time zone"),
        ("{{ summer | plus(1e18) }}", "is no time"),
        ("{{ 'x' | regex_match('(') }}", "is no pattern"),
        ("{{ 'x' | parse_date('2006', strict=true) }}", "is no time like"),
        ("{{ '%zz' | url_unescape }}", "without two hexadecimal digits"),
        ("{{ 'a=b=' | base64_decode }}", "is no base64"),
        ("{{ '====' | base64_decode }}", "is no base64"),
        ("{{ 'abc' | string_slice(2, 9) }}", "has no bytes"),
        ("{{ 'soon' | humanize_duration }}", "is no number of seconds"),
    ];
    for (source, words) in rows {
        let error = render(source).expect_err(source);
        assert!(error.contains(words), "{source}: {error}");
    }
}

#[test]
fn values_are_shown_as_in_go() {
    let rows = [
        ("{{ nosuch | show }}|{{ none | show }}", "|<no value>"),
        ("{{ [1, 2.5, 'a', true, none] | show }}", "[1 2.5 a true <nil>]"),
        ("{{ {'b': 1, 'a': {'c': 2}} | show }}", "map[a:map[c:2] b:1]"),
        ("{{ none | date('%Y') }}", "0001"),
        ("{{ 'no' | parse_date('2006') | show }}", "<no value>"),
        ("{{ winter | since(summer) | show_duration }}", "-4139h25m54.94s"),
        (
            "{{ 0.25 | show_duration }} {{ 0.0000015 | show_duration }} {{ 61 | show_duration }}",
            "250ms 1.5µs 1m1s",
        ),
        ("{{ [] | entries }}{{ none | entries }}{{ 'text' | entries }}", "[][][]"),
        ("{{ {'b': 1} | entries }}", "[['b', 1]]"),
        ("{{ 'aéb' | string_slice(1) }} {{ 'aé' | byte_length }}", "éb 3"),
    ];
    for (source, text) in rows {
        assert_eq!(render(source).as_deref(), Ok(text), "{source}");
    }
}
