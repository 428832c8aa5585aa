//! A configuration is loaded again: checked against what waits, put in force in the router and at the ways in.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, RwLock},
};

use ams2_core::{
    Input,
    config::{ActionId, RULE_VERSION, Removed},
    input::OwnEvent,
};
use smol_str::SmolStr;

use ams2_handlers::Server;

use super::{Source, refuse_orphans, start::install};
use crate::{
    config::{self, Loaded, Overrides},
    console::ReloadOrder,
    handler::Handler,
    journal::Journal,
    originator::{
        Heartbeats, Serving, Settings,
        snmp::Snmp,
        syslog::{Syslog, SyslogSettings},
    },
    router::{Router, Unanswered},
    upkeep,
    wording::Wording,
};

/// Loads the configuration again.
pub(super) struct Reloader {
    pub source: Source,
    pub overrides: Overrides,
    pub journal: Journal,
    pub router: Router,
    pub wording: Arc<Wording>,
    pub handler: Arc<Handler>,
    pub serving: RwLock<Option<Arc<Serving<Journal>>>>,
    pub syslog: OnceLock<Arc<Syslog<Journal>>>,
    pub snmp: OnceLock<Arc<Snmp<Journal>>>,
    /// What the process was started with: some of it cannot change while it runs.
    pub running: Loaded,
    /// Where HTTP is listened on until the process ends, whatever a config says.
    pub bound: Option<SocketAddr>,
    pub connections: usize,
    pub busy: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// Puts the file in force, or says every mistake. Answers what may not be as meant.
    pub async fn reload(&self, order: ReloadOrder) -> Result<String, String> {
        let _one_at_a_time = self.busy.lock().await;
        // What the receivers are told holds no text of the file: any of it may be a secret at the wrong place.
        let refused_for = |why: String, told: String| {
            tracing::error!("the new configuration is refused, the old one stays:\n{why}");
            if let Err(error) = self.journal.keep(Input::Own(OwnEvent::ConfigRefused { why: told })) {
                tracing::error!(%error, "an own alert was not kept");
            }
            why
        };
        let refused = |why: String| {
            let first = why.lines().next().unwrap_or_default().to_owned();
            refused_for(why, first)
        };
        let name = self.source.name();
        let mut loaded = self
            .source
            .load_again(&self.overrides)
            .map_err(|wrong| refused_for(config::lines(&wrong.found), config::whereabouts(&wrong.found)))?;
        if let Some(why) = self.opens_to_all(&loaded) {
            return Err(refused(format!("{name}: {why}")));
        }
        let words = |error: Unanswered| error.to_string();
        if let Some(fate) = order.removed {
            self.see_to_orphans(&mut loaded, fate).await.map_err(refused)?;
        }
        let asked = loaded.clone();
        let orphans = self.router.ask(move |folded| refuse_orphans(&folded.machine, &asked)).await;
        orphans.map_err(words)?.map_err(|error| refused(error.to_string()))?;
        let mut warnings = config::lines(&loaded.warnings);
        for setting in self.need_a_restart(&loaded) {
            warnings.push_str(&format!("{name}: {setting} takes effect at the next start\n"));
        }
        for gone in self.keys_without_owner(&loaded) {
            warnings.push_str(&format!("{name}: {gone}\n"));
        }
        for warning in warnings.lines() {
            tracing::warn!("{warning}");
        }
        // Whatever the file says, this process stays with its folder.
        let loaded = Loaded { data_dir: self.running.data_dir.clone(), ..loaded };
        let settings = settings(&loaded, self.wording.journal(), self.connections);
        let syslog = self.syslog_settings(&loaded);
        let snmp = loaded.snmp.as_ref().filter(|snmp| snmp_listen(&self.running) == Some(snmp.listen));
        let snmp = snmp.map(|snmp| snmp.settings.clone());
        let in_force = self.router.ask(|folded| {
            let rules = folded.machine.rule_version();
            let in_force = folded.machine.config().map(|(core, at)| (core.clone(), at, rules));
            (in_force, folded.machine.says_config_refused())
        });
        let (in_force, says_refused) = in_force.await.map_err(words)?;
        match in_force {
            // Nothing to decide anew: what files and the environment hold may be new all the same.
            Some((core, position, RULE_VERSION))
                if core == loaded.core && self.wording.is_in_force(&loaded.text) =>
            {
                self.wording.install(position, loaded, &self.handler);
                if says_refused {
                    let seq = self.journal.append(Input::Own(OwnEvent::ConfigAccepted)).await;
                    self.router.folded(seq.map_err(|error| error.to_string())?).await.map_err(words)?;
                }
            }
            _ => {
                let input = Input::ConfigInstalled(install(&loaded, &order.by).into());
                let text = loaded.text.clone();
                self.wording.prepare(loaded);
                let seq = self.journal.append(input).await.map_err(|error| {
                    self.wording.forget(&text);
                    error.to_string()
                })?;
                self.router.folded(seq).await.map_err(words)?;
            }
        }
        if let Some(serving) = &*self.serving.read().unwrap_or_else(|e| e.into_inner()) {
            *serving.settings.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(settings);
        }
        if let (Some(syslog), Some(settings)) = (self.syslog.get(), syslog) {
            syslog.install(settings);
        }
        if let (Some(snmp), Some(settings)) = (self.snmp.get(), snmp) {
            snmp.install(settings);
        }
        Ok(warnings)
    }

    /// Adds to the config what becomes of deliveries about whose actions it says nothing.
    async fn see_to_orphans(&self, loaded: &mut Loaded, fate: Removed) -> Result<(), String> {
        if let Removed::MoveTo(receiver) = &fate
            && loaded.core.receivers.iter().all(|known| known.name != *receiver)
        {
            return Err(format!("no receiver is called `{receiver}`"));
        }
        let known: Vec<ActionId> = loaded.actions.iter().map(|(id, ..)| id.clone()).collect();
        let removed = loaded.removed.clone();
        let asked = self
            .router
            .ask(move |folded| upkeep::orphans(&folded.machine, |id| known.contains(id), &removed))
            .await;
        let orphans = asked.map_err(|error| error.to_string())?;
        loaded.removed.extend(orphans.into_iter().map(|(action, _)| (action, fate.clone())));
        Ok(())
    }

    /// Why the config would let in more than it says: it is written for another listener than those that stay open until the
    /// next start.
    fn opens_to_all(&self, loaded: &Loaded) -> Option<String> {
        let mend = "restart ams2 with this configuration, or leave `tls:` and `clients:` until then";
        let http = loaded.http.as_ref();
        if let Some(bound) = self.bound.filter(|bound| !bound.ip().is_loopback()) {
            let is_meant = http.is_some_and(|http| http.insecure && !http.listen.ip().is_loopback());
            let lacks = match () {
                () if is_meant => None,
                () if http.is_none_or(|http| http.tls.is_none()) => Some("without TLS"),
                () if !loaded.clients.have_tokens() => Some("by anybody"),
                () => None,
            };
            if let Some(lacks) = lacks {
                let what = "is listened on until the next start, and could be reached from outside";
                return Some(format!("originator.http: {bound} {what} {lacks}: {mend}"));
            }
        }
        let had_clients = {
            let serving = self.serving.read().unwrap_or_else(|e| e.into_inner());
            serving.as_ref().is_some_and(|serving| serving.settings().clients.need_names())
        };
        let stays = match () {
            () if self.bound.is_some() && http.is_none() => "originator.http",
            () if self.running.socket.is_some() && self.running.socket != loaded.socket => {
                "originator.socket"
            }
            () => return None,
        };
        (had_clients && !loaded.clients.need_names()).then(|| {
            let what = "what it was started with is listened on until the next start, and would be open to everybody on this machine";
            format!("{stays}: {what}: {mend}")
        })
    }

    /// Web hooks, and clients that may use them, which are there and are not in a new config: keys belong to them.
    fn keys_without_owner(&self, loaded: &Loaded) -> Vec<String> {
        let Some(serving) = self.serving.read().unwrap_or_else(|e| e.into_inner()).clone() else {
            return Vec::new();
        };
        let old = serving.settings();
        let hooks = old.inbound.0.iter().map(|hook| ("web hook", &hook.name));
        let clients = old.clients.known.iter().map(|client| ("client", &client.name));
        let clients = clients.filter(|_| !old.inbound.0.is_empty());
        let is_there = |what: &str, name: &SmolStr| match what {
            "client" => loaded.clients.known.iter().any(|client| client.name == *name),
            _ => loaded.inbound.0.iter().any(|hook| hook.name == *name),
        };
        let gone = hooks.chain(clients).filter(|(what, name)| !is_there(what, name));
        gone.map(|(what, name)| {
            format!("the {what} `{name}` is gone: what fires by its keys is ended by no key any more")
        })
        .collect()
    }

    /// What the config says of syslog, if it is written for the sockets that are listened on: else who may come to them was
    /// not asked, and all of it stays as it is until the next start.
    fn syslog_settings(&self, loaded: &Loaded) -> Option<SyslogSettings> {
        let (old, new) = (self.running.syslog.as_ref()?, loaded.syslog.as_ref()?);
        (old.listen == new.listen).then(|| within(new.settings.clone(), self.connections))
    }

    /// Settings that differ from those of the start and cannot change before the next.
    fn need_a_restart(&self, loaded: &Loaded) -> Vec<&'static str> {
        let old = &self.running;
        let listen = |loaded: &Loaded| loaded.http.as_ref().map(|http| http.listen);
        let connections = |loaded: &Loaded| loaded.http.as_ref().map(|http| http.limits.connections);
        let listen_syslog = |loaded: &Loaded| loaded.syslog.as_ref().map(|syslog| syslog.listen.clone());
        let receive_snmp =
            |loaded: &Loaded| loaded.snmp.as_ref().map(|snmp| snmp.settings.limits.receive_bytes);
        let receive =
            |loaded: &Loaded| loaded.syslog.as_ref().map(|syslog| syslog.settings.limits.receive_bytes);
        let changed = [
            ("journal.dir", old.data_dir != loaded.data_dir),
            ("journal", old.journal != loaded.journal),
            ("originator.http.listen", listen(old) != listen(loaded)),
            ("originator.http.limits.connections", connections(old) != connections(loaded)),
            ("originator.socket", old.socket != loaded.socket),
            ("originator.syslog", listen_syslog(old) != listen_syslog(loaded)),
            ("originator.syslog.limits.receive_bytes", receive(old) != receive(loaded)),
            ("originator.snmp", snmp_listen(old) != snmp_listen(loaded)),
            ("originator.snmp.limits.receive_bytes", receive_snmp(old) != receive_snmp(loaded)),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// Where SNMP is listened for: who may come is written for that address.
fn snmp_listen(loaded: &Loaded) -> Option<SocketAddr> {
    loaded.snmp.as_ref().map(|snmp| snmp.listen)
}

/// What a config says of syslog, with at most `connections`, however many the config allows.
pub(super) fn within(mut settings: SyslogSettings, connections: usize) -> SyslogSettings {
    settings.limits.connections = settings.limits.connections.min(connections);
    settings
}

/// What a config says of the ways in. A listener has at most `connections`, however many the config allows.
pub(super) fn settings(loaded: &Loaded, journal: u64, connections: usize) -> Settings {
    let mut limits = loaded.http.as_ref().map(|http| http.limits.clone()).unwrap_or_default();
    if connections < limits.connections {
        tracing::warn!(connections, "fewer connections than configured: the limit of open files is low");
        limits.connections = connections;
    }
    Settings {
        clients: loaded.clients.clone(),
        limits,
        alert_limits: loaded.alert_limits.clone(),
        hosts: loaded.http.as_ref().map(|http| http.hosts.clone()).unwrap_or_default(),
        prefix: loaded.http.as_ref().map(|http| http.prefix.clone()).unwrap_or_default(),
        tls: loaded.http.as_ref().and_then(|http| http.tls.clone()),
        inbound: loaded.inbound.clone(),
        heartbeats: Arc::new(Heartbeats::of(&loaded.core)),
        server: Server { name: loaded.server_name.clone(), journal },
    }
}
