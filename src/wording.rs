//! The actions of the config in force, and how former configs had them say things. A pending delivery keeps the texts
//! of the config that it was decided under, and goes where the config in force says, with its credentials: so mending
//! a host name mends what waits for it, and retries say the same.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use ams2_core::{Position, config::ActionId};
use ams2_handlers::{Action, ActionSettings, BuildContext, Limits, Server};

use crate::{
    config::{self, Loaded},
    handler::{Former, Handler, Ready, Site, Worded},
    journal::JournalReader,
};

/// Former configs whose actions are kept ready. Deliveries of older ones make theirs anew.
const VERSIONS_MAX: usize = 16;

/// Builds actions when their config takes effect, and those of former configs when a delivery asks.
pub struct Wording {
    reader: JournalReader,
    /// Names the journal to other servers.
    journal: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Configs that were read and wait for their record to be folded, by their text.
    waiting: HashMap<String, Loaded>,
    in_force: Option<InForce>,
    /// Actions that former configs word differently, by where the config stands.
    former: BTreeMap<Position, HashMap<ActionId, Arc<Worded>>>,
}

struct InForce {
    position: Position,
    text: String,
    data_dir: PathBuf,
    actions: Vec<(ActionId, ActionSettings, Limits)>,
    site: Site,
    is_url_overridden: bool,
}

impl Wording {
    /// Nothing is in force yet.
    pub fn new(reader: JournalReader, journal: u64) -> Wording {
        Wording { reader, journal, state: Mutex::default() }
    }

    /// Names the journal to other servers.
    pub fn journal(&self) -> u64 {
        self.journal
    }

    /// Keeps a config until its record is folded.
    pub fn prepare(&self, loaded: Loaded) {
        self.lock().waiting.insert(loaded.text.clone(), loaded);
    }

    /// A config that was prepared is not kept: nothing waits for it.
    pub fn forget(&self, text: &str) {
        self.lock().waiting.remove(text);
    }

    /// The record at `position` is folded: its config is put in force.
    pub fn take_effect(&self, position: Position, text: &str, handler: &Handler) {
        let loaded = self.lock().waiting.remove(text);
        if let Some(loaded) = loaded {
            self.install(position, loaded, handler);
        }
    }

    /// Whether the config in force has this text.
    pub fn is_in_force(&self, text: &str) -> bool {
        self.lock().in_force.as_ref().is_some_and(|in_force| in_force.text == text)
    }

    /// Puts a config in force.
    pub fn install(&self, position: Position, loaded: Loaded, handler: &Handler) {
        let context = BuildContext::new(&loaded.data_dir, loaded.core.severities.clone());
        let mut ready = Vec::new();
        for (id, settings, limits) in &loaded.actions {
            // It was built once already, when the config was read.
            let Some(action) = build(id, settings, &context) else { continue };
            let timeout = Duration::from_millis(limits.timeout_ms);
            let (slots, max_alerts) = (limits.max_in_flight.max(1) as usize, limits.max_alerts as usize);
            ready.push((id.clone(), Ready { action, slots, timeout, max_alerts }));
        }
        let site = Site {
            external_url: loaded.external_url.clone(),
            severities: loaded.core.severities.clone(),
            server: Server { name: loaded.server_name.clone(), journal: self.journal },
        };
        let mut state = self.lock();
        state.former.clear();
        state.in_force = Some(InForce {
            position,
            text: loaded.text,
            data_dir: loaded.data_dir,
            actions: loaded.actions,
            site: site.clone(),
            is_url_overridden: loaded.is_url_overridden,
        });
        drop(state);
        handler.install(ready, site);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Former for Wording {
    fn action(&self, id: &ActionId, version: Position) -> Option<Arc<Worded>> {
        {
            let state = self.lock();
            state.in_force.as_ref().filter(|in_force| in_force.position != version)?;
            if let Some(worded) = state.former.get(&version) {
                return worded.get(id).cloned();
            }
        }
        // The router's thread takes the lock when a config takes effect: it does not wait for a disk. Two that ask at once read
        // the same.
        let text = self.reader.config_text(version);
        let mut state = self.lock();
        let State { in_force, former, .. } = &mut *state;
        let in_force = in_force.as_ref().filter(|in_force| in_force.position != version)?;
        let worded = match text {
            Ok(text) if text == in_force.text => HashMap::new(),
            Ok(text) => in_force.as_worded_by(&text),
            Err(error) => {
                tracing::warn!(%error, "a former config cannot be read: what it decided is told in the words of the config in force");
                HashMap::new()
            }
        };
        let found = worded.get(id).cloned();
        former.insert(version, worded);
        if former.len() > VERSIONS_MAX {
            former.pop_first();
        }
        found
    }
}

impl InForce {
    /// The actions in force that a former config words differently, with its words.
    fn as_worded_by(&self, text: &str) -> HashMap<ActionId, Arc<Worded>> {
        let former = config::former(text, &self.data_dir);
        let external_url =
            if self.is_url_overridden { self.site.external_url.clone() } else { former.external_url };
        let site = Site { external_url, severities: former.severities, server: self.site.server.clone() };
        let site = Arc::new(site);
        let context = BuildContext::new(&self.data_dir, site.severities.clone());
        let mut worded = HashMap::new();
        for (id, settings, _) in &self.actions {
            let Some((_, old, limits)) = former.actions.iter().find(|(known, ..)| known == id) else {
                continue;
            };
            let mixed = settings.with_texts_of(old);
            if mixed == *settings && *site == self.site {
                continue;
            }
            if let Some(action) = build(id, &mixed, &context) {
                let max_alerts = limits.max_alerts as usize;
                worded.insert(id.clone(), Arc::new(Worded { action, max_alerts, site: site.clone() }));
            }
        }
        worded
    }
}

fn build(id: &ActionId, settings: &ActionSettings, context: &BuildContext) -> Option<Arc<dyn Action>> {
    match settings.build(context) {
        Ok(action) => Some(Arc::from(action)),
        Err(mistakes) => {
            tracing::error!(action = %id, ?mistakes, "the action cannot be built");
            None
        }
    }
}
