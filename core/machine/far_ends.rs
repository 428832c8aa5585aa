//! Servers of ours that alerts go to: which of them has them, what one that forgot them is told anew, and what is let go
//! where too much waits for them.

use alloc::{format, vec};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Machine,
    digests::Work,
    own::LOG_FORWARDING_ERROR,
    pending::{LaneRef, Told},
    pieces::{CHANGE, VISIT},
    state::{Member, OwnAlert},
};
use crate::{
    Severity,
    effect::{Decided, NotifyReason},
};

/// Alerts that are looked at in one piece of work.
const ROWS: u32 = 64;
/// Of what waits the oldest so many, among which the least severe is let go.
const OLDEST: usize = 256;

impl Machine {
    /// A server took what was sent to it, and said who it is. Another one than before, or one whose journal is another, does not
    /// know what fires.
    pub(super) fn note_far_end(&mut self, action: u32, memo: &[u8]) {
        if !self.state.actions[action as usize].spec.patient {
            return;
        }
        let Ok(now) = core::str::from_utf8(memo).map(SmolStr::new) else { return };
        let row = &mut self.state.actions[action as usize];
        let before = row.far_end.replace(now.clone());
        if let Some(before) = before.filter(|before| *before != now) {
            let id = row.spec.id.clone();
            self.record(Decided::FarEnd { action: id, before, now });
            self.works.push_back(Work::TellAnew { action, row: 0 });
        }
    }

    /// What fires is told to one action once more, unless it waits to be told anyhow, or is held back.
    pub(super) fn tell_anew(&mut self, action: u32, row: u32, left: &mut i64) -> Option<Work> {
        let end = row.saturating_add(ROWS).min(self.state.alerts.bound());
        for row in row..end {
            *left -= VISIT as i64;
            let Some(alert) = self.state.alerts.find(row) else { continue };
            // What merely happened is over.
            if !alert.firing || alert.one_shot {
                continue;
            }
            let members = alert.members.clone();
            for member in members {
                match member {
                    Member::Each(route) => self.tell_one_anew(action, row, route, left),
                    Member::Group(group) => self.tell_group_anew(action, row, group, left),
                }
            }
        }
        (end < self.state.alerts.bound()).then_some(Work::TellAnew { action, row: end })
    }

    fn tell_one_anew(&mut self, action: u32, row: u32, route: u32, left: &mut i64) {
        let node = &self.routing.nodes[route as usize];
        let identity = self.state.alerts[row].identity;
        let lane = LaneRef::Detached(identity);
        let is_told = node.actions.contains(&action) && self.state.about.get(&row) != Some(&action);
        if !is_told || self.state.head(lane, action).is_some() || self.is_muted_for(row, route) {
            return;
        }
        *left -= CHANGE as i64;
        let name = node.each.clone();
        let noted = self.noted(&self.state.alerts[row]).marked(true);
        let number = self.state.delivery_counter + 1;
        let told = Told::occurrence(noted);
        let notification = self.add_notification(name, number, NotifyReason::Occurrence, told, identity);
        let delivery = self.add_delivery(notification, action, lane);
        self.record_notify(delivery, NotifyReason::Occurrence);
        self.state.line_up(delivery);
        self.ready_head(lane, action);
    }

    fn tell_group_anew(&mut self, action: u32, row: u32, group: u32, left: &mut i64) {
        let identity = self.state.alerts[row].identity;
        let lanes = &mut self.state.groups[group].lanes;
        let Some(lane) = lanes.iter_mut().find(|lane| lane.action == action) else { return };
        let knew = |entry: &super::state::Entry| entry.firing.binary_search(&identity).is_ok();
        if lane.entry.as_ref().is_some_and(knew) {
            *left -= CHANGE as i64;
            (lane.entry, lane.hold) = (None, None);
            lane.remembered.clear();
            self.look_at_once(group);
        }
    }

    /// Whether more waits for an action than may; then some of it is let go.
    pub(super) fn has_too_many(&self, action: u32) -> bool {
        let row = &self.state.actions[action as usize];
        row.spec.pending_max.is_some_and(|most| row.pending > most)
    }

    /// Lets go what waits for an action that has too many: of the oldest the least severe, what is critical last.
    pub(super) fn shed(&mut self, action: u32, left: &mut i64) -> Option<Work> {
        for _ in 0..ROWS {
            if !self.has_too_many(action) {
                return None;
            }
            *left -= CHANGE as i64;
            // What is under way, or behind what is, is not let go: then there is nothing more to do.
            let delivery = self.least(action)?;
            let row = &mut self.state.actions[action as usize];
            row.shed += 1;
            let (id, shed) = (row.spec.id.clone(), row.shed);
            self.unready(delivery);
            self.record(Decided::Shed {
                delivery: self.state.deliveries[delivery].id,
                action: id.clone(),
                shed,
            });
            self.let_delivery_go(delivery);
            if shed == 1 || shed.is_multiple_of(1_000) {
                let summary =
                    format!("more than may wait for {id}: {shed} deliveries were dropped, the oldest first");
                self.to_raise.push(OwnAlert {
                    labels: vec![("action".into(), format_smolstr!("{id}"))],
                    about: Some(action),
                    ..OwnAlert::new(LOG_FORWARDING_ERROR, "34", Severity::Major, summary)
                });
            }
        }
        Some(Work::Shed { action })
    }

    fn least(&self, action: u32) -> Option<u32> {
        let rows = &self.state.deliveries;
        let severity = |delivery: &u32| match rows[*delivery].lane {
            LaneRef::Detached(identity) => {
                let alerts = &self.state.alerts;
                let alert = self.alert_table.find(identity, |row| alerts[row].identity == identity);
                alert.and_then(|row| alerts[row].severity)
            }
            LaneRef::Group { .. } => None,
        };
        let ready = &self.state.actions[action as usize].ready;
        let oldest = ready
            .least_urgent()
            .take(OLDEST)
            .map(|row| (rows[row].critical, severity(&row), rows[row].number, row));
        oldest.min().map(|(.., row)| row)
    }
}
