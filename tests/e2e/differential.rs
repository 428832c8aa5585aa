//! Beside Debian's Alertmanager: seeded scripts of alerts, ends, silences and reloads are played to it and to us, with the
//! same alertmanager.yml, and what both tell their web hooks must be the same. What may differ, and why, is in
//! docs/alertmanager.md; `compare` allows exactly that.
//!
//! Alertmanager's timers are real. Its turns come at half beats, because every script posts on the beat and waits half a
//! beat (`group_wait`), and a step is played when both sides have been quiet for longer than a turn: so whatever a step
//! leads to belongs to it on both sides. Where a slow machine spoils that, the script is played again.
//!
//! `AMS2_DIFF_SEED=n` plays one script alone; `AMS2_TEST_LONG=1` plays 200 instead of 20.

mod compare;
mod config;
mod script;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    harness::*,
    webhook::{Asked, Sink, free_port, ok},
};
use compare::{Told, compare, shown};
use config::{Config, Matcher};
use script::{Alert, Does, Moment, Posted, Script};

/// Steps are played at multiples of this after the start.
const BEAT: Duration = Duration::from_secs(1);
/// Longer than a turn by this: then nothing more comes.
const QUIET: Duration = Duration::from_millis(600);
/// A step that is later than this behind its beat waits for the next.
const LATE: Duration = Duration::from_millis(100);
/// Scripts that are played at the same time.
const PAIRS: usize = 8;
/// How often a script is played before a difference is believed.
const PLAYS: usize = 3;

/// One of the two.
struct Side {
    name: &'static str,
    address: SocketAddr,
    config: std::path::PathBuf,
    url: String,
    /// Ids of the silences that the script made, in order.
    silences: Vec<String>,
}

impl Side {
    fn write(&self, config: &Config) {
        fs::write(&self.config, config.text(&self.url)).expect("written");
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json")];
        let answer = Connection::tcp(self.address)
            .and_then(|mut connection| connection.call(method, path, &headers, body.as_bytes()));
        answer.unwrap_or_else(|error| panic!("{}: {method} {path}: {error}", self.name))
    }

    /// Plays a step; what was answered, as far as it must be the same.
    fn play(&mut self, script: &Script, does: &Does, moments: &[jiff::Timestamp]) -> Vec<String> {
        let at = |moment: Moment| {
            let offset = jiff::SignedDuration::from_millis(moment.offset_ms);
            (moments[moment.step] + offset).to_string()
        };
        let json = |posted: &Posted| {
            let Alert { labels, .. } = &script.alerts[posted.alert];
            let mut alert = json!({
                "labels": labels,
                "annotations": { "summary": format!("summary {}", posted.summary), "runbook": "http://wiki.example.com/a?b=c&d" },
                "generatorURL": "http://prometheus.example.com/graph?g0.expr=up",
            });
            for (key, moment) in [("startsAt", posted.starts), ("endsAt", posted.ends)] {
                if let Some(moment) = moment {
                    alert[key] = json!(at(moment));
                }
            }
            alert
        };
        let post = |side: &Side, alerts: Vec<Value>| {
            side.call("POST", "/api/v2/alerts", &Value::Array(alerts).to_string()).status.to_string()
        };
        match does {
            Does::Post(requests) => {
                requests.iter().map(|request| post(self, request.iter().map(json).collect())).collect()
            }
            Does::PostWithInvalid(request) => {
                let mut alerts: Vec<Value> = request.iter().map(json).collect();
                alerts.insert(alerts.len() / 2, json!({ "labels": { "empty": "" } }));
                vec![post(self, alerts)]
            }
            Does::Again(posted) => vec![post(self, vec![json(posted)])],
            Does::Silence(matchers, for_ms) => {
                let now = *moments.last().expect("a step is played");
                let ends = now + jiff::SignedDuration::from_millis(*for_ms);
                let silence = json!({
                    "matchers": silence_matchers(matchers), "startsAt": now.to_string(), "endsAt": ends.to_string(),
                    "createdBy": "ann", "comment": "works",
                });
                vec![self.make_silence(&silence, None)]
            }
            Does::Expire(number) => {
                vec![
                    self.call("DELETE", &format!("/api/v2/silence/{}", self.silences[*number]), "")
                        .status
                        .to_string(),
                ]
            }
            Does::Extend(number) | Does::Replace(number, _) => {
                let id = &self.silences[*number];
                let mut silence = self.call("GET", &format!("/api/v2/silence/{id}"), "").is(200).json();
                let ends = *moments.last().expect("a step is played") + jiff::SignedDuration::from_hours(2);
                silence["endsAt"] = json!(ends.to_string());
                if let Does::Replace(_, matchers) = does {
                    silence["matchers"] = silence_matchers(matchers);
                }
                vec![self.make_silence(&silence, Some(*number))]
            }
            Does::Reload(config) => {
                self.write(config);
                vec![self.call("POST", "/-/reload", "").status.to_string()]
            }
            Does::ReloadBroken => {
                let broken = "route: { receiver: nobody }\nreceivers: [{ name: all }]\n";
                fs::write(&self.config, broken).expect("written");
                vec![self.call("POST", "/-/reload", "").status.to_string()]
            }
        }
    }

    /// Makes a silence, or has one make way for it: the status, and whether the id is a new one.
    fn make_silence(&mut self, silence: &Value, instead: Option<usize>) -> String {
        let answer = self.call("POST", "/api/v2/silences", &silence.to_string());
        let id = answer.json()["silenceID"].as_str().unwrap_or_default().to_owned();
        let how = if self.silences.contains(&id) { "in place" } else { "anew" };
        match instead {
            Some(number) => self.silences[number] = id,
            None => self.silences.push(id),
        }
        format!("{} {how}", answer.status)
    }

    /// What it says of the alerts there are: state, who holds them, who is told.
    fn alerts(&self) -> Vec<String> {
        let alerts = self.call("GET", "/api/v2/alerts", "").is(200).json();
        let count = |value: &Value| value.as_array().map_or(0, Vec::len);
        let line = |alert: &Value| {
            let status = &alert["status"];
            let receivers = alert["receivers"].as_array().into_iter().flatten();
            let receivers: BTreeSet<&str> = receivers.filter_map(|one| one["name"].as_str()).collect();
            format!(
                "{} {} silenced by {} inhibited by {} for {receivers:?}: {}",
                alert["labels"],
                status["state"],
                count(&status["silencedBy"]),
                count(&status["inhibitedBy"]).min(1),
                alert["annotations"],
            )
        };
        let own = |alert: &&Value| alert["labels"]["source"] == "ams2";
        let mut lines: Vec<String> =
            alerts.as_array().into_iter().flatten().filter(|alert| !own(alert)).map(line).collect();
        lines.sort();
        lines
    }
}

fn silence_matchers(matchers: &[Matcher]) -> Value {
    let matcher = |matcher: &Matcher| json!({ "name": matcher.name, "value": matcher.value(), "isRegex": matcher.is_regex(), "isEqual": matcher.is_equal() });
    matchers.iter().map(matcher).collect()
}

/// A script that is being played.
struct Play<'a> {
    script: &'a Script,
    sink: Sink,
    sides: [Side; 2],
    started: Instant,
    moments: Vec<jiff::Timestamp>,
    /// What was told by the end of the step before, for the comparison after a reload.
    told: [Told; 2],
}

impl Play<'_> {
    /// Waits until nothing more can come, and then for the next beat or the middle between two. What was told meanwhile.
    fn until_quiet(&self, heard: usize, since: Instant, at_turn: bool) -> Vec<Asked> {
        let turn = Duration::from_millis(self.script.interval_ms());
        let (mut all, mut since, mut last) = (Vec::new(), since, BTreeMap::new());
        until_true("both are quiet", || {
            for asked in self.sink.since(heard + all.len()) {
                // What is only repeated may go on for ever.
                if last.insert((asked.path.clone(), compare::group(&asked)), asked.body.clone()).as_ref()
                    != Some(&asked.body)
                {
                    since = since.max(Instant::now());
                }
                all.push(asked);
            }
            since.elapsed() > turn + QUIET
        });
        let half = if at_turn { BEAT / 2 } else { Duration::ZERO };
        until_true("the beat comes", || {
            (self.started.elapsed() + BEAT - half).as_nanos() % BEAT.as_nanos() < LATE.as_nanos()
        });
        all.extend(self.sink.since(heard + all.len()));
        all
    }

    /// Plays the script; the first difference, if there is one.
    fn play(&mut self) -> Result<(), String> {
        let steps = &self.script.steps;
        let mut heard = 0;
        for (number, step) in steps.iter().enumerate() {
            let played = Instant::now();
            // They keep milliseconds, all of it.
            let now =
                jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond()).expect("a time");
            self.moments.push(now);
            let moments = self.moments.clone();
            let answers = self.sides.each_mut().map(|side| side.play(self.script, &step.does, &moments));
            if answers[0] != answers[1] {
                return Err(format!(
                    "step {number}: answers: ours {:?}, theirs {:?}",
                    answers[0], answers[1]
                ));
            }
            let next_at_turn = steps.get(number + 1).is_some_and(|next| next.is_at_turn());
            let asked = self.until_quiet(heard, played + Duration::from_millis(step.due_ms), next_at_turn);
            heard += asked.len();
            let alerts = self.sides.each_ref().map(Side::alerts);
            let is_reload = matches!(step.does, Does::Reload(_));
            let told = self.sides.each_ref().map(|side| Told::new(self.script, side.name, &asked));
            let same = compare(&told, &self.told, is_reload.then_some(now));
            if !same || alerts[0] != alerts[1] {
                let [ours, theirs] = &alerts;
                let differ =
                    ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("ours: {line}\n"));
                let differ = differ.chain(
                    theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("theirs: {line}\n")),
                );
                let differ: String = differ.collect();
                return Err(format!("step {number}: {:?}\n{}{differ}", step.does, shown(&told)));
            }
            for (known, new) in self.told.iter_mut().zip(told) {
                known.add(new);
            }
        }
        Ok(())
    }
}

/// Starts both and plays the script to them.
fn play(script: &Script) -> Result<(), String> {
    let sink = Sink::start(ok);
    let site = Site::new("");
    let side = |name: &'static str, port: u16| Side {
        name,
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        config: site.path().join(format!("{name}.yml")),
        url: format!("http://{}/{name}", sink.address),
        silences: Vec::new(),
    };
    let mut sides = [side("ours", 0), side("theirs", free_port())];
    sides.iter().for_each(|side| side.write(&script.config));
    let mut command = Command::new("prometheus-alertmanager");
    clean(&mut command);
    command
        .arg(format!("--config.file={}", sides[1].config.display()))
        .arg(format!("--storage.path={}", site.path().join("alertmanager").display()))
        .arg(format!("--web.listen-address={}", sides[1].address))
        .arg("--cluster.listen-address=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(site.path().join("theirs.log")).expect("a log"));
    let _theirs = Ward(command.spawn().expect("it runs (Debian package prometheus-alertmanager)"));
    let mut command = ams2();
    command.args(["serve", "--listen", "127.0.0.1:0", "--alertmanager-config"]);
    command.arg(&sides[0].config).arg("--data").arg(site.data());
    let server = site.start_as(command);
    sides[0].address = server.address();
    until_true("Alertmanager answers", || {
        Connection::tcp(sides[1].address)
            .and_then(|mut connection| connection.call("GET", "/-/ready", &[], b""))
            .is_ok_and(|answer| answer.status == 200)
    });
    let (started, moments) = (Instant::now(), Vec::new());
    Play { script, sink, sides, started, moments, told: Default::default() }.play()
}

/// Plays a script up to [`PLAYS`] times: how often it took until both told the same, or how they differ.
fn plays(script: &Script) -> Result<usize, String> {
    let mut last = String::new();
    for number in 1..=PLAYS {
        match play(script) {
            Ok(()) => return Ok(number),
            Err(difference) => {
                eprintln!("seed {}, play {number}: {}", script.seed, difference.lines().next().unwrap_or(""));
                last = difference;
            }
        }
    }
    Err(last)
}

#[test]
fn debians_alertmanager_and_we_tell_the_same() {
    let (first, count) = match number_from_env("AMS2_DIFF_SEED") {
        Some(seed) => (seed, 1),
        None if number_from_env("AMS2_TEST_LONG").is_some() => (1, 200),
        None => (1, 20),
    };
    let (next, again) = (AtomicU64::new(first), AtomicUsize::new(0));
    let worker = || {
        let mut differences = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return differences;
            }
            let script = Script::new(seed);
            match plays(&script) {
                Ok(plays) => drop(again.fetch_add(plays - 1, Ordering::Relaxed)),
                Err(difference) => differences.push(format!("AMS2_DIFF_SEED={seed}\n{script}\n{difference}")),
            }
        }
    };
    let differences: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PAIRS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it does not panic")).collect()
    });
    assert!(
        differences.is_empty(),
        "{} of {count} scripts differ\n{}",
        differences.len(),
        differences.join("\n")
    );
    let again = again.into_inner();
    eprintln!("{count} scripts, {again} plays more because of the machine");
    assert!(again as u64 <= count.div_ceil(4), "{again} plays differed and did not the next time: a race");
}
