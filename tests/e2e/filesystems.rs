//! Data folders on file systems of their own: one that sets no blocks aside, and one that has lost a file.

use std::{fs, path::PathBuf, process::Command};

use super::harness::*;

/// A file system in a file, mounted where a site has its data.
struct Mounted {
    image: PathBuf,
    mount: PathBuf,
}

impl Mounted {
    fn new(site: &Site, kind: &str) -> Mounted {
        demand_root();
        let mounted = Mounted { image: site.path().join("image"), mount: site.data() };
        fs::create_dir_all(&mounted.mount).expect("made");
        fs::File::create(&mounted.image).and_then(|file| file.set_len(96 << 20)).expect("made");
        let mut mkfs = Command::new(format!("mkfs.{kind}"));
        run(mkfs.args(["-q", "-F"]).arg(&mounted.image)).ends(0);
        mounted.mount();
        mounted
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.mount])).ends(0);
    }

    fn unmount(&self) {
        // Whoever had files open there may need a moment to end.
        until_true("the file system is let go", || {
            run(Command::new("umount").arg(&self.mount)).code == Some(0)
        });
    }

    /// Clears the inode of a file: its name is there, and that is all.
    fn lose(&self, name: &str) {
        self.unmount();
        let order = format!("clri /{name}");
        run(Command::new("debugfs").args(["-w", "-R", &order]).arg(&self.image)).ends(0);
        self.mount();
        fs::metadata(self.mount.join(name)).expect_err("the file system says that it is broken");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a test that failed may leave a server on it, which ends with the test.
        drop(Command::new("umount").arg("--lazy").arg(&self.mount).status());
    }
}

#[test]
fn a_file_system_that_sets_no_blocks_aside_holds_the_data_folder() {
    let site = Site::new(SMALL_SEGMENTS);
    let _mounted = Mounted::new(&site, "ext2");
    for life in ["first", "second"] {
        let server = site.start();
        server.post(&alert("Ext2", life)).is(200);
        site.until_told(&[life]);
        assert!(server.terminate().success());
    }
}

#[test]
fn a_file_that_the_disk_has_lost_does_not_refuse_the_start() {
    for suffix in [".seg", ".snap", ".free", "panics"] {
        let site = Site::new(SMALL_SEGMENTS);
        let mounted = Mounted::new(&site, "ext4");
        let server = site.start();
        server.post(&alert("Ext4", "before")).is(200);
        site.until_told(&["before"]);
        assert!(server.terminate().success());
        if suffix == "panics" {
            fs::write(site.data().join(suffix), "").expect("written");
        }
        let name = {
            // An entry keeps the folder open, and that the file system busy.
            let entries = fs::read_dir(site.data()).expect("readable");
            let mut names = entries.map(|entry| entry.expect("an entry").file_name());
            names.find_map(|name| name.into_string().ok().filter(|name| name.ends_with(suffix)))
        };
        let name = name.expect("there is one");
        mounted.lose(&name);
        let server = site.start();
        assert!(server.metric("ams2_journal_damaged") >= Some(1), "{name} is said and counted");
        server.post(&alert("Ext4", "after")).is(200);
        site.until_told(&["after"]);
        assert!(server.terminate().success());
        assert!(site.log().contains(&name), "{}", site.log());
        mounted.unmount();
    }
}
