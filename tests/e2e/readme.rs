//! The README's first commands, as a newcomer types them.

use std::process::Command;

use super::harness::*;

/// A site as the README has it: no config, everything in `./ams2-data`. (The port is a free one: tests run beside
/// each other.)
fn first_command(site: &Site) -> Command {
    let mut command = ams2();
    command.current_dir(site.path()).args(["serve", "--listen", "127.0.0.1:0"]);
    command
}

fn first_log(site: &Site) -> String {
    std::fs::read_to_string(site.path().join("ams2-data/events.log")).unwrap_or_default()
}

#[test]
fn the_suggested_command_puts_one_line_with_all_labels_into_the_event_log() {
    let site = Site::new("");
    let server = site.start_as(first_command(&site));
    let line = until("it suggests a command", || {
        server.said.try_recv().ok().filter(|line| line.contains("ams2 send"))
    });
    let suggested = line.trim().strip_prefix("ams2 ").expect("a command of ours");
    assert!(suggested.contains("\"Virus Found\" -l computer=ws-042 --severity critical"), "{suggested}");
    let mut shell = Command::new("sh");
    clean(&mut shell);
    run(shell.current_dir(site.path()).arg("-c").arg(format!("{AMS2} {suggested}"))).ends(0);
    let of_ours =
        |log: &str| log.lines().filter(|line| line.contains("ws-042")).map(str::to_owned).collect::<Vec<_>>();
    let lines =
        until("the line is there", || Some(of_ours(&first_log(&site))).filter(|lines| !lines.is_empty()));
    server.until_quiet();
    assert_eq!(of_ours(&first_log(&site)), lines, "one line, once");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for field in
        ["state=firing", "event=\"Virus Found\"", "severity=critical", "computer=ws-042", "delivery="]
    {
        assert!(lines[0].contains(field), "{field} is not in {}", lines[0]);
    }
}

#[test]
fn killing_the_router_between_the_answer_and_the_line_loses_nothing() {
    let site = Site::new("");
    for round in 0..5 {
        let server = site.start_as(first_command(&site));
        let id = format!("round-{round}");
        server.post(&alert("Virus Found", &id)).is(200);
        server.kill();
        let server = site.start_as(first_command(&site));
        until_true("the line is there after the restart", || has(&first_log(&site), &id));
        server.kill();
    }
}
