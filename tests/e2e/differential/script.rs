//! Seeded scripts: a configuration of Alertmanager, and what happens to it step by step. All times are relative to the
//! moments at which the steps are played, so that both sides get the same.

use std::{collections::BTreeMap, fmt};

use super::{
    super::harness::Dice,
    config::{Config, LABELS, Matcher, Op, Style, matchers},
};

/// What a script is about. Some things do not go together: see docs/alertmanager.md on what Alertmanager does at a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Silences, inhibition, muting times, ends that come again.
    Holding,
    /// Changes of the configuration.
    Reloading,
    /// A route that repeats at each turn.
    Repeating,
}

/// Everything that one seed makes.
pub struct Script {
    pub seed: u64,
    pub kind: Kind,
    pub config: Config,
    /// The alerts that occur.
    pub alerts: Vec<Alert>,
    pub steps: Vec<Step>,
}

/// A label set, and whether its sender says when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub labels: BTreeMap<&'static str, &'static str>,
    pub timed: bool,
}

/// So long after a step was played.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub step: usize,
    pub offset_ms: i64,
}

/// One alert of a request.
#[derive(Clone, Debug)]
pub struct Posted {
    pub alert: usize,
    pub summary: u64,
    pub starts: Option<Moment>,
    pub ends: Option<Moment>,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Does {
    /// Requests with alerts, one right after the other.
    Post(Vec<Vec<Posted>>),
    /// A request with one alert that is none among others.
    PostWithInvalid(Vec<Posted>),
    /// An end comes once more, as Prometheus repeats it.
    Again(Posted),
    /// A silence, for so many milliseconds.
    Silence(Vec<Matcher>, i64),
    /// The end of the silence that was made as this one, counted from 0.
    Expire(usize),
    /// Another end for it, in place.
    Extend(usize),
    /// Other matchers for it: a new one takes its place.
    Replace(usize, Vec<Matcher>),
    /// Another configuration.
    Reload(Box<Config>),
    /// A configuration that must be refused.
    ReloadBroken,
}

/// Something that happens and what follows from it.
#[derive(Clone, Debug)]
pub struct Step {
    pub does: Does,
    /// The last thing that follows is due so long after it.
    pub due_ms: u64,
}

impl Step {
    /// Whether Alertmanager looks at groups at once, so that this moment becomes one of their turns: then it is half a beat
    /// after the others, where turns are.
    pub fn is_at_turn(&self) -> bool {
        matches!(self.does, Does::Reload(_) | Does::ReloadBroken | Does::Again(_))
    }
}

/// How an alert stands after the steps so far.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Unknown,
    Firing { starts: Moment },
    Ended { starts: Moment, ends: Moment },
}

/// What the steps so far have led to.
struct World<'a> {
    dice: &'a mut Dice,
    kind: Kind,
    alerts: Vec<Alert>,
    standing: Vec<Standing>,
    /// Silences in force: number and matchers.
    silences: Vec<(usize, Vec<Matcher>)>,
    silences_made: usize,
    config: Config,
    summaries: u64,
}

/// Steps of a script.
const STEPS: usize = 11;
/// How long what ends by itself lasts, in milliseconds.
const SHORT_MS: i64 = 2_000;
/// How long everything else would.
const LONG_MS: i64 = 3_600_000;

impl Script {
    pub fn new(seed: u64) -> Script {
        let dice = &mut Dice::of(seed);
        let kind = *dice.pick(&[Kind::Holding, Kind::Holding, Kind::Reloading, Kind::Repeating]);
        let timeout_s = dice.one_in(4).then_some(3);
        let config = Config::new(dice, kind, timeout_s);
        let alerts = pool(dice, timeout_s.is_some());
        let standing = vec![Standing::Unknown; alerts.len()];
        let mut world = World {
            dice,
            kind,
            alerts,
            standing,
            silences: Vec::new(),
            silences_made: 0,
            config: config.clone(),
            summaries: 0,
        };
        let steps = (0..STEPS).map(|number| world.step(number)).collect();
        Script { seed, kind, config, alerts: world.alerts, steps }
    }

    /// The longest time between two looks at a group, in any of its configurations.
    pub fn interval_ms(&self) -> u64 {
        let later = self.steps.iter().filter_map(|step| match &step.does {
            Does::Reload(config) => Some(config.interval_ms()),
            _ => None,
        });
        later.fold(self.config.interval_ms(), u64::max)
    }
}

/// Label sets of which the script's alerts are.
fn pool(dice: &mut Dice, timeouts: bool) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let count = 6 + dice.below(4) as usize;
    while alerts.len() < count {
        let mut labels: BTreeMap<&str, &str> =
            LABELS.iter().map(|(name, values)| (*name, *dice.pick(values))).collect();
        match dice.below(6) {
            0 => drop(labels.insert("text", "\"q\" <&> \\d ü\n")),
            1 => drop(labels.insert("job", "node")),
            2 => drop(labels.remove("alertname")),
            // Empty labels are none.
            3 => drop(labels.insert("empty", "")),
            _ => {}
        }
        let timed = !timeouts || !dice.one_in(3);
        if alerts.iter().all(|known| known.labels != labels) {
            alerts.push(Alert { labels, timed });
        }
    }
    alerts
}

impl World<'_> {
    fn step(&mut self, number: usize) -> Step {
        let firing =
            self.standing.iter().filter(|standing| matches!(standing, Standing::Firing { .. })).count();
        loop {
            // First something must fire.
            let choice = if firing == 0 && self.dice.one_in(2) { 0 } else { self.dice.below(13) };
            let does = match choice {
                0..=2 => self.fire(number),
                3 | 4 => self.resolve(number),
                5 => self.both(number),
                6 => self.blip(number),
                7 => self.ended_only(number),
                8 => self.again(number),
                9 => self.silence(),
                10 => self.change_silence(),
                11 | 12 => self.reload(number),
                _ => None,
            };
            if let Some(step) = does {
                return step;
            }
        }
    }

    fn some(&mut self, of: impl Fn(&World<'_>, usize) -> bool) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..self.alerts.len()).filter(|alert| of(self, *alert)).collect();
        let most = 1 + self.dice.below(4) as usize;
        while chosen.len() > most {
            let out = self.dice.below(chosen.len() as u64) as usize;
            chosen.remove(out);
        }
        chosen
    }

    fn is_firing(&self, alert: usize) -> bool {
        matches!(self.standing[alert], Standing::Firing { .. })
    }

    fn is_silenced(&self, alert: usize) -> bool {
        let holds =
            |matchers: &[Matcher]| matchers.iter().all(|matcher| matcher.matches(&self.alerts[alert]));
        self.silences.iter().any(|(_, matchers)| holds(matchers))
    }

    fn posted_firing(&mut self, alert: usize, step: usize, lasts_ms: Option<i64>) -> Posted {
        self.summaries += self.dice.below(2);
        let at = |offset_ms| Moment { step, offset_ms };
        let posted = Posted { alert, summary: self.summaries, starts: None, ends: None };
        if !self.alerts[alert].timed {
            return posted;
        }
        let starts = match self.standing[alert] {
            Standing::Firing { starts } => starts,
            _ => at(-200 * self.dice.below(2) as i64),
        };
        // Who gives a start may leave the end open, where that does not end it soon.
        let open = self.config.timeout_s.is_none() && self.dice.one_in(3);
        let ends = lasts_ms.or((!open).then_some(LONG_MS)).map(at);
        Posted { starts: Some(starts), ends, ..posted }
    }

    /// What the alert's standing is after this.
    fn note(&mut self, posted: &Posted, step: usize) {
        let starts = posted.starts.unwrap_or(Moment { step, offset_ms: 0 });
        self.standing[posted.alert] = match posted.ends {
            Some(ends) if ends.offset_ms < LONG_MS => Standing::Ended { starts, ends },
            None if !self.alerts[posted.alert].timed => {
                Standing::Ended { starts, ends: Moment { step, offset_ms: 3_000 } }
            }
            _ => Standing::Firing { starts },
        };
    }

    fn due_ms(&self, posted: &[Posted]) -> u64 {
        let due = |posted: &Posted| match posted.ends {
            Some(ends) if ends.offset_ms > 0 && ends.offset_ms < LONG_MS => ends.offset_ms as u64,
            None if !self.alerts[posted.alert].timed => 3_000,
            _ => 0,
        };
        posted.iter().map(due).max().unwrap_or(0)
    }

    fn fire(&mut self, step: usize) -> Option<Step> {
        let again = self.dice.one_in(2);
        let ended = |world: &World<'_>, alert: usize| matches!(world.standing[alert], Standing::Ended { .. });
        let chosen = self.some(|world, alert| !again || ended(world, alert));
        let chosen = if chosen.is_empty() { self.some(|_, _| true) } else { chosen };
        let mut batch = Vec::new();
        for alert in chosen {
            // What fires already has an end far off: another one would be no news.
            let short = !self.is_firing(alert) && self.dice.one_in(6);
            batch.push(self.posted_firing(alert, step, short.then_some(SHORT_MS)));
        }
        batch.iter().for_each(|posted| self.note(posted, step));
        let due_ms = self.due_ms(&batch);
        let does = match self.dice.one_in(6) {
            true => Does::PostWithInvalid(batch),
            false => Does::Post(vec![batch]),
        };
        Some(Step { does, due_ms })
    }

    fn ending(&mut self, alert: usize, step: usize) -> Option<Posted> {
        let Standing::Firing { starts } = self.standing[alert] else { return None };
        let ends = Some(Moment { step, offset_ms: 0 });
        // A sender may know the end alone.
        let starts = (!self.dice.one_in(5)).then_some(starts);
        Some(Posted { alert, summary: self.summaries, starts, ends })
    }

    fn resolve(&mut self, step: usize) -> Option<Step> {
        // What is silenced now ends as often as the rest: then it is of interest what is remembered of it.
        let silenced = self.some(|world, alert| world.is_firing(alert) && world.is_silenced(alert));
        let chosen = match silenced.is_empty() || self.dice.one_in(2) {
            true => self.some(|world, alert| world.is_firing(alert)),
            false => silenced,
        };
        let batch: Vec<Posted> = chosen.into_iter().filter_map(|alert| self.ending(alert, step)).collect();
        for posted in &batch {
            let Standing::Firing { starts } = self.standing[posted.alert] else { continue };
            self.standing[posted.alert] = Standing::Ended { starts, ends: Moment { step, offset_ms: 0 } };
        }
        (!batch.is_empty()).then_some(Step { does: Does::Post(vec![batch]), due_ms: 0 })
    }

    /// Some end and others fire in one request.
    fn both(&mut self, step: usize) -> Option<Step> {
        let Step { does: Does::Post(ends), .. } = self.resolve(step)? else { return None };
        let mut batch = ends.into_iter().next()?;
        let others = self.some(|world, alert| !world.is_firing(alert) && world.alerts[alert].timed);
        for alert in others {
            if batch.iter().all(|posted| posted.alert != alert) {
                let posted = self.posted_firing(alert, step, None);
                self.note(&posted, step);
                batch.push(posted);
            }
        }
        Some(Step { does: Does::Post(vec![batch]), due_ms: 0 })
    }

    /// Something fires and ends before anybody is told.
    fn blip(&mut self, step: usize) -> Option<Step> {
        let chosen = self.some(|world, alert| !world.is_firing(alert) && world.alerts[alert].timed);
        let alert = *chosen.first()?;
        let starts = Moment { step, offset_ms: -200 };
        let firing = Posted { starts: Some(starts), ..self.posted_firing(alert, step, Some(LONG_MS)) };
        let ends = Moment { step, offset_ms: 0 };
        self.standing[alert] = Standing::Ended { starts, ends };
        let over = Posted { ends: Some(ends), ..firing.clone() };
        Some(Step { does: Does::Post(vec![vec![firing], vec![over]]), due_ms: 0 })
    }

    /// An end arrives of what nobody said that it fired.
    fn ended_only(&mut self, step: usize) -> Option<Step> {
        let chosen = self.some(|world, alert| !world.is_firing(alert) && world.alerts[alert].timed);
        let alert = *chosen.first()?;
        let (starts, ends) = (Moment { step, offset_ms: -200 }, Moment { step, offset_ms: 0 });
        self.standing[alert] = Standing::Ended { starts, ends };
        let posted = Posted { alert, summary: self.summaries, starts: Some(starts), ends: Some(ends) };
        Some(Step { does: Does::Post(vec![vec![posted]]), due_ms: 0 })
    }

    fn again(&mut self, step: usize) -> Option<Step> {
        if self.kind != Kind::Holding {
            return None;
        }
        let ended = |world: &World<'_>, alert: usize| {
            world.alerts[alert].timed
                && matches!(world.standing[alert], Standing::Ended { ends, .. } if ends.step < step)
        };
        let alert = *self.some(ended).first()?;
        let Standing::Ended { starts, ends } = self.standing[alert] else { return None };
        let posted = Posted { alert, summary: self.summaries, starts: Some(starts), ends: Some(ends) };
        Some(Step { does: Does::Again(posted), due_ms: 0 })
    }

    /// Matchers for a silence, some of which hold something back.
    fn silence_matchers(&mut self) -> Option<Vec<Matcher>> {
        let mut matchers = matchers(self.dice, Style::Matchers);
        let firing = self.some(|world, alert| world.is_firing(alert));
        if self.kind == Kind::Holding
            && let Some(alert) = firing.first()
            && !self.dice.one_in(3)
            && let Some(value) = self.alerts[*alert].labels.get(matchers[0].name)
        {
            // Something that was told.
            matchers = vec![Matcher { name: matchers[0].name, op: Op::Equal, values: vec![value] }];
        }
        let holds_firing = (0..self.alerts.len()).any(|alert| {
            self.is_firing(alert) && matchers.iter().all(|matcher| matcher.matches(&self.alerts[alert]))
        });
        // What was told and is held at a reload is told once more by Alertmanager or not, as it comes.
        (self.kind != Kind::Reloading || !holds_firing).then_some(matchers)
    }

    fn silence(&mut self) -> Option<Step> {
        if self.kind == Kind::Repeating || self.silences.len() > 1 {
            return None;
        }
        let matchers = self.silence_matchers()?;
        let short = self.kind != Kind::Reloading && self.dice.one_in(4);
        if !short {
            self.silences.push((self.silences_made, matchers.clone()));
        }
        self.silences_made += 1;
        let for_ms = if short { SHORT_MS } else { LONG_MS };
        Some(Step { does: Does::Silence(matchers, for_ms), due_ms: if short { SHORT_MS as u64 } else { 0 } })
    }

    fn change_silence(&mut self) -> Option<Step> {
        if self.silences.is_empty() {
            return None;
        }
        let place = self.dice.below(self.silences.len() as u64) as usize;
        let number = self.silences[place].0;
        let does = match self.dice.below(4) {
            0 => Does::Extend(number),
            1 => {
                let matchers = self.silence_matchers()?;
                self.silences[place].1 = matchers.clone();
                Does::Replace(number, matchers)
            }
            _ => {
                self.silences.remove(place);
                Does::Expire(number)
            }
        };
        Some(Step { does, due_ms: 0 })
    }

    fn reload(&mut self, number: usize) -> Option<Step> {
        if self.kind != Kind::Reloading {
            return None;
        }
        if self.dice.one_in(5) {
            return Some(Step { does: Does::ReloadBroken, due_ms: 0 });
        }
        self.config = self.config.changed(self.dice, number, self.kind);
        Some(Step { does: Does::Reload(Box::new(self.config.clone())), due_ms: 0 })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}\n{}", self.seed, self.kind, self.config.text("URL"))?;
        for (number, alert) in self.alerts.iter().enumerate() {
            let timed = if alert.timed { "" } else { ", without times" };
            writeln!(f, "alert {number}: {:?}{timed}", alert.labels)?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            match &step.does {
                Does::Reload(config) => writeln!(f, "step {number}: reload\n{}", config.text("URL"))?,
                does => writeln!(f, "step {number}: {does:?}")?,
            }
        }
        Ok(())
    }
}
