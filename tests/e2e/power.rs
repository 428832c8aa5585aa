//! The power goes: a file system of its own is shut down without a last flush (the ioctl that ext4 has for such tests), so
//! that what was not synced is lost. What was answered 2xx is known after the next start.
//!
//! The event log is not looked at: Linux may answer a sync of a file that grows with success while this call takes the
//! power (plain writes and syncs beside the call show it, without us). The journal overwrites what it allocated before.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::harness::*;

/// Power cuts in all, and with AMS2_TEST_LONG.
const CUTS: u64 = 12;
const CUTS_LONG: u64 = 200;
const CLIENTS: u64 = 3;
/// Longest time under load before the power goes.
const LOAD_MICROS_MAX: u64 = 400_000;

/// The call that takes the power from a file system: EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
const CUT: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main(int count, char **words) {
    uint32_t flags = 2;
    int folder = open(words[count - 1], O_RDONLY | O_DIRECTORY);
    if (folder < 0 || ioctl(folder, _IOR('X', 125, uint32_t), &flags) < 0) { perror("shutdown"); return 1; }
    return 0;
}
"#;

/// An ext4 in a file, mounted where a site has its data.
struct Disk {
    image: PathBuf,
    mount: PathBuf,
    cut: PathBuf,
}

impl Disk {
    fn new(site: &Site) -> Disk {
        let disk =
            Disk { image: site.path().join("image"), mount: site.data(), cut: site.path().join("cut") };
        fs::create_dir_all(&disk.mount).expect("made");
        let source = site.path().join("cut.c");
        fs::write(&source, CUT).expect("written");
        tool("cc", &[Path::new("-o"), &disk.cut, &source]);
        fs::File::create(&disk.image).and_then(|file| file.set_len(96 << 20)).expect("made");
        tool("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &disk.image]);
        disk.mount();
        disk
    }

    fn mount(&self) {
        tool("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.mount]);
    }

    fn power_goes(&self) {
        let mut command = Command::new(&self.cut);
        run(command.arg(&self.mount)).ends(0);
    }

    fn power_is_back(&self) {
        // Whoever had files open there may need a moment to end.
        until_true("the disk is let go", || {
            let mut umount = Command::new("umount");
            run(umount.arg(&self.mount)).code == Some(0)
        });
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that failed may leave a server on it, which ends with the test.
        drop(Command::new("umount").arg("--lazy").arg(&self.mount).status());
    }
}

fn tool(name: &str, arguments: &[&Path]) {
    let mut command = Command::new(name);
    run(command.args(arguments)).ends(0);
}

/// Posts until the server is gone, and notes what was answered.
fn client(address: SocketAddr, name: &str, stop: &AtomicBool, answered: &Mutex<Vec<String>>) {
    let Ok(mut connection) = Connection::tcp(address) else { return };
    for number in 0.. {
        let id = format!("{name}-{number}");
        let body = alert("Power", &id);
        match connection.call("POST", "/api/v1/alerts", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => answered.lock().expect("no panic").push(id),
            Ok(_) if !stop.load(Ordering::Relaxed) => {}
            _ => return,
        }
    }
}

#[test]
fn what_was_answered_outlives_the_power() {
    demand_root();
    let site = Site::new(SMALL_SEGMENTS);
    let disk = Disk::new(&site);
    let mut dice = Dice::new("power");
    let cuts = if std::env::var_os("AMS2_TEST_LONG").is_some() { CUTS_LONG } else { CUTS };
    let answered = Mutex::new(Vec::new());
    for cut in 0..cuts {
        let server = site.start();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let name = format!("{cut}-{number}");
                let (address, stop, answered) = (server.address(), &stop, &answered);
                scope.spawn(move || client(address, &name, stop, answered));
            }
            // The moment is what the test is about: any is right.
            std::thread::sleep(Duration::from_micros(dice.below(LOAD_MICROS_MAX)));
            disk.power_goes();
            stop.store(true, Ordering::Relaxed);
        });
        server.kill();
        disk.power_is_back();
    }
    let server = site.start();
    let answered = answered.into_inner().expect("no panic");
    assert!(answered.len() > 50, "the load was none: {}", answered.len());
    let alerts = server.get("/api/v1/alerts?limit=1000000").json();
    let kept: HashSet<&str> =
        alerts.as_array().expect("a list").iter().filter_map(|alert| alert["labels"]["n"].as_str()).collect();
    let lost: Vec<&String> = answered.iter().filter(|id| !kept.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    eprintln!("{} answered over {cuts} power cuts, all kept", answered.len());
    drop(server);
}
