//! `ams2 import hosts` and `ams2 client cache`: computers by name and address, in a file of the user's. No router is needed.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal, Read},
    path::{Path, PathBuf},
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use serde_json::json;

use super::{
    CliError, Exit,
    args::{CacheDo, Cleared, ImportHosts},
    operate::{shown, table},
    say, talk,
};
use crate::hosts::{
    self, Cache, CacheError, Change, Comments, Fate, Form, List, Merge, Order, Origin, Separator, Which,
};

/// What `ams2 import hosts` without arguments says.
pub(super) const SIMPLE: &str = "\
Brings a list of computers over: pairs of a name and an address.

  ams2 import hosts FILE [DELIM1] [DELIM2] [ORDER]

A file with one pair a line, `Computer 1, 192.0.2.1`, needs nothing but its name:

  ams2 import hosts computers.txt";

/// What more there is to say.
pub(super) const ADVANCED: &str = "\
DELIM1 stands between name and address, DELIM2 between pairs. Each is one character, or
  LF  a line end (LF, CRLF, or the end of the file)
  SP  any number of blanks; names may then have none
Unless given they are `,` and `LF`. What a shell reads itself (`&`, `;`, `|`) goes into quotes.
ORDER is 1 for name first (unless given), 2 for address first.

  ams2 import hosts servers.txt / LF 2           192.0.2.1/Server 1
  ams2 import hosts hosts.txt SP LF 2            192.0.2.1   server1
  ams2 import hosts list.txt ';' --no-comments   Computer 1;192.0.2.1

A `;` or `:` first on a line, or first in an address, comments the pair out; an IPv6 address
that begins with a colon is an address all the same. `--no-comments` takes both for what they
are, and is needed where one of them separates.

What is in the cache is not overwritten: a pair with the name or the address of another there is
a conflict, which is said, and `--replace` takes the list's. `--clear` empties the cache before,
`--clear=discovered` only of what was discovered; `--dry-run` says what would be done. Nothing is
written when the file cannot be read to its end.

Each computer is unverified until it answered a probe. Exit code 0: all of it is there; 1: lines
were refused or are in conflict; 2: wrong arguments, or no readable list.";

/// Lines of a report; the rest is counted.
const REPORTED_MAX: usize = 1_000;

pub(super) fn import(import: ImportHosts) -> Result<Exit, CliError> {
    let Some(file) = &import.file else {
        help();
        return Ok(Exit::Usage);
    };
    let form = form(&import)?;
    let text = read(file)?;
    let list = hosts::read(&text, &form);
    let path = cache_path(import.cache.as_deref())?;
    let mut cache = match import.dry_run {
        true => Cache::look(&path),
        false => Cache::open(&path),
    }
    .map_err(unusable)?;
    // A list of nothing but mistakes empties no cache.
    let has_any = !list.pairs.is_empty() || !list.repeated.is_empty();
    let cleared = import.clear.filter(|_| has_any).map(|which| cache.clear(which.into()));
    let how = if import.replace { Merge::Replace } else { Merge::Keep };
    let changes = hosts::merge(&mut cache.hosts, list.pairs.clone(), how);
    let is_changed = cleared.is_some_and(|count| count > 0)
        || changes.iter().any(|change| matches!(change.fate, Fate::Added | Fate::Replaced));
    if is_changed && !import.dry_run {
        cache.save().map_err(unusable)?;
    }
    let report = Report { file, path: &path, list: &list, changes: &changes, cleared, import: &import };
    match import.json {
        true => report.as_json(),
        false => report.as_text(&cache),
    }
    Ok(if report.is_whole() { Exit::Done } else { Exit::No })
}

/// How the list is written, as the arguments have it.
fn form(import: &ImportHosts) -> Result<Form, CliError> {
    let usage = |message: String, mend: &str| CliError::new(Exit::Usage, message, mend);
    let separator = |name: &str, given: Option<&str>, usual: Separator| {
        let parsed = given.map_or(Ok(usual), Separator::parse);
        let separator = parsed.map_err(|error| {
            usage(format!("{name}: {error}"), "give one character, LF for a line end or SP for blanks")
        })?;
        if separator.is_comment() && !import.no_comments {
            let message = format!("{name}: `{separator}` begins a comment, and cannot separate");
            return Err(usage(message, "add --no-comments if the list has no comments"));
        }
        Ok(separator)
    };
    let inside = separator("DELIM1", import.delim1.as_deref(), Separator::Character(','))?;
    let between = separator("DELIM2", import.delim2.as_deref(), Separator::LineEnd)?;
    if inside == between || (inside, between) == (Separator::LineEnd, Separator::Blanks) {
        let message = format!("DELIM1 `{inside}` and DELIM2 `{between}` cannot be told apart");
        return Err(usage(message, "a line end is a blank, too: give two that differ"));
    }
    let order = if import.order == 2 { Order::AddressFirst } else { Order::NameFirst };
    let comments = if import.no_comments { Comments::None } else { Comments::Known };
    Ok(Form { inside, between, order, comments })
}

fn read(file: &Path) -> Result<String, CliError> {
    let text = match file.as_os_str() == "-" {
        true => hosts::text_of(io::stdin().lock()),
        false => File::open(file).map_err(Into::into).and_then(hosts::text_of),
    };
    text.map_err(|error| CliError::new(Exit::Usage, format!("{} {error}", file.display()), error.mend()))
}

fn cache_path(given: Option<&Path>) -> Result<PathBuf, CliError> {
    given.map_or_else(hosts::default_path, |path| Ok(path.into())).map_err(unusable)
}

fn unusable(error: CacheError) -> CliError {
    let exit = match error {
        CacheError::Locked(_) => Exit::Unavailable,
        CacheError::NoPlace => Exit::Usage,
        CacheError::Io { .. } | CacheError::Wrong { .. } | CacheError::Full => Exit::Failed,
    };
    CliError::new(exit, error.to_string(), error.mend())
}

/// What an import did.
struct Report<'a> {
    file: &'a Path,
    path: &'a Path,
    list: &'a List,
    changes: &'a [Change],
    cleared: Option<usize>,
    import: &'a ImportHosts,
}

impl Report<'_> {
    fn count(&self, fate: Fate) -> usize {
        self.changes.iter().filter(|change| change.fate == fate).count()
    }

    /// Whether all that the list says is in the cache now.
    fn is_whole(&self) -> bool {
        self.list.refused.is_empty() && self.count(Fate::Conflict) == 0
    }

    fn as_text(&self, cache: &Cache) {
        let file = self.file.display();
        // In the order of the lines, whatever became of them.
        let refused = self.list.refused.iter().map(|refusal| {
            (refusal.line, format!("refused: {}\n  help: {}", shown(&refusal.what), shown(&refusal.mend)))
        });
        let changed = self.changes.iter().filter_map(|change| {
            let words = match change.fate {
                Fate::Conflict => conflict(change, self.import.replace),
                Fate::Replaced => format!("replaced: {}", others(change)),
                Fate::Added | Fate::Unchanged => return None,
            };
            Some((change.pair.line, words))
        });
        let mut lines: Vec<(usize, String)> = refused.chain(changed).collect();
        lines.sort_by_key(|(line, _)| *line);
        for (line, words) in lines.iter().take(REPORTED_MAX) {
            talk(format_args!("{file}:{line}: {words}"));
        }
        if lines.len() > REPORTED_MAX {
            talk(format_args!("and {} more; --json has them all", lines.len() - REPORTED_MAX));
        }
        let List { repeated, refused, comments, colons, .. } = self.list;
        let would = if self.import.dry_run { "nothing was written; it would be: " } else { "" };
        if let Some(count) = self.cleared {
            talk(format_args!("{would}{count} cleared"));
        } else if self.import.clear.is_some() {
            talk("the cache was not cleared: the list has no computer");
        }
        let unchanged = self.count(Fate::Unchanged) + repeated.len();
        say(format_args!(
            "{would}{} added, {unchanged} unchanged, {} replaced, {} in conflict, {} refused; {comments} comments{}",
            self.count(Fate::Added),
            self.count(Fate::Replaced),
            self.count(Fate::Conflict),
            refused.len(),
            match colons {
                0 => String::new(),
                1 => ", 1 address begins with a colon".into(),
                many => format!(", {many} addresses begin with a colon"),
            }
        ));
        let unverified = cache.hosts.iter().filter(|host| host.verified.is_none()).count();
        if unverified > 0 && !self.import.dry_run {
            talk(format_args!(
                "{unverified} computers in {} are unverified: run `ams2 client discover` to complete them",
                self.path.display()
            ));
        }
    }

    fn as_json(&self) {
        let change = |change: &Change| {
            let before = change.before.iter().map(
                |host| json!({ "name": host.name, "address": host.address, "origin": host.origin.word() }),
            );
            json!({
                "line": change.pair.line,
                "fate": change.fate.word(),
                "name": change.pair.name,
                "address": change.pair.address,
                "before": before.collect::<Vec<_>>(),
            })
        };
        let refused = self.list.refused.iter();
        let refused = refused.map(|one| json!({ "line": one.line, "what": one.what, "mend": one.mend }));
        let all = json!({
            "dry_run": self.import.dry_run,
            "cache": self.path.display().to_string(),
            "cleared": self.cleared,
            "added": self.count(Fate::Added),
            "unchanged": self.count(Fate::Unchanged) + self.list.repeated.len(),
            "replaced": self.count(Fate::Replaced),
            "conflicts": self.count(Fate::Conflict),
            "comments": self.list.comments,
            "addresses_with_colon": self.list.colons,
            "refused": refused.collect::<Vec<_>>(),
            "computers": self.changes.iter().map(change).collect::<Vec<_>>(),
        });
        say(serde_json::to_string_pretty(&all).expect("JSON encodes"));
    }
}

/// What stands in the way of a pair, or stood there.
fn others(change: &Change) -> String {
    let before = change.before.iter();
    let before: Vec<String> = before
        .map(|host| format!("{} {} ({})", shown(&host.name), host.address, host.origin.word()))
        .collect();
    format!("{} by {} {}", before.join(" and "), shown(&change.pair.name), change.pair.address)
}

fn conflict(change: &Change, replaces: bool) -> String {
    let is_configured = change.before.iter().any(|host| host.origin == Origin::Configured);
    let mend = match (is_configured, replaces) {
        (true, _) => "the configuration names it: change it there",
        (false, _) => "--replace takes the list's",
    };
    let before = change.before.iter();
    let before: Vec<String> = before.map(|host| format!("{} {}", shown(&host.name), host.address)).collect();
    format!(
        "conflict: the cache has {}, the list {} {}; the cache's was kept\n  help: {mend}",
        before.join(" and "),
        shown(&change.pair.name),
        change.pair.address
    )
}

/// `ams2 client cache`.
pub(super) fn cache(verb: CacheDo) -> Result<Exit, CliError> {
    match verb {
        CacheDo::List { json, cache } => list(json, cache.as_deref()),
        CacheDo::Clear { origin, yes, cache } => {
            clear(origin.map_or(Which::All, Into::into), yes, cache.as_deref())
        }
        CacheDo::ClearImported { yes, cache } => clear(Which::Of(Origin::Imported), yes, cache.as_deref()),
        CacheDo::ClearDiscovered { yes, cache } => {
            clear(Which::Of(Origin::Discovered), yes, cache.as_deref())
        }
    }
}

fn list(json: bool, cache: Option<&Path>) -> Result<Exit, CliError> {
    let cache = Cache::look(&cache_path(cache)?).map_err(unusable)?;
    if json {
        say(serde_json::to_string_pretty(&cache.hosts).expect("plain data encodes"));
        return Ok(Exit::Done);
    }
    table(
        &["NAME", "ADDRESS", "ORIGIN", "VERIFIED"],
        cache.hosts.into_iter().map(|host| {
            let verified = host.verified.unwrap_or_else(|| "unverified".into());
            vec![host.name, host.address.to_string(), host.origin.word().into(), verified]
        }),
    );
    Ok(Exit::Done)
}

fn clear(which: Which, yes: bool, cache: Option<&Path>) -> Result<Exit, CliError> {
    let mut cache = Cache::open(&cache_path(cache)?).map_err(unusable)?;
    let imported = cache.hosts.iter().filter(|host| host.origin == Origin::Imported).count();
    let count = cache.clear(which);
    if count == 0 {
        talk("there is nothing to clear");
        return Ok(Exit::Done);
    }
    let with_imported = match which {
        Which::Of(Origin::Discovered | Origin::Configured) => String::new(),
        Which::All | Which::Of(Origin::Imported) => format!(", {imported} of them imported"),
    };
    if !yes
        && !agreed(&format!(
            "{count} computers will go{with_imported}; no discovery brings imported ones back. Go on?"
        ))?
    {
        talk("nothing was cleared");
        return Ok(Exit::No);
    }
    cache.save().map_err(unusable)?;
    say(format_args!("{count} cleared"));
    Ok(Exit::Done)
}

/// Asks; only `y` and `yes` agree.
fn agreed(question: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::new(
            Exit::Usage,
            question,
            "nobody can be asked here: --yes says so beforehand",
        ));
    }
    talk(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    // Whoever writes a line without end is not asked for ever.
    let read = io::stdin().lock().take(100).read_line(&mut answer);
    read.map_err(|error| CliError::new(Exit::Failed, format!("the answer cannot be read: {error}"), ""))?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// The simple help. On a terminal the key `a` shows the rest.
fn help() {
    talk(SIMPLE);
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        talk("\n`ams2 import hosts --help` has the rest.");
        return;
    }
    talk("\nPress `a` for the advanced help, any other key to end.");
    if matches!(key(), Ok(b'a' | b'A')) {
        talk(format_args!("\n{ADVANCED}"));
    }
}

/// One key, without waiting for the line's end.
fn key() -> io::Result<u8> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut raw = before.clone();
    // Keys that would end us come as they are meanwhile: nobody else would put the terminal back.
    raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    (raw.special_codes[SpecialCodeIndex::VMIN], raw.special_codes[SpecialCodeIndex::VTIME]) = (1, 0);
    tcsetattr(&stdin, OptionalActions::Now, &raw)?;
    let mut key = [0];
    let read = stdin.lock().read(&mut key);
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    read.map(|_| key[0])
}

impl From<Cleared> for Which {
    fn from(cleared: Cleared) -> Which {
        match cleared {
            Cleared::All => Which::All,
            Cleared::Imported => Which::Of(Origin::Imported),
            Cleared::Discovered => Which::Of(Origin::Discovered),
        }
    }
}
