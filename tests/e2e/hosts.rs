//! `ams2 import hosts` and `ams2 client cache`: AMS²'s Importer, without a router.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::mpsc,
};

use serde_json::{Value, json};

use super::harness::*;

/// A user's home, and lists in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::Builder::new().prefix("ams2-hosts-").tempdir().expect("a folder"))
    }

    fn list(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ams2();
        command.env("HOME", self.0.path()).current_dir(self.0.path()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    fn import(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["import", "hosts"], arguments].concat())
    }

    /// The cache as `name address origin`, in its order.
    fn cache(&self) -> Vec<String> {
        let hosts = self.run(&["client", "cache", "list", "--json"]).ends(0).json();
        let text = |host: &Value, key: &str| host[key].as_str().expect("text").to_owned();
        let hosts = hosts.as_array().expect("a list").iter();
        hosts.map(|host| ["name", "address", "origin"].map(|key| text(host, key)).join(" ")).collect()
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join(".local/state/ams2/hosts.json")
    }

    /// Writes a cache as discovery and a configuration would.
    fn discovered(&self) {
        let host = |name: &str, address: &str, origin: &str, verified: Value| json!({ "name": name, "address": address, "origin": origin, "verified": verified });
        let hosts = [
            host("found", "192.0.2.50", "discovered", json!("2026-11-24T10:15:02Z")),
            host("named", "192.0.2.51", "configured", Value::Null),
        ];
        fs::create_dir_all(self.file().parent().expect("a folder")).expect("made");
        fs::write(self.file(), json!({ "version": 1, "hosts": hosts }).to_string()).expect("written");
    }

    /// Runs a command on a terminal; these keys are typed once it asks with these words. What it says, and how it ended.
    fn on_a_terminal(&self, arguments: &[&str], asks: &str, keys: &str) -> (String, Option<i32>) {
        let words: Vec<String> = [AMS2].iter().chain(arguments).map(|word| format!("'{word}'")).collect();
        let mut script = Command::new("script");
        clean(&mut script);
        script.env("HOME", self.0.path()).current_dir(self.0.path());
        script.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut terminal = Ward(script.spawn().expect("script"));
        let (mut screen, mut keyboard) =
            (terminal.0.stdout.take().expect("piped"), terminal.0.stdin.take().expect("piped"));
        let (sender, shown) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(bytes @ 1..) = screen.read(&mut piece) {
                drop(sender.send(piece[..bytes].to_vec()));
            }
        });
        let (mut said, mut is_asked) = (Vec::new(), false);
        loop {
            match shown.recv_timeout(DEADLINE) {
                Ok(piece) => said.extend(piece),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{}", String::from_utf8_lossy(&said)),
            }
            if !is_asked && String::from_utf8_lossy(&said).contains(asks) {
                is_asked = true;
                keyboard.write_all(keys.as_bytes()).expect("typed");
            }
        }
        let code = terminal.0.wait().expect("ended").code();
        (String::from_utf8_lossy(&said).into_owned(), code)
    }
}

const SIX: &str = "Computer 1, 192.0.2.1\nComputer 2, 192.0.2.2\nComputer 3, 192.0.2.3\nComputer 4, 192.0.2.4\n\
                   Computer 5, 192.0.2.5\nComputer 6, 192.0.2.6\n";

#[test]
fn the_importers_examples_come_over_without_a_router_and_are_unverified() {
    let home = Home::new();
    let ran = home.import(&[&home.list("six.txt", SIX)]).ends(0).says("6 computers in ");
    assert!(ran.stderr.contains("are unverified: run `ams2 client discover`"), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("6 added, 0 unchanged"), "{}", ran.stdout);
    home.import(&[&home.list("servers.txt", "Server 1,192.0.2.11\r\nServer 2,192.0.2.12")]).ends(0);
    home.import(&[&home.list("turned.txt", "192.0.2.21/Server 3\n192.0.2.22/Server 4\n"), "/", "LF", "2"])
        .ends(0);
    let cache = home.cache();
    assert_eq!(cache.len(), 10);
    assert_eq!(cache[0], "Computer 1 192.0.2.1 imported");
    assert_eq!(cache[9], "Server 4 192.0.2.22 imported");
    let table = home.run(&["client", "cache", "list"]).ends(0).stdout;
    assert!(table.lines().next().is_some_and(|line| line.starts_with("NAME")), "{table}");
    assert_eq!(table.matches("unverified").count(), 10, "{table}");
    // Once more, and by standard input: nothing changes, not even the file.
    let before = fs::metadata(home.file()).expect("there").modified().expect("a time");
    let ran = run_with_input(&mut home.command(&["import", "hosts", "-"]), SIX.as_bytes()).ends(0);
    assert!(ran.stdout.starts_with("0 added, 6 unchanged"), "{}", ran.stdout);
    assert_eq!(fs::metadata(home.file()).expect("there").modified().expect("a time"), before);
}

#[test]
fn the_cache_is_where_the_user_says_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let list = home.list("one.txt", "a,192.0.2.1");
    let state = home.0.path().join("state");
    let with = |name: &str, value: &str| {
        let mut command = home.command(&["import", "hosts", &list]);
        run(command.env(name, value)).ends(0);
    };
    with("XDG_STATE_HOME", state.to_str().expect("UTF-8"));
    with("AMS2_HOSTS_CACHE", "by-variable.json");
    home.import(&[&list, "--cache", "by-option.json"]).ends(0);
    home.import(&[&list]).ends(0);
    let files = [state.join("ams2/hosts.json"), home.file()];
    let beside = ["by-variable.json", "by-option.json"].map(|name| home.0.path().join(name));
    for file in files.iter().chain(&beside) {
        let mode =
            fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{}", file.display());
    }
    run(ams2().args(["import", "hosts", &list]))
        .ends(2)
        .says("neither XDG_STATE_HOME nor HOME")
        .says("--cache");
    // A file in the way of the folder, and a cache that is none.
    let in_the_way = format!("{list}/hosts.json");
    home.import(&[&list, "--cache", &in_the_way]).ends(6).says("cannot be used").says("--cache");
    home.import(&[&list, "--cache", &list]).ends(6).says("cannot be read").says("move it away");
    assert_eq!(fs::read_to_string(&list).expect("there"), "a,192.0.2.1");
}

#[test]
fn what_is_there_is_kept_or_replaced_where_that_is_said() {
    let home = Home::new();
    home.discovered();
    home.import(&[&home.list("six.txt", SIX)]).ends(0);
    let changed = home.list(
        "changed.txt",
        "Computer 1, 192.0.2.1\nComputer 2, 192.0.2.99\nOther, 192.0.2.3\nnamed, 192.0.2.98\nNew, 192.0.2.97\n",
    );
    let before = home.cache();
    let dry = home.import(&[&changed, "--dry-run"]).ends(1);
    assert!(dry.stdout.contains("1 added, 1 unchanged, 0 replaced, 3 in conflict"), "{}", dry.stdout);
    assert_eq!(home.cache(), before);
    let ran = home.import(&[&changed]).ends(1);
    for words in [
        "changed.txt:2: conflict: the cache has Computer 2 192.0.2.2, the list Computer 2 192.0.2.99; the cache's was kept",
        "changed.txt:3: conflict: the cache has Computer 3 192.0.2.3, the list Other 192.0.2.3",
        "changed.txt:4: conflict: the cache has named 192.0.2.51, the list named 192.0.2.98",
        "--replace takes the list's",
        "the configuration names it: change it there",
    ] {
        assert!(ran.stderr.contains(words), "{words} is not in\n{}", ran.stderr);
    }
    assert_eq!(home.cache().len(), before.len() + 1);
    let json = home.import(&[&changed, "--replace", "--json"]).ends(1).json();
    assert_eq!((&json["replaced"], &json["conflicts"]), (&json!(2), &json!(1)));
    assert_eq!(json["computers"][1]["before"][0]["address"], "192.0.2.2");
    let cache = home.cache();
    assert_eq!(cache.len(), before.len() + 1);
    for host in ["Computer 2 192.0.2.99 imported", "Other 192.0.2.3 imported", "named 192.0.2.51 configured"]
    {
        assert!(cache.iter().any(|known| known == host), "{host} is not in {cache:?}");
    }
}

#[test]
fn clearing_asks_first_and_keeps_imports_where_that_is_said() {
    let home = Home::new();
    home.discovered();
    let six = home.list("six.txt", SIX);
    home.import(&[&six]).ends(0);
    // Nobody can be asked here.
    let clear = ["client", "cache", "clear"];
    home.run(&clear).ends(2).says("8 computers will go, 6 of them imported").says("--yes");
    let (said, code) = home.on_a_terminal(&clear, "[y/N]", "n\n");
    assert!(said.contains("Go on? [y/N]") && said.contains("nothing was cleared"), "{said}");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(home.cache().len(), 8);
    // What was discovered is found again: imports stay.
    let ran = home.run(&["client", "cache", "clear=discovered", "--yes"]).ends(0);
    assert_eq!(ran.stdout, "1 cleared\n");
    assert_eq!(home.cache().len(), 7);
    home.discovered();
    home.import(&[&six]).ends(0);
    let ran = home.import(&[&six, "--clear=discovered"]).ends(0).says("1 cleared");
    assert!(ran.stdout.starts_with("0 added, 6 unchanged"), "{}", ran.stdout);
    assert_eq!(home.cache().len(), 7);
    // A list of nonsense empties no cache, and one that cannot be read does not either.
    home.import(&[&home.list("nonsense.txt", "nonsense\n"), "--clear"]).ends(1).says("was not cleared");
    home.import(&["nowhere.txt", "--clear"]).ends(2).says("nowhere.txt cannot be read");
    assert_eq!(home.cache().len(), 7);
    let one = home.list("one.txt", "One, 192.0.2.60");
    home.import(&[&one, "--clear"]).ends(0).says("7 cleared");
    assert_eq!(home.cache(), ["One 192.0.2.60 imported"]);
    let (said, code) = home.on_a_terminal(&clear, "[y/N]", "y\n");
    assert!(said.contains("1 cleared") && code == Some(0), "{said}");
    assert_eq!(home.cache(), [""; 0]);
    home.run(&clear).ends(0).says("there is nothing to clear");
}

#[test]
fn a_hosts_file_of_nonsense_says_each_line_and_changes_nothing_it_should_not() {
    let home = Home::new();
    let list = home.list(
        "mixed.txt",
        "Good, 192.0.2.1\nno separator\nBad, 192.0.2.300\n, 192.0.2.2\n; Old, 192.0.2.3\nOld, :192.0.2.4\nSix, ::1\n\
         Good, 192.0.2.5\nTwin, 192.0.2.1\nGood, 192.0.2.1\nEscape\u{1b}[2J, 192.0.2.6\nLast, 192.0.2.7",
    );
    let ran = home.import(&[&list]).ends(1);
    for words in [
        "mixed.txt:2: refused: `no separator` has no `,` between name and address",
        "mixed.txt:3: refused: `192.0.2.300` is no IPv4 or IPv6 address",
        "mixed.txt:4: refused: the name is empty",
        "mixed.txt:8: refused: `Good` is there twice: with 192.0.2.1 on line 1, with 192.0.2.5 here",
        "mixed.txt:9: refused: 192.0.2.1 is there twice: as `Good` on line 1, as `Twin` here",
        "mixed.txt:11: refused: the name `Escape\\u{1b}[2J` has a control character",
    ] {
        assert!(ran.stderr.contains(words), "{words} is not in\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains('\u{1b}'));
    let summary = "3 added, 1 unchanged, 0 replaced, 0 in conflict, 6 refused; 2 comments, 1 address begins with a colon\n";
    assert_eq!(ran.stdout, summary);
    assert_eq!(home.cache(), ["Good 192.0.2.1 imported", "Six ::1 imported", "Last 192.0.2.7 imported"]);
    for (name, bytes, words) in [
        ("latin.txt", &b"M\xfcnchen, 192.0.2.8\n"[..], "iconv -f WINDOWS-1252"),
        ("utf16.txt", b"\xff\xfea\0,\0", "iconv -f UTF-16"),
        ("binary.txt", b"\x7fELF\0\0", "is this the right file?"),
    ] {
        home.import(&[&home.list(name, bytes)]).ends(2).says(words);
    }
    let folder = home.0.path().display().to_string();
    home.import(&[&folder]).ends(2).says("cannot be read to its end");
    assert_eq!(home.cache().len(), 3);
}

#[test]
fn wrong_arguments_are_usage_and_say_how_to_mend_them() {
    let home = Home::new();
    let list = home.list("list.txt", "a;192.0.2.1");
    let list = list.as_str();
    for (arguments, words) in [
        (&[list, ",,"][..], "DELIM1: the separator `,,` is longer than one character"),
        (&[list, ",", ""], "DELIM2: a separator is empty"),
        (&[list, ";"], "DELIM1: `;` begins a comment, and cannot separate"),
        (&[list, ",", ":"], "add --no-comments"),
        (&[list, "LF"], "DELIM1 `LF` and DELIM2 `LF` cannot be told apart"),
        (&[list, "LF", "SP"], "a line end is a blank, too"),
        (&[list, ",", "LF", "3"], "3 is not in 1..=2"),
        (&[list, "--clear=everything"], "everything"),
    ] {
        let ran = home.import(arguments).ends(2);
        assert!(ran.stderr.contains(words), "{arguments:?}: {words} is not in\n{}", ran.stderr);
    }
    assert!(!home.file().exists());
    home.import(&[list, ";", "--no-comments"]).ends(0);
    assert_eq!(home.cache(), ["a 192.0.2.1 imported"]);
    // `&` is one as any other: ours is no batch file.
    home.import(&[&home.list("and.txt", "b&192.0.2.2"), "&"]).ends(0);
}

#[test]
fn without_arguments_there_is_a_simple_help_and_a_key_for_the_rest() {
    let home = Home::new();
    let simple = "ams2 import hosts FILE [DELIM1] [DELIM2] [ORDER]";
    let advanced = "DELIM1 stands between name and address";
    let ran = home.import(&[]).ends(2).says(simple).says("`ams2 import hosts --help` has the rest");
    assert!(!ran.stderr.contains(advanced), "{}", ran.stderr);
    let both = home.import(&["--help"]).ends(0).stdout;
    assert!(both.contains(simple) && both.contains(advanced), "{both}");
    let command = ["import", "hosts"];
    for (key, shows) in [("a", true), ("q", false), ("\n", false)] {
        let (said, code) = home.on_a_terminal(&command, "any other key to end.", key);
        assert!(said.contains(simple) && code == Some(2), "{code:?}: {said}");
        assert_eq!(said.contains(advanced), shows, "{key:?}: {said}");
    }
}

#[test]
fn two_imports_at_once_leave_a_whole_cache() {
    let home = Home::new();
    let lists: Vec<String> = (0..8)
        .map(|n| {
            let pairs: String = (0..200).map(|m| format!("list {n} host {m}, 10.{n}.0.{m}\n")).collect();
            home.list(&format!("{n}.txt"), pairs)
        })
        .collect();
    std::thread::scope(|scope| {
        for list in &lists {
            let home = &home;
            scope.spawn(move || {
                until("it has its turn", || {
                    let ran = home.import(&[list]);
                    // Another changes the cache: try again.
                    (ran.code != Some(3)).then(|| ran.ends(0))
                })
            });
        }
    });
    assert_eq!(home.cache().len(), 1_600);
}
