//! Alerts: what an arrival means for what is known, and what becomes of alerts as time goes by.

use alloc::{boxed::Box, vec::Vec};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

use super::{
    Machine,
    ids::Bounds,
    interner::{Interner, Sym},
    operate::RouteName,
    own::OWN_CLIENT,
    routing::Labels,
    state::{Alert, Member},
    timers::Due,
};
use crate::{
    AlertRef, At, Wall,
    config::Notify,
    effect::{AlertChange, Decided, NotifyReason},
    input::Position,
    trail,
};

/// Most `id`s that are remembered, and for how long.
pub(crate) const IDS: Bounds = Bounds { most: 1_000_000, age_ms: 24 * 3_600_000 };
/// Places of forwarded alerts that are remembered: longer than a server may be away that sends once more what it had no
/// answer to.
pub(crate) const ORIGINS: Bounds = Bounds { most: 1_000_000, age_ms: 40 * 24 * 3_600_000 };

/// When something is due with an alert: its end, or the end of its acknowledgement.
pub(super) fn due(alert: &Alert) -> At {
    let end = if alert.firing { alert.ends } else { At::NEVER };
    let acknowledged = alert.acknowledged.as_ref().and_then(|ack| ack.until).unwrap_or(At::NEVER);
    end.min(acknowledged)
}

/// An alert of the table as something with labels.
pub(super) struct RowLabels<'a> {
    pub strings: &'a Interner,
    pub labels: &'a [(Sym, Sym)],
}

impl Labels for RowLabels<'_> {
    fn value(&self, name: &str) -> &str {
        let Some(name) = self.strings.find(name) else { return "" };
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| self.strings.text(*value))
    }
}

/// Generator URL and annotations in one piece of memory: each string with its length (LEB128) before it.
pub(super) struct Text;

impl Text {
    pub fn of(alert: &AlertRef<'_>) -> Box<[u8]> {
        let strings = core::iter::once(alert.generator_url().unwrap_or(""))
            .chain(alert.annotations().flat_map(|(name, value)| [name, value]));
        let mut bytes = Vec::with_capacity(strings.clone().map(|text| text.len() + 2).sum());
        for text in strings {
            let mut length = text.len();
            while length >= 0x80 {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.into()
    }

    pub fn strings(bytes: &[u8]) -> impl Iterator<Item = &str> {
        let mut rest = bytes;
        core::iter::from_fn(move || {
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let (&byte, tail) = rest.split_first()?;
                rest = tail;
                length |= usize::from(byte & 0x7F) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let (text, tail) = rest.split_at_checked(length)?;
            rest = tail;
            core::str::from_utf8(text).ok()
        })
    }

    fn equals(bytes: &[u8], alert: &AlertRef<'_>) -> bool {
        let mut known = Text::strings(bytes);
        let mut next = || known.next().unwrap_or("");
        next() == alert.generator_url().unwrap_or("")
            && alert.annotations().all(|(name, value)| next() == name && next() == value)
            && known.next().is_none()
    }
}

impl Machine {
    /// One alert arrived, or was raised by the router itself.
    pub(super) fn accept(
        &mut self,
        client: &str,
        alert: AlertRef<'_>,
        position: Position,
        about: Option<u32>,
    ) {
        self.state.totals.arrived += 1;
        let identity = self.identity(alert.labels());
        let (starts, ends, by_timeout) = self.times_of(&alert);
        if self.is_duplicate(client, &alert, identity, starts, ends) {
            self.state.totals.duplicates += 1;
            self.record(Decided::DuplicateId { alert: alert.fingerprint(), position });
            return;
        }
        if let Some(row) = self.find_key(client, &alert)
            && self.state.alerts[row].identity != identity
        {
            // Whoever was told of it hears that it is over, in the words that it had.
            self.end_by_key(row, position);
            if ends <= self.now {
                return;
            }
        }
        match self.find_alert(identity, &alert) {
            Some(row) => self.seen_again(client, row, &alert, position, starts, ends, by_timeout),
            None => self.seen_first(client, &alert, position, identity, starts, ends, by_timeout, about),
        }
    }

    /// Start, end and whether the end is only the timeout, by Alertmanager's rules; but what is said only to end later
    /// begins now (for Alertmanager it begins when it ends).
    fn times_of(&self, alert: &AlertRef<'_>) -> (Wall, At, bool) {
        let offset = self.state.wall_offset();
        let times = alert.times();
        let now = self.now.wall(offset);
        let starts = times.starts_at.or(times.ends_at.filter(|ends| *ends < now)).unwrap_or(now);
        match times.ends_at {
            Some(ends) => (starts, ends.at(offset), false),
            None => {
                let timeout =
                    self.state.config().map_or(crate::config::RESOLVE_TIMEOUT_MS, |c| c.resolve_timeout_ms);
                (starts, self.now.plus(timeout), true)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn seen_first(
        &mut self,
        client: &str,
        alert: &AlertRef<'_>,
        position: Position,
        identity: u64,
        starts: Wall,
        ends: At,
        by_timeout: bool,
        about: Option<u32>,
    ) {
        let word = alert.label("severity");
        let severity = self.state.config().and_then(|config| config.severities.rank(word));
        if severity.is_none() && !word.is_empty() {
            self.state.totals.unknown_severity += 1;
        }
        let strings = &mut self.state.strings;
        let labels =
            alert.labels().map(|(name, value)| (strings.intern(name), strings.intern(value))).collect();
        let firing = ends > self.now;
        let row = self.state.alerts.insert(Alert {
            labels,
            text: Text::of(alert),
            identity,
            fingerprint: alert.fingerprint(),
            position,
            starts,
            ends,
            updated: self.now,
            changed: 0,
            client: self.state.strings.intern(client),
            severity,
            firing,
            by_timeout,
            one_shot: is_one_shot(alert),
            members: Box::default(),
            pins: 0,
            acknowledged: None,
            key: None,
            armed: At::NEVER,
        });
        self.alert_table.insert(identity, row);
        self.name_by_key(row, alert);
        if let Some(action) = about {
            self.state.about.insert(row, action);
        }
        self.own_text_uses(position, 1);
        self.arm_alert(row);
        if firing {
            self.source_changed(row);
        }
        let change = if firing { AlertChange::Fired } else { AlertChange::ArrivedResolved };
        self.changed(row, change, position);
    }

    /// A known alert arrived: Alertmanager's merge, then what that amounts to.
    #[allow(clippy::too_many_arguments)]
    fn seen_again(
        &mut self,
        client: &str,
        row: u32,
        alert: &AlertRef<'_>,
        position: Position,
        starts: Wall,
        ends: At,
        by_timeout: bool,
    ) {
        let now = self.now;
        let offset = self.state.wall_offset();
        let known = &mut self.state.alerts[row];
        let (old_starts, old_ends) = (known.starts, known.ends.wall(offset));
        let inside = |moment: Wall| old_starts < moment && moment < old_ends;
        let (was_firing, is_resolved) = (known.firing, ends <= now);
        let (mut starts, mut ends) = (starts, ends);
        if inside(starts) || inside(ends.wall(offset)) {
            starts = starts.min(old_starts);
            if is_resolved && !was_firing {
                ends = ends.max(known.ends);
            } else if !is_resolved && known.ends > ends && !known.by_timeout {
                // Whether the end counts as a timeout is the newer one's word, as Alertmanager has it.
                ends = known.ends;
            }
        }
        let again = self.is_as_alertmanager().then_some(AlertChange::ArrivedResolved);
        let known = &mut self.state.alerts[row];
        let same_text = Text::equals(&known.text, alert);
        let same = same_text && known.starts == starts;
        (known.starts, known.ends, known.by_timeout, known.updated) = (starts, ends, by_timeout, now);
        known.firing = ends > now;
        let is_firing = known.firing;
        if !same_text {
            known.text = Text::of(alert);
        }
        if !was_firing {
            self.forget_key(row);
        }
        if self.state.strings.text(self.state.alerts[row].client) == client {
            self.name_by_key(row, alert);
        }
        let known = &mut self.state.alerts[row];
        let change = match (was_firing, is_firing) {
            (true, true) if alert.id().is_some() => Some(AlertChange::Occurred),
            (true, true) if same => None,
            (true, true) => Some(AlertChange::Updated),
            (false, true) => Some(AlertChange::Fired),
            (true, false) => Some(AlertChange::Resolved),
            (false, false) => again,
        };
        if !matches!(change, None | Some(AlertChange::Updated | AlertChange::Resolved)) {
            known.one_shot = is_one_shot(alert);
        } else if alert.id().is_none() && !by_timeout {
            // Somebody says when it ends: that end is not the timeout of something that merely happened.
            known.one_shot = false;
        }
        // A mere refresh that is the newest text of the alert lets the older one go with its segment.
        let old_position = core::mem::replace(&mut known.position, position);
        if old_position != position && (old_position.is_raised() || position.is_raised()) {
            self.own_text_uses(position, 1);
            self.own_text_uses(old_position, -1);
        }
        self.arm_alert(row);
        if was_firing != is_firing {
            self.source_changed(row);
        }
        match change {
            None => self.state.totals.refreshed += 1,
            Some(change) => self.changed(row, change, position),
        }
    }

    /// The alert of this client that fires and has the key of another, if that has one.
    fn find_key(&self, client: &str, alert: &AlertRef<'_>) -> Option<u32> {
        self.row_of_key(client, alert.key()?)
    }

    /// The alert of this client that fires and has this key.
    pub(super) fn row_of_key(&self, client: &str, key: &str) -> Option<u32> {
        let strings = &self.state.strings;
        let same = |row| {
            let known: &Alert = &self.state.alerts[row];
            known.firing
                && known.key.is_some_and(|known| strings.text(known) == key)
                && strings.text(known.client) == client
        };
        self.key_table.find(self.hash_key(client, key), same)
    }

    /// An alert has the key that it came with last.
    fn name_by_key(&mut self, row: u32, alert: &AlertRef<'_>) {
        let Some(key) = alert.key() else { return };
        if self.state.alerts[row].key.is_some_and(|known| self.state.strings.text(known) == key) {
            return;
        }
        self.forget_key(row);
        self.state.alerts[row].key = Some(self.state.strings.intern(key));
        let hash = self.hash_key_of(row).expect("it has one");
        self.key_table.insert(hash, row);
    }

    fn forget_key(&mut self, row: u32) {
        let Some(hash) = self.hash_key_of(row) else { return };
        self.key_table.remove(hash, row);
        if let Some(key) = self.state.alerts[row].key.take() {
            self.state.strings.release(key);
        }
    }

    /// The hash by which an alert's key is found, if it has one.
    pub(super) fn hash_key_of(&self, row: u32) -> Option<u64> {
        let Alert { key, client, .. } = &self.state.alerts[row];
        let key = self.state.strings.text((*key)?);
        Some(self.hash_key(self.state.strings.text(*client), key))
    }

    fn hash_key(&self, client: &str, key: &str) -> u64 {
        self.keyed_hash([client.as_bytes(), key.as_bytes()].into_iter()) as u64
    }

    /// An alert ends now, by what was said of its key: its text stays.
    fn end_by_key(&mut self, row: u32, position: Position) {
        let now = self.now;
        let alert = &mut self.state.alerts[row];
        (alert.ends, alert.by_timeout, alert.updated, alert.firing) = (now, false, now, false);
        // Somebody says when it ends: it is nothing that merely happened.
        alert.one_shot = false;
        self.arm_alert(row);
        self.source_changed(row);
        self.changed(row, AlertChange::EndedByKey, position);
    }

    /// An alert began, ended, changed or happened once more: records it and tells those who must know.
    fn changed(&mut self, row: u32, change: AlertChange, position: Position) {
        if change != AlertChange::Updated {
            let moment = self.state.next_moment();
            self.state.alerts[row].changed = moment;
        }
        let alert = &mut self.state.alerts[row];
        let fingerprint = alert.fingerprint;
        let ack_ended = change != AlertChange::Updated && alert.acknowledged.take().is_some();
        self.record(Decided::Alert { alert: fingerprint, position, change });
        if ack_ended {
            self.record(Decided::Acknowledge { alert: fingerprint, by: None, until: None });
        }
        if change == AlertChange::ArrivedResolved {
            // Nobody was told that it fired: there is nothing to take back. Senders repeat resolves for a while.
            // Alertmanager takes it for news, and tells it beside what fires in its groups.
            if self.is_as_alertmanager() {
                self.join(row);
            }
            self.forget_if_over(row);
            return;
        }
        if change == AlertChange::Fired || self.state.alerts[row].members.is_empty() {
            // It may still be in some of its groups, where its end is not told yet, and gone from others.
            self.join(row);
        } else if change != AlertChange::Updated {
            for index in 0..self.state.alerts[row].members.len() {
                if let Member::Group(group) = self.state.alerts[row].members[index] {
                    self.touch(group);
                }
            }
        }
        if change == AlertChange::Fired {
            self.forget_told(row);
            self.wait_no_longer(row);
        }
        if matches!(change, AlertChange::Fired | AlertChange::Occurred) {
            self.count_held_back(row);
        }
        self.tell_each(row, change);
        self.forget_if_over(row);
    }

    /// Counts an alert that came in and that no route leads to another server, for each that there is a way to.
    fn count_held_back(&mut self, row: u32) {
        let alert = &self.state.alerts[row];
        if self.routing.forwarders.is_empty() || self.state.strings.text(alert.client) == OWN_CLIENT {
            return;
        }
        let route_of = |member: &Member| match member {
            Member::Group(group) => self.state.groups[*group].route,
            Member::Each(route) => *route,
        };
        let routes: Vec<u32> = alert.members.iter().map(route_of).collect();
        for number in &self.routing.forwarders {
            let leads_there = |route: &u32| self.routing.nodes[*route as usize].actions.contains(number);
            if !routes.iter().any(leads_there) {
                self.state.actions[*number as usize].tally.held_back += 1;
            }
        }
    }

    /// Tells routes with `notify: each`.
    pub(super) fn tell_each(&mut self, row: u32, change: AlertChange) {
        let reason = match change {
            AlertChange::Fired | AlertChange::Occurred => Some(NotifyReason::Occurrence),
            AlertChange::Resolved | AlertChange::EndedByKey => Some(NotifyReason::Ended),
            AlertChange::TimedOut if self.state.alerts[row].one_shot => None,
            AlertChange::TimedOut => Some(NotifyReason::Ended),
            AlertChange::Updated | AlertChange::ArrivedResolved => return,
        };
        for index in 0..self.state.alerts[row].members.len() {
            let Member::Each(route) = self.state.alerts[row].members[index] else { continue };
            match reason {
                Some(reason) => self.notify_each(row, route, reason, change != AlertChange::Fired),
                None => self.over_untold(row, route),
            }
        }
    }

    /// Finds the routes of an alert and makes it a member of their groups. One that ended, at a config change: only of those
    /// that still have to tell it.
    pub(super) fn join(&mut self, row: u32) {
        let alert = &self.state.alerts[row];
        let fingerprint = alert.fingerprint;
        let labels = RowLabels { strings: &self.state.strings, labels: &alert.labels };
        let mut routes = self.routing.routes(&labels);
        if let Some(moving) = self.moving.as_ref().filter(|_| !alert.firing) {
            let names: Vec<RouteName> = routes.iter().map(|route| self.route_name(*route)).collect();
            let mut goes_on = names.iter().map(|name| moving.goes_on(name, &names));
            routes.retain(|_| goes_on.next().unwrap_or(true));
        }
        let mut members = Vec::with_capacity(routes.len());
        for route in routes {
            let node = &self.routing.nodes[route as usize];
            members.push(match node.notify {
                Notify::Group => Member::Group(self.join_group(row, route)),
                Notify::Each => {
                    let known = match &self.moving {
                        Some(moving) => moving.was_told_by(&self.route_name(route)),
                        None => self.state.alerts[row].members.contains(&Member::Each(route)),
                    };
                    if !known {
                        let (group, receiver) = (node.each.clone(), self.receiver_name(route));
                        self.record(Decided::Routed { alert: fingerprint, group, receiver });
                    }
                    Member::Each(route)
                }
            });
        }
        self.state.alerts[row].members = members.into();
    }

    /// An alert's end or the end of its acknowledgement has come.
    pub(super) fn alert_due(&mut self, row: u32) {
        let now = self.now;
        let alert = &mut self.state.alerts[row];
        if alert.acknowledged.as_ref().is_some_and(|ack| ack.until.is_some_and(|until| until <= now)) {
            alert.acknowledged = None;
            let fingerprint = alert.fingerprint;
            self.record(Decided::Acknowledge { alert: fingerprint, by: None, until: None });
            for index in 0..self.state.alerts[row].members.len() {
                if let Member::Group(group) = self.state.alerts[row].members[index] {
                    self.touch(group);
                }
            }
        }
        let alert = &mut self.state.alerts[row];
        if alert.firing && alert.ends <= now {
            alert.firing = false;
            let position = alert.position;
            self.source_changed(row);
            self.changed(row, AlertChange::TimedOut, position);
        }
        if self.state.alerts.find(row).is_some() {
            self.arm_alert(row);
        }
    }

    pub(super) fn arm_alert(&mut self, row: u32) {
        let alert = &mut self.state.alerts[row];
        let due = due(alert);
        self.timers.arm(&mut alert.armed, due, Due::Alert(row));
    }

    /// Forgets an alert that ended and that no group and no pending delivery needs.
    pub(super) fn forget_if_over(&mut self, row: u32) {
        let Some(alert) = self.state.alerts.find(row) else { return };
        let in_group = alert.members.iter().any(|member| matches!(member, Member::Group(_)));
        if alert.firing || in_group || alert.pins > 0 {
            return;
        }
        self.forget_key(row);
        let alert = self.state.alerts.remove(row).expect("it was found above");
        self.alert_table.remove(alert.identity, row);
        for (name, value) in alert.labels {
            self.state.strings.release(name);
            self.state.strings.release(value);
        }
        self.state.strings.release(alert.client);
        self.state.about.remove(&row);
        self.forget_alert_mutes(row);
        self.own_text_uses(alert.position, -1);
    }

    /// Whether this came before. An id names an occurrence of one alert: the same id with other labels is another's,
    /// and with an end it says that the occurrence is over. What other servers hand on is known by where it was accepted first,
    /// whichever way it took.
    fn is_duplicate(
        &mut self,
        client: &str,
        alert: &AlertRef<'_>,
        identity: u64,
        starts: Wall,
        ends: At,
    ) -> bool {
        let now = self.now;
        if let Some(origin) = alert.annotation(trail::ORIGIN) {
            // A journal that was restored from a copy gives a place twice: to what began at another time.
            let over = [u8::from(ends <= now)];
            let (identity, starts) = (identity.to_le_bytes(), starts.0.to_le_bytes());
            let parts = [origin.as_bytes(), &identity, &starts, &over];
            let name = self.keyed_hash(parts.into_iter());
            let sender = self.keyed_hash([trail::server_of(origin).as_bytes()].into_iter()) as u64;
            return self.state.origins.is_known(sender, name, now, ORIGINS);
        }
        let Some(id) = alert.id() else { return false };
        let has_end = [u8::from(alert.times().ends_at.is_some())];
        let parts = [client.as_bytes(), id.as_bytes(), &identity.to_le_bytes(), &has_end];
        let name = self.keyed_hash(parts.into_iter());
        let sender = self.keyed_hash([client.as_bytes()].into_iter()) as u64;
        self.state.ids.is_known(sender, name, now, IDS)
    }

    pub(super) fn identity<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.state.seed[0], self.state.seed[1]);
        for (name, value) in labels {
            // No UTF-8 text holds the byte 0xFF.
            hasher.write(name.as_bytes());
            hasher.write_u8(0xFF);
            hasher.write(value.as_bytes());
            hasher.write_u8(0xFF);
        }
        hasher.finish()
    }

    pub(super) fn find_alert(&self, identity: u64, alert: &AlertRef<'_>) -> Option<u32> {
        let strings = &self.state.strings;
        let same = |row| {
            let known = &self.state.alerts[row];
            known.identity == identity
                && known.labels.len() == alert.labels().len()
                && known.labels.iter().zip(alert.labels()).all(
                    |((known_name, known_value), (name, value))| {
                        strings.text(*known_name) == name && strings.text(*known_value) == value
                    },
                )
        };
        self.alert_table.find(identity, same)
    }
}

/// Something that happened, not something that lasts: it has a name of its own and no end.
fn is_one_shot(alert: &AlertRef<'_>) -> bool {
    alert.id().is_some() && alert.times().ends_at.is_none()
}
