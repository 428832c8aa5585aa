//! Forwarding: what waited at a client drains to its parent, counted on the wire; and a client at rest.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    parts::{Ams2, Running, free_port, post_all, until},
    row,
};

/// Alerts that wait: of the normal run, and of the long one.
const WAITING: usize = 100_000;
const WAITING_LONG: usize = 1_000_000;

/// What a client hands on, and to where.
fn config(parent: u16) -> String {
    format!(
        "receivers: [{{name: up, actions: [{{forward: {{to: ['http://127.0.0.1:{parent}']}}}}]}}]
route: {{receiver: up, notify: each}}
"
    )
}

/// Passes connections on to a server, and counts what goes over them both ways.
struct Wire {
    bytes: Arc<AtomicU64>,
}

impl Wire {
    fn between(port: u16, server: SocketAddr) -> Wire {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = bytes.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let ends = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
                    let (from, to) = ends.expect("both ends");
                    let counter = counter.clone();
                    std::thread::spawn(move || carry(from, to, &counter));
                }
            }
        });
        Wire { bytes }
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64) {
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side is gone already, or hears of it now.
    drop(to.shutdown(Shutdown::Write));
}

/// The section.
pub fn forward() {
    let port = free_port();
    let client = Ams2::with(&config(port));
    std::thread::sleep(Duration::from_secs(3));
    row("a client at rest", format!("{:.1} MB", client.resident_mb()), "", String::new(), "at most 12 MB");
    let count = if std::env::args().any(|argument| argument == "--long") { WAITING_LONG } else { WAITING };
    post_all(client.address(), client.path(), count);
    let held = client.resident_mb();
    let parent = Ams2::default_config();
    let wire = Wire::between(port, parent.address());
    until("the client tries again", || (wire.bytes() > 0).then_some(()));
    let begun = Instant::now();
    let pending = "ams2_action_pending{action=\"up/forward/0\"} ";
    until("all is handed on", || (client.metric(pending)? == 0).then_some(()));
    let took = begun.elapsed().as_secs_f64();
    // It answers once they are on its disk, and may still be busy with what they are.
    until("each is there, once", || {
        let arrived = parent.metric("ams2_alerts_arrived_total ")?;
        let twice = parent.metric("ams2_alerts_duplicate_id_total ").unwrap_or(0);
        (arrived - twice >= count as u64).then_some(())
    });
    let rate = count as f64 / took;
    row(
        &format!("{count} alerts that waited drain"),
        format!("{rate:.0} alerts/s"),
        "",
        String::new(),
        "at least 20,000",
    );
    let each = wire.bytes() as f64 / count as f64;
    row("on the wire, an alert", format!("{each:.1} bytes"), "", String::new(), "at most 40");
    row("memory of the client while they wait", format!("{held:.0} MB"), "", String::new(), "");
}
