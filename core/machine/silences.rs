//! The silences that are kept: made, changed in place, replaced, ended, and forgotten after a while.

use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Machine, index::Index, muting::Holder, routing::Labels, slab::Slab, state::never, timers::Due};
use crate::{
    At, Severities, Wall,
    effect::{Decided, SilenceChange},
    matcher::Compiled,
    silence::{SetSilence, Silence, SilenceError, SilenceId, SilenceOrder, SilenceRules, SilenceState},
};

/// All silences, with what finds those that match an alert.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Silences {
    rows: Slab<SilenceRow>,
    /// Rows by id.
    by_id: BTreeMap<SilenceId, u32>,
    /// Made again from the rows.
    #[serde(skip)]
    compiled: BTreeMap<u32, Vec<Compiled>>,
    #[serde(skip)]
    index: Index,
}

/// A silence of the state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SilenceRow {
    pub silence: Silence,
    /// The record that set it last.
    pub set_by: u64,
    /// Since when it is over, on the journal's clock: a wall clock that is set back makes it hold again.
    over_since: Option<At>,
    #[serde(skip, default = "never")]
    pub armed: At,
}

/// What an order amounts to.
enum Plan {
    Create { replaces: Option<u32> },
    Update(u32),
    Expire(u32),
}

impl Silences {
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn id(&self, row: u32) -> SilenceId {
        self.rows[row].silence.id
    }

    pub fn find(&self, id: SilenceId) -> Option<&SilenceRow> {
        self.by_id.get(&id).map(|row| &self.rows[*row])
    }

    /// The row's note of its earliest timer.
    pub fn armed(&mut self, row: u32) -> Option<&mut At> {
        self.rows.find_mut(row).map(|known| &mut known.armed)
    }

    /// One past the highest row.
    pub fn bound(&self) -> u32 {
        self.rows.bound()
    }

    pub fn row(&self, row: u32) -> Option<&SilenceRow> {
        self.rows.find(row)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &SilenceRow> {
        self.by_id.values().map(|row| &self.rows[*row])
    }

    /// The rows of those that hold at this moment and match. `tried` counts the matchers that were tried.
    pub fn matching(
        &self,
        labels: &impl Labels,
        severities: &Severities,
        wall: Wall,
        tried: &mut usize,
    ) -> Vec<u32> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut matches = |m: &Compiled| {
            *tried += 1;
            m.matches(labels.value(&m.matcher.name), severities)
        };
        let holds = |row: &u32| {
            self.rows[*row].silence.state(wall) == SilenceState::Active
                && self.compiled.get(row).is_some_and(|matchers| matchers.iter().all(&mut matches))
        };
        self.index.candidates(labels).into_iter().filter(holds).collect()
    }

    /// Makes what finds them again, after a snapshot was read or the ranks of severities changed.
    pub fn rebuild(&mut self, severities: &Severities) {
        self.index = Index::default();
        self.compiled.clear();
        let holds_yet = |(_, known): &(u32, &SilenceRow)| known.over_since.is_none();
        let rows: Vec<u32> = self.rows.iter().filter(holds_yet).map(|(row, _)| row).collect();
        for row in rows {
            self.put_in_index(row, severities);
        }
    }

    /// One whose matchers no longer compile, since a severity has no rank any more, matches nothing.
    fn put_in_index(&mut self, row: u32, severities: &Severities) {
        let matchers = self.rows[row].silence.matchers.iter();
        if let Ok(matchers) = matchers.map(|m| m.compile(severities)).collect::<Result<Vec<_>, _>>() {
            self.index.insert(row, &matchers);
            self.compiled.insert(row, matchers);
        }
    }

    /// One that is over costs no alert anything.
    fn take_out_of_index(&mut self, row: u32) {
        if let Some(matchers) = self.compiled.remove(&row) {
            self.index.remove(row, &matchers);
        }
    }

    fn remove(&mut self, row: u32) {
        self.take_out_of_index(row);
        if let Some(row) = self.rows.remove(row) {
            self.by_id.remove(&row.silence.id);
        }
    }
}

impl Machine {
    /// Whether an order can be followed at this moment, and what it amounts to. The shell asks before it appends, the
    /// fold asks again.
    pub fn check_silence(&self, order: &SilenceOrder, now: Wall) -> Result<(), SilenceError> {
        self.plan(order, now).map(drop)
    }

    fn plan(&self, order: &SilenceOrder, now: Wall) -> Result<Plan, SilenceError> {
        let row_of =
            |id: SilenceId| self.state.silences.by_id.get(&id).copied().ok_or(SilenceError::Unknown(id));
        match order {
            SilenceOrder::Expire { id, .. } => Ok(Plan::Expire(row_of(*id)?)),
            SilenceOrder::Set(set) => {
                let known = set.id.map(row_of).transpose()?;
                let rules = self.state.config().map(|config| config.silences.clone()).unwrap_or_default();
                self.check_texts(set, &rules)?;
                let starts = set.starts.unwrap_or(now);
                if set.ends <= starts {
                    return Err(SilenceError::EndsBeforeStart);
                }
                if set.ends <= now {
                    return Err(SilenceError::EndsInPast);
                }
                if let Some(row) = known
                    && can_update(&self.state.silences.rows[row].silence, set, starts, now)
                {
                    return Ok(Plan::Update(row));
                }
                let have = self.state.silences.len() as u32;
                if rules.max > 0 && have >= rules.max {
                    return Err(SilenceError::TooMany { have, max: rules.max });
                }
                Ok(Plan::Create { replaces: known })
            }
        }
    }

    fn check_texts(&self, set: &SetSilence, rules: &SilenceRules) -> Result<(), SilenceError> {
        let severities = self.routing.severities();
        let matchers = set.matchers.iter().map(|m| m.compile(severities)).collect::<Result<Vec<_>, _>>()?;
        if matchers.is_empty() {
            return Err(SilenceError::NoMatcher);
        }
        if matchers.iter().all(|m| m.matcher.op.is_positive() && m.matches("", severities)) {
            return Err(SilenceError::MatchesEmpty);
        }
        if rules.needs_comment && set.comment.trim().is_empty() {
            return Err(SilenceError::NoComment);
        }
        if rules.needs_author && set.by.trim().is_empty() {
            return Err(SilenceError::NoAuthor);
        }
        let texts = wanted(set, SilenceId::default(), Wall(0), Wall(0)).text_bytes();
        let bytes = u32::try_from(texts).unwrap_or(u32::MAX);
        if rules.bytes_max > 0 && bytes > rules.bytes_max {
            return Err(SilenceError::TooLarge { bytes, max: rules.bytes_max });
        }
        Ok(())
    }

    /// Somebody makes, changes or ends a silence.
    pub(super) fn order_silence(&mut self, order: &SilenceOrder) {
        let now = self.now.wall(self.state.wall_offset());
        let by = match order {
            SilenceOrder::Set(set) => set.signed(),
            SilenceOrder::Expire { by, .. } => by.clone(),
        };
        match (self.plan(order, now), order) {
            (Err(error), _) => self.record(Decided::SilenceRefused { error, by }),
            (Ok(Plan::Expire(row)), _) => self.expire(row, SilenceChange::Expired, &by),
            (Ok(Plan::Update(row)), SilenceOrder::Set(set)) => {
                let known = &self.state.silences.rows[row].silence;
                // While it holds, its beginning is what it was.
                let starts = match known.state(now) {
                    SilenceState::Active => known.starts,
                    _ => set.starts.unwrap_or(now),
                };
                let silence = wanted(set, known.id, starts, now);
                let id = silence.id;
                let known = &mut self.state.silences.rows[row];
                (known.silence, known.set_by) = (silence, self.seq);
                self.record(Decided::Silence { id, change: SilenceChange::Updated, by });
                self.silence_due(row);
            }
            (Ok(Plan::Create { replaces }), SilenceOrder::Set(set)) => {
                if let Some(old) = replaces {
                    self.expire(old, SilenceChange::Replaced, &by);
                }
                let starts = set.starts.unwrap_or(now).max(now);
                let silence = wanted(set, set.fresh, starts, now);
                let id = silence.id;
                let row = SilenceRow { silence, set_by: self.seq, over_since: None, armed: At::NEVER };
                let row = self.state.silences.rows.insert(row);
                self.state.silences.by_id.insert(id, row);
                self.state.silences.put_in_index(row, self.routing.severities());
                self.record(Decided::Silence { id, change: SilenceChange::Created, by });
                self.silence_due(row);
            }
            (Ok(_), _) => {}
        }
    }

    /// Ends a silence now, if it is not over.
    fn expire(&mut self, row: u32, change: SilenceChange, by: &SmolStr) {
        let now = self.now.wall(self.state.wall_offset());
        let known = &mut self.state.silences.rows[row];
        if known.silence.state(now) == SilenceState::Expired {
            return;
        }
        known.silence.starts = known.silence.starts.min(now);
        (known.silence.ends, known.silence.updated) = (now, now);
        let id = known.silence.id;
        self.record(Decided::Silence { id, change, by: by.clone() });
        self.silence_over(row);
    }

    /// The time of a silence has come: it is over, or was for long enough to be forgotten.
    pub(super) fn silence_due(&mut self, row: u32) {
        let now = self.now.wall(self.state.wall_offset());
        let kept_ms = self.silence_retention_ms();
        let Some(known) = self.state.silences.rows.find_mut(row) else { return };
        let id = known.silence.id;
        match (known.silence.state(now), known.over_since) {
            (SilenceState::Expired, Some(since)) if self.now >= since.plus(kept_ms) => {
                self.state.silences.remove(row);
                return;
            }
            (SilenceState::Expired, None) => {
                self.record(Decided::Silence { id, change: SilenceChange::Ended, by: SmolStr::default() });
                self.silence_over(row);
            }
            (now @ (SilenceState::Active | SilenceState::Pending), over) => {
                known.over_since = None;
                if over.is_some() {
                    // The wall clock was set back.
                    self.state.silences.put_in_index(row, self.routing.severities());
                }
                if now == SilenceState::Pending {
                    // What it held is held no longer.
                    self.let_go(&Holder::Silence(row));
                }
            }
            (SilenceState::Expired, Some(_)) => {}
        }
        self.arm_silence(row);
    }

    fn silence_over(&mut self, row: u32) {
        self.state.silences.rows[row].over_since = Some(self.now);
        self.state.silences.take_out_of_index(row);
        self.let_go(&Holder::Silence(row));
        self.arm_silence(row);
    }

    fn silence_retention_ms(&self) -> u64 {
        self.state
            .config()
            .map_or(SilenceRules::default().retention_ms, |config| config.silences.retention_ms)
    }

    /// When something is due with a silence.
    pub(super) fn silence_due_at(&self, row: u32) -> At {
        let Some(known) = self.state.silences.rows.find(row) else { return At::NEVER };
        match known.over_since {
            Some(since) => since.plus(self.silence_retention_ms()),
            None => known.silence.ends.at(self.state.wall_offset()),
        }
    }

    pub(super) fn arm_silence(&mut self, row: u32) {
        let due = self.silence_due_at(row);
        if let Some(known) = self.state.silences.rows.find_mut(row) {
            self.timers.arm(&mut known.armed, due, Due::Silence(row));
        }
    }

    /// Sets the timer of each silence anew.
    pub(super) fn arm_silences(&mut self) {
        for row in 0..self.state.silences.rows.bound() {
            if let Some(known) = self.state.silences.rows.find_mut(row) {
                known.armed = At::NEVER;
                self.arm_silence(row);
            }
        }
    }

    /// The wall clock was set: silences may be over that were not, and hold that were over.
    pub(super) fn silences_at_new_time(&mut self) {
        for row in 0..self.state.silences.rows.bound() {
            if self.state.silences.rows.find(row).is_some() {
                self.silence_due(row);
            }
        }
    }
}

/// The silence that an order asks for.
fn wanted(set: &SetSilence, id: SilenceId, starts: Wall, updated: Wall) -> Silence {
    Silence {
        id,
        matchers: set.matchers.clone(),
        starts,
        ends: set.ends,
        updated,
        by: set.by.clone(),
        comment: set.comment.clone(),
        annotations: set.annotations.clone(),
        client: set.client.clone(),
    }
}

/// Alertmanager's `canUpdate`: whether it stays the same silence.
fn can_update(known: &Silence, set: &SetSilence, starts: Wall, now: Wall) -> bool {
    const SECOND_MS: i64 = 1_000;
    known.matchers == set.matchers
        && match known.state(now) {
            SilenceState::Active => {
                known.starts.0.div_euclid(SECOND_MS) == starts.0.div_euclid(SECOND_MS) && set.ends >= now
            }
            SilenceState::Pending => starts >= now,
            SilenceState::Expired => false,
        }
}
