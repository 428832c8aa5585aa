//! `config/examples/four-actions.yaml`: one alert to a real mail server, a real SNMP manager, a real syslog daemon and a
//! program. Whichever of the four is away, the other three are told at once, and it is when it is back.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{harness::*, postfix::Postfix, rsyslog::Rsyslog, snmptrapd::Snmptrapd};

/// The example's four actions in their order.
const MAIL: &str = "secops/email/0";
const TRAP: &str = "secops/snmp_trap/1";
const SYSLOG: &str = "secops/event_log/2";
const PROGRAM: &str = "secops/program/3";
const ACTIONS: [&str; 4] = [MAIL, TRAP, SYSLOG, PROGRAM];

/// The site that runs the example, and its far ends.
struct Four {
    site: Site,
    postfix: Postfix,
    snmptrapd: Option<Snmptrapd>,
    snmp_port: u16,
    rsyslog: Option<Rsyslog>,
    syslog_port: u16,
}

impl Four {
    fn start() -> (Four, Server) {
        let site = super::examples::example("four-actions.yaml");
        let postfix = Postfix::start();
        let snmp_port = super::snmptrapd::free_port();
        let snmptrapd = Snmptrapd::start(&site, snmp_port, "");
        let rsyslog = Rsyslog::start(&site, 0);
        let syslog_port = rsyslog.tcp_port;
        fs::create_dir(site.path().join("secrets")).expect("made");
        site.secret("secrets/snmp-community", "example");
        // Writes down what it is given, unless somebody says that it cannot.
        let dir = site.path().display();
        let script = format!(
            "if [ -e {dir}/busy ]; then echo the printer is out of paper; exit 75; fi\n\
             n=$(cat | tee {dir}/told-$$.json | wc -c)\necho \"printed $n bytes\"\n"
        );
        fs::write(site.path().join("print"), script).expect("written");
        let mut text = fs::read_to_string(site.config()).expect("readable");
        for (is, here) in [
            ("smtp://127.0.0.1:25 ", format!("smtp://127.0.0.1:{} ", postfix.port)),
            ("manager.example.com ", format!("127.0.0.1:{snmp_port} ")),
            // A manager that is away costs one attempt this long.
            ("inform: true ", "inform: true\n          timeout: 300ms ".into()),
            // The MIB that snmptrapd loads has the number for documentation.
            ("enterprise: 99999", "enterprise: 32473".into()),
            ("logs.example.com:601", format!("127.0.0.1:{syslog_port}")),
            // The end of an alert is told at the group's next look.
            ("group_wait: 0s ", "group_wait: 0s\n      group_interval: 1s ".into()),
            ("[/bin/cat]", format!("[/bin/sh, {dir}/print]")),
        ] {
            assert_eq!(text.matches(is).count(), 1, "{is} in {text}");
            text = text.replace(is, &here);
        }
        site.configure(&text);
        let server = site.start();
        let (snmptrapd, rsyslog) = (Some(snmptrapd), Some(rsyslog));
        (Four { site, postfix, snmptrapd, snmp_port, rsyslog, syslog_port }, server)
    }

    fn send(&self, place: &str) {
        let label = format!("site={place}");
        let summary = "summary=EICAR in invoice.doc";
        let severity = ["--severity", "critical"];
        self.site
            .client(&[&["send", "Virus Found", "-l", &label, "-a", summary][..], &severity].concat())
            .ends(0);
    }

    /// What `ams2 query deliveries` knows of the alert at this place, by action.
    fn deliveries(&self, place: &str) -> Vec<Value> {
        let filter = format!("site={place}");
        let arguments = ["query", "deliveries", "--state", "all", &filter, "--json"];
        let mut rows = self.site.client(&arguments).ends(0).json().as_array().expect("a list").clone();
        let rank = |row: &Value| ACTIONS.iter().position(|action| row["action"] == *action);
        rows.sort_by_key(rank);
        rows
    }

    /// Waits until each of these actions has told of the alert.
    fn until_told(&self, place: &str, actions: &[&str]) -> Vec<Value> {
        let is_told = |row: &Value| row["state"] == "delivered" || row["state"] == "sent";
        until(&format!("{actions:?} tell of {place}: {}", self.site.log()), || {
            let rows = self.deliveries(place);
            let told = |action: &&str| rows.iter().any(|row| row["action"] == **action && is_told(row));
            actions.iter().all(told).then_some(rows)
        })
    }

    /// How often each far end has the alert, by its own word.
    fn counts(&self, place: &str) -> [usize; 4] {
        let label = format!("site={place}");
        let mails = self.postfix.mails().into_iter().filter(|mail| mail.text.contains(place)).count();
        let snmp = fs::read_to_string(self.site.path().join("snmptrapd/received")).unwrap_or_default();
        let traps = snmp.lines().filter(|line| line.contains(&label)).count();
        let syslog = fs::read_to_string(self.site.path().join("rsyslog/received")).unwrap_or_default();
        let lines = syslog.lines().filter(|line| line.contains(&label)).count();
        let printed = self.printed();
        let printed = printed.iter().filter(|told| told["commonLabels"]["site"] == *place).count();
        [mails, traps, lines, printed]
    }

    /// What the program was given, each time.
    fn printed(&self) -> Vec<Value> {
        let files =
            fs::read_dir(self.site.path()).expect("readable").map(|file| file.expect("a file").path());
        let is_told = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
        // One that is being written is not whole yet.
        let read = |path: PathBuf| serde_json::from_str(&fs::read_to_string(path).expect("readable")).ok();
        files.filter(is_told).filter_map(read).collect()
    }
}

#[test]
fn one_alert_reaches_mail_manager_syslog_and_program_and_is_followed_to_each() {
    let (four, server) = Four::start();
    four.send("boston");
    let rows = four.until_told("boston", &ACTIONS);

    let mail = four.postfix.until_mails(1).remove(0);
    assert_eq!(mail.recipient(), "secops@example.com");
    assert_eq!(mail.header("subject"), "[FIRING] Virus Found, critical: site=boston");
    assert!(mail.text.contains("EICAR in invoice.doc") && mail.html.contains("EICAR in invoice.doc"));
    let snmptrapd = four.snmptrapd.as_ref().expect("runs");
    let inform = snmptrapd.messages("INFORM, SNMP v2c, community example", 1).remove(0);
    assert_eq!(inform.trap(), "AMS2-MIB::ams2AlertFiring");
    assert_eq!(inform.value("ams2Severity"), "INTEGER: critical(3)");
    assert_eq!(inform.value("ams2Summary"), "STRING: EICAR in invoice.doc");
    let rsyslog = four.rsyslog.as_ref().expect("runs");
    let line = until("rsyslog writes it", || rsyslog.messages("local0", "Virus_Found").pop());
    assert_eq!((line[1].as_str(), line[3].as_str(), line[5].as_str()), ("alert", "ams2", "1"), "{line:?}");
    assert!(line[6].contains(" site=\"boston\"") && line[7].contains("EICAR in invoice.doc"), "{line:?}");
    let told = until("the program was given it", || four.printed().pop());
    assert_eq!(told["alerts"][0]["labels"]["event"], "Virus Found");
    assert_eq!(told["alerts"][0]["annotations"]["summary"], "EICAR in invoice.doc");
    // Each of them once, and each names the delivery by which the router knows it.
    until_true("rsyslog has it once", || four.counts("boston") == [1; 4]);
    let id = |row: usize| rows[row]["id"].as_str().expect("an id").to_owned();
    assert_eq!(mail.id(), format!("<{}@example.com>", id(0)));
    assert!(inform.value("ams2DeliveryId").contains(&id(1)), "{inform:?}");
    assert!(line[6].contains(&format!("delivery=\"{}\"", id(2))), "{line:?}");

    // The far ends' own words.
    let actions: Vec<&str> = rows.iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(actions, ACTIONS);
    let words = |row: usize| (rows[row]["state"].as_str(), rows[row]["reply"].as_str().unwrap_or_default());
    assert!(matches!(words(0), (Some("delivered"), words) if words.starts_with("250 2.0.0 Ok: queued as ")));
    let answered = format!("127.0.0.1:{} answered", four.snmp_port);
    assert_eq!(words(1), (Some("delivered"), answered.as_str()));
    // TCP says that it arrived there, not that it was written.
    assert_eq!(words(2), (Some("sent"), ""));
    assert!(matches!(words(3), (Some("delivered"), words) if words.contains("printed ")), "{rows:?}");
    for row in &rows {
        assert_eq!(
            (&row["attempts"], &row["alerts"], &row["labels"]["site"]),
            (&json!(1), &json!(1), &json!("boston"))
        );
    }
    // The same as a table, and for those who ask for what waits: nothing does.
    let table = four.site.client(&["query", "deliveries", "--state", "done", "site=boston"]).ends(0).stdout;
    for part in
        ["delivered", "sent", "nobody will confirm", "250 2.0.0 Ok: queued as", &answered, "Virus Found"]
    {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    four.site.client(&["query", "deliveries"]).ends(0).says("nothing to show");
    four.site.client(&["query", "alerts", "--state", "done"]).ends(2).says("only deliveries");

    // Its end is told to all four, too.
    four.site
        .client(&["send", "Virus Found", "-l", "site=boston", "--severity", "critical", "--resolve"])
        .ends(0);
    until_true("the end arrives everywhere", || four.counts("boston") == [2; 4]);
    let ended =
        four.postfix.mails().into_iter().filter(|mail| mail.header("x-ams2-state") == "resolved").count();
    assert_eq!(ended, 1);
    server.until_quiet();
}

/// Takes one away, sends, sees that the others are told while it waits, brings it back, and sees that it is told.
fn while_it_is_away(four: &mut Four, place: &str, action: &str, words: &str, back: impl FnOnce(&mut Four)) {
    four.send(place);
    let others: Vec<&str> = ACTIONS.into_iter().filter(|other| *other != action).collect();
    four.until_told(place, &others);
    // Not only have the three been told by now: the fourth has been tried, and says why it waits.
    let waits = until(&format!("{action} is tried"), || {
        let mut rows = four.deliveries(place).into_iter();
        rows.find(|row| row["action"] == action && row["attempts"] != 0 && row["state"] == "waiting")
    });
    assert!(waits["last_failure"].as_str().is_some_and(|why| why.contains(words)), "{words}: {waits}");
    let position = ACTIONS.iter().position(|known| *known == action).expect("one of the four");
    let mut told = [1; 4];
    told[position] = 0;
    until_true("the three have it, and once", || four.counts(place) == told);
    back(four);
    let rows = four.until_told(place, &ACTIONS);
    assert_eq!(rows[position]["id"], waits["id"], "the same delivery");
    until_true("all four have it, and once", || four.counts(place) == [1; 4]);
}

#[test]
fn with_each_of_the_four_away_in_turn_the_others_are_told_at_once_and_it_when_it_is_back() {
    let (mut four, server) = Four::start();
    four.postfix.kill();
    while_it_is_away(&mut four, "away-mail", MAIL, "Connection refused", |four| four.postfix.start_again(""));

    four.snmptrapd = None;
    while_it_is_away(&mut four, "away-manager", TRAP, "no answer", |four| {
        four.snmptrapd = Some(Snmptrapd::start(&four.site, four.snmp_port, ""));
    });

    four.rsyslog = None;
    while_it_is_away(&mut four, "away-syslog", SYSLOG, "refused", |four| {
        four.rsyslog = Some(Rsyslog::start(&four.site, four.syslog_port));
    });

    let busy = four.site.path().join("busy");
    fs::write(&busy, "").expect("written");
    while_it_is_away(&mut four, "away-program", PROGRAM, "exit code 75: the printer is out of paper", |_| {
        fs::remove_file(busy).expect("removed");
    });
    server.until_quiet();
    assert_eq!(server.get("/api/v1/deliveries?state=dead").json(), json!([]));
}

/// A program that is not there will not be there in a second either: a dead letter at once, until somebody has put it back.
#[test]
fn with_the_program_missing_the_others_are_told_and_it_when_an_operator_says_so() {
    let (four, server) = Four::start();
    let place = "no-program";
    let (program, aside) = (four.site.path().join("tool"), four.site.path().join("aside"));
    fs::copy("/bin/true", &program).expect("copied");
    let text = fs::read_to_string(four.site.config()).expect("readable");
    let command = format!("[/bin/sh, {}/print]", four.site.path().display());
    assert!(text.contains(&command), "{text}");
    four.site.configure(&text.replace(&command, &format!("['{}']", program.display())));
    four.site.client(&["reload"]).ends(0);
    fs::rename(&program, &aside).expect("moved");
    four.send(place);
    four.until_told(place, &[MAIL, TRAP, SYSLOG]);
    let dead = until("the program's is given up", || {
        four.deliveries(place).into_iter().find(|row| row["state"] == "dead")
    });
    assert_eq!(dead["action"], PROGRAM);
    assert!(dead["dead_reason"].as_str().is_some_and(|why| why.contains("No such file")), "{dead}");
    fs::rename(&aside, &program).expect("moved");
    four.site.client(&["delivery", "retry", dead["id"].as_str().expect("an id")]).ends(0);
    four.until_told(place, &ACTIONS);
    server.until_quiet();
}
