//! `kill -9` at random moments under load: what was answered 2xx is told or kept as a dead letter, whatever the moment.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::harness::*;

/// Kills in all, and with AMS2_TEST_LONG.
const KILLS: u64 = 200;
const KILLS_LONG: u64 = 1000;
/// Folders that are worked on side by side.
const FOLDERS: u64 = 4;
/// Clients of each server over TCP, and over the socket.
const TCP_CLIENTS: u64 = 3;
const SOCKET_CLIENTS: u64 = 1;
/// Longest time between the first client's start and the kill.
const LOAD_MICROS_MAX: u64 = 60_000;
/// Label sets, so that the state stays small while occurrences are many.
const LABEL_SETS: u64 = 40;

#[derive(Debug, Default)]
struct Figures {
    kills: u64,
    answered: u64,
    duplicated: u64,
    dead_letters: u64,
}

/// Lines of the event log by alert id, read as the log grows.
#[derive(Default)]
struct Told {
    offset: u64,
    part: String,
    times: HashMap<String, u64>,
}

impl Told {
    fn read(&mut self, site: &Site) {
        let Ok(mut file) = File::open(site.data().join("events.log")) else { return };
        file.seek(SeekFrom::Start(self.offset)).expect("seekable");
        let mut new = String::new();
        self.offset += file.read_to_string(&mut new).expect("readable") as u64;
        self.part.push_str(&new);
        let whole = self.part.rfind('\n').map_or(0, |end| end + 1);
        for line in self.part.drain(..whole).collect::<String>().lines() {
            if let Some(id) = line.split(' ').find_map(|field| field.strip_prefix("summary=")) {
                *self.times.entry(id.to_owned()).or_default() += 1;
            }
        }
    }
}

/// One client: posts until told to stop or until the server is gone, and notes what was answered.
fn client(
    mut connection: Connection,
    name: &str,
    dice: &mut Dice,
    stop: &AtomicBool,
    answered: &Mutex<Vec<String>>,
) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let ids: Vec<String> = (0..=dice.below(3)).map(|part| format!("{name}-{number}-{part}")).collect();
        let alerts: Vec<serde_json::Value> = ids
            .iter()
            .map(|id| {
                serde_json::json!({
                    "id": id,
                    "labels": { "event": "Load", "set": dice.below(LABEL_SETS).to_string() },
                    // The log shows it: the id of this very occurrence.
                    "annotations": { "summary": id, "padding": "x".repeat(dice.below(4000) as usize) },
                })
            })
            .collect();
        let body = serde_json::Value::from(alerts).to_string();
        match connection.call("POST", "/api/v1/alerts", &[], body.as_bytes()) {
            Ok(answer) if (200..300).contains(&answer.status) => {
                answered.lock().expect("no panic").extend(ids);
            }
            // Refused for now: not accepted, so not counted.
            Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{}", answer.text()),
            Err(_) => return,
        }
    }
}

/// Load on one server until it is killed at a moment that the dice choose. Gives what was answered 2xx.
fn load_and_kill(server: Server, cycle: &str, dice: &mut Dice) -> Vec<String> {
    let answered = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let moment = Duration::from_micros(dice.below(LOAD_MICROS_MAX));
    std::thread::scope(|scope| {
        for number in 0..TCP_CLIENTS + SOCKET_CLIENTS {
            let connection = match number < TCP_CLIENTS {
                true => Connection::tcp(server.address()),
                false => Connection::unix(server.socket.as_deref().expect("a socket")),
            };
            let connection = connection.expect("it listens");
            let mut dice = dice.fork();
            let (stop, answered) = (&stop, &answered);
            let name = format!("{cycle}-{number}");
            scope.spawn(move || client(connection, &name, &mut dice, stop, answered));
        }
        // The moment of the kill is what this test is about; nothing waits for it.
        std::thread::sleep(moment);
        server.kill();
        stop.store(true, Ordering::Relaxed);
    });
    answered.into_inner().expect("no panic")
}

/// Everything answered so far is in the log, after dead letters were tried again.
fn check(site: &Site, server: &Server, answered: &[String], told: &mut Told, figures: &mut Figures) {
    server.until_quiet();
    let dead = server.get("/api/v1/deliveries?state=dead").json().as_array().map_or(0, Vec::len) as u64;
    if dead > 0 {
        figures.dead_letters += dead;
        server.call("POST", "/api/v1/deliveries/retry", "{\"all_dead\":true}").is(200);
        server.until_quiet();
    }
    told.read(site);
    let lost: Vec<&String> = answered.iter().filter(|id| !told.times.contains_key(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} answered alerts are lost: {lost:?}\n{}",
        lost.len(),
        answered.len(),
        site.log()
    );
}

fn folder(number: u64, kills: u64, dice: &mut Dice) -> Figures {
    let site = Site::new(SMALL_SEGMENTS);
    let mut figures = Figures::default();
    let mut told = Told::default();
    let mut answered = Vec::new();
    while figures.kills < kills {
        if dice.below(4) == 0 {
            // Sometimes it is killed on its way up, whatever it does there.
            let starting = site.spawn(site.serve());
            std::thread::sleep(Duration::from_micros(dice.below(LOAD_MICROS_MAX)));
            starting.kill();
            figures.kills += 1;
        }
        let server = site.start();
        check(&site, &server, &answered, &mut told, &mut figures);
        answered = load_and_kill(server, &format!("{number}-{}", figures.kills), dice);
        figures.kills += 1;
        figures.answered += answered.len() as u64;
        if dice.below(10) == 0 {
            // An orderly end now and then leaves a snapshot, from which the next start goes on.
            let server = site.start();
            let status = server.terminate();
            assert!(status.success(), "{status}\n{}", site.log());
        }
    }
    let server = site.start();
    check(&site, &server, &answered, &mut told, &mut figures);
    figures.duplicated = told.times.values().map(|times| times - 1).sum();
    figures
}

#[test]
fn nothing_answered_is_missing_after_200_kills_at_random_moments_under_load() {
    let wanted = if std::env::var_os("AMS2_TEST_LONG").is_some() { KILLS_LONG } else { KILLS };
    let mut dice = Dice::new("kill -9 under load");
    let kills = AtomicU64::new(0);
    let all = std::thread::scope(|scope| {
        let folders: Vec<_> = (0..FOLDERS)
            .map(|number| {
                let mut dice = dice.fork();
                let kills = &kills;
                scope.spawn(move || {
                    let figures = folder(number, wanted / FOLDERS, &mut dice);
                    kills.fetch_add(figures.kills, Ordering::Relaxed);
                    figures
                })
            })
            .collect();
        folders.into_iter().map(|folder| folder.join().expect("no loss")).collect::<Vec<_>>()
    });
    let sum = |of: fn(&Figures) -> u64| all.iter().map(of).sum::<u64>();
    let (answered, duplicated, dead) = (sum(|f| f.answered), sum(|f| f.duplicated), sum(|f| f.dead_letters));
    let kills = kills.into_inner();
    eprintln!("kills={kills} answered={answered} lost=0 duplicated={duplicated} dead_letters_retried={dead}");
    assert!(kills >= wanted && answered > wanted, "too little happened: {kills} kills, {answered} answered");
}
