//! Alertmanager's API beside Alertmanager: long lists, the first notification of a lone alert, and what it takes to tell
//! fifty thousand.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};

use super::{
    ROUNDS,
    parts::{Ams2, Peer, Running, Sink, alerts, post, post_all, until},
    row,
};

/// Alerts in the lists, and in what is told.
const MANY: usize = 50_000;
/// Lone alerts that are told one after the other.
const LONE: usize = 300;

/// `GET` of fifty thousand alerts: how long, and what a client that posts meanwhile notices of it.
pub fn query() {
    let sink = Sink::start();
    let ams2 = Ams2::grouped();
    let peer = Peer::start(sink.port());
    post_all(ams2.address(), ams2.path(), MANY);
    post_all(peer.address(), peer.path(), MANY);
    for path in ["/api/v2/alerts", "/api/v2/alerts/groups"] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first one warms caches; groups are there after group_wait.
        until("the groups are there", || (read(ams2.address(), path).1 > 10_000_000).then_some(()));
        until("the groups are there", || (read(peer.address(), path).1 > 10_000_000).then_some(()));
        for _ in 0..ROUNDS {
            ours.push(read(ams2.address(), path));
            theirs.push(read(peer.address(), path));
        }
        let (ours, theirs) = (best(&ours), best(&theirs));
        row(
            &format!("GET {path}, 50,000 alerts"),
            format!("{:.2} s, {:.1} MB", ours.0.as_secs_f64(), ours.1 as f64 / 1e6),
            &format!("{:.2} s, {:.1} MB", theirs.0.as_secs_f64(), theirs.1 as f64 / 1e6),
            format!("{:.1}", theirs.0.as_secs_f64() / ours.0.as_secs_f64()),
            "at least 5 times faster",
        );
    }
    for (name, address, post_path) in
        [("ams2", ams2.address(), ams2.path()), ("peer", peer.address(), peer.path())]
    {
        let alone = longest_post(address, post_path, || std::thread::sleep(Duration::from_secs(2)));
        let beside = longest_post(address, post_path, || {
            for _ in 0..ROUNDS {
                read(address, "/api/v2/alerts");
            }
        });
        let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        row(
            &format!("{name}: longest POST beside three of those GETs (alone)"),
            format!("{} ({})", shown(beside), shown(alone)),
            "",
            String::new(),
            "",
        );
    }
}

fn best(times: &[(Duration, usize)]) -> (Duration, usize) {
    *times.iter().min().expect("there are rounds")
}

/// Reads a whole answer: how long it took, and how many bytes it has.
fn read(address: SocketAddr, path: &str) -> (Duration, usize) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let (mut piece, mut bytes) = (vec![0; 256 << 10], 0);
    loop {
        match stream.read(&mut piece).expect("it answers") {
            0 => return (began.elapsed(), bytes),
            count => bytes += count,
        }
    }
}

/// The longest of the posts of one alert each that are answered while `meanwhile` runs.
fn longest_post(address: SocketAddr, path: &'static str, meanwhile: impl FnOnce()) -> Duration {
    let (stop, stopped) = mpsc::channel::<()>();
    let poster = std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        let mut number = 1_000_000;
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let began = Instant::now();
            post(address, path, &alerts(number..number + 1));
            longest = longest.max(began.elapsed());
            number += 1;
        }
        longest
    });
    meanwhile();
    stop.send(()).expect("it listens");
    poster.join().expect("no panic")
}

/// A web hook that tells when each request came.
struct Hook {
    port: u16,
    came: mpsc::Receiver<(Instant, usize)>,
}

impl Hook {
    fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (sender, came) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || hook(stream, &sender));
            }
        });
        Hook { port, came }
    }
}

/// Answers each request, and says how many alerts it told of.
fn hook(mut stream: TcpStream, came: &mpsc::Sender<(Instant, usize)>) {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 256 << 10]);
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..count]);
        while let Some(whole) = super::parts::request_bytes(&bytes) {
            let alerts = bytes[..whole].windows(15).filter(|part| part == b"\"fingerprint\":\"").count();
            bytes.drain(..whole);
            let gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err();
            if gone || came.send((Instant::now(), alerts)).is_err() {
                return;
            }
        }
    }
}

fn ours(hook: u16, group_by: &str, routes: usize) -> String {
    let routes: String =
        (0..routes).map(|number| format!("    - {{matchers: ['team=\"team{number}\"']}}\n")).collect();
    let routes = if routes.is_empty() { String::new() } else { format!("  routes:\n{routes}") };
    format!(
        "receivers:\n  - name: hook\n    actions: [{{webhook: {{url: 'http://127.0.0.1:{hook}/'}}}}]\nroute:\n  receiver: hook\n  group_by: [{group_by}]\n  group_wait: 0s\n  group_interval: 1s\n{routes}"
    )
}

fn theirs(hook: u16, group_by: &str, routes: usize) -> String {
    let routes: String = (0..routes)
        .map(|number| format!("    - {{receiver: hook, matchers: ['team=\"team{number}\"']}}\n"))
        .collect();
    let routes = if routes.is_empty() { String::new() } else { format!("  routes:\n{routes}") };
    format!(
        "receivers:\n  - name: hook\n    webhook_configs: [{{url: 'http://127.0.0.1:{hook}/'}}]\nroute:\n  receiver: hook\n  group_by: [{group_by}]\n  group_wait: 0s\n  group_interval: 1s\n{routes}"
    )
}

/// From the POST of a lone alert to the web hook, with `group_wait: 0s`.
pub fn first() {
    let measure = |side: &dyn Running, hook: &Hook| {
        let mut times: Vec<Duration> = (0..LONE)
            .map(|number| {
                let body = alerts(number..number + 1);
                let began = Instant::now();
                post(side.address(), side.path(), &body);
                let (came, _) = hook.came.recv_timeout(Duration::from_secs(10)).expect("it is told");
                came.saturating_duration_since(began)
            })
            .collect();
        times.sort();
        (times[LONE / 2], times[LONE * 99 / 100])
    };
    let (our_hook, their_hook) = (Hook::start(), Hook::start());
    let ams2 = Ams2::with(&ours(our_hook.port, "computer", 0));
    let peer = Peer::with(&theirs(their_hook.port, "computer", 0));
    // What ams2 says of its own start comes first.
    while our_hook.came.recv_timeout(Duration::from_secs(2)).is_ok() {}
    let (our_p50, our_p99) = measure(&ams2, &our_hook);
    let (their_p50, their_p99) = measure(&peer, &their_hook);
    let shown = |p50: Duration, p99: Duration| {
        format!("p50 {:.2} ms, p99 {:.2} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
    };
    row(
        "POST of a lone alert until the web hook has it",
        shown(our_p50, our_p99),
        &shown(their_p50, their_p99),
        format!(
            "{:.2}, {:.2}",
            our_p50.as_secs_f64() / their_p50.as_secs_f64(),
            our_p99.as_secs_f64() / their_p99.as_secs_f64()
        ),
        "at most 1",
    );
}

/// Processor time from the first POST until a web hook has seen fifty thousand alerts of 150 groups.
pub fn told() {
    for (routes, wanted) in [(0, "at most 0.33"), (10_000, "at most 0.1")] {
        let measure = |side: &dyn Running, hook: &Hook| {
            let before = side.cpu_seconds();
            post_all(side.address(), side.path(), MANY);
            // A group is told whole at each of its turns: the one that ends with all of them counts.
            let mut quiet = 0;
            while quiet < 3 {
                match hook.came.recv_timeout(Duration::from_secs(1)) {
                    Ok(_) => quiet = 0,
                    Err(_) => quiet += 1,
                }
            }
            side.cpu_seconds() - before
        };
        let (our_hook, their_hook) = (Hook::start(), Hook::start());
        let ams2 = Ams2::with(&ours(our_hook.port, "event, site", routes));
        let peer = Peer::with(&theirs(their_hook.port, "event, site", routes));
        while our_hook.came.recv_timeout(Duration::from_secs(2)).is_ok() {}
        let (our_cpu, their_cpu) = (measure(&ams2, &our_hook), measure(&peer, &their_hook));
        row(
            &format!("50,000 alerts told to a web hook, {routes} routes: processor time"),
            format!("{our_cpu:.2} s"),
            &format!("{their_cpu:.2} s"),
            format!("{:.2}", our_cpu / their_cpu),
            wanted,
        );
    }
}
