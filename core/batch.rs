//! Alerts as they arrive: one text buffer for a whole batch, so that a hundred alerts cost four allocations.

use alloc::{string::String, vec::Vec};
use core::ops::Range;
use serde::{Deserialize, Serialize};

use crate::{Fingerprint, Wall, trail};

/// Alerts of one request, checked and normalised: labels sorted by name, each name once, none empty, at least
/// one label an alert. Built by [`BatchBuilder`]; the journal stores and gives back exactly this.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AlertBatch {
    text: String,
    pairs: Vec<PairSpan>,
    alerts: Vec<AlertSpan>,
    has_keys: bool,
}

/// A name and its value, side by side in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PairSpan {
    start: u32,
    name_len: u32,
    value_len: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AlertSpan {
    pairs_start: u32,
    labels: u32,
    annotations: u32,
    times: AlertTimes,
    id: Option<Range<u32>>,
    generator_url: Option<Range<u32>>,
    key: Option<Range<u32>>,
}

/// When the sender says that an alert began and ends. `None` where it said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTimes {
    /// Began at; `None` means at its end if that was before its arrival, else on arrival.
    pub starts_at: Option<Wall>,
    /// Ends at; in the past means resolved; `None` means after the resolve timeout.
    pub ends_at: Option<Wall>,
}

/// One alert of a batch.
#[derive(Clone, Copy)]
pub struct AlertRef<'a> {
    batch: &'a AlertBatch,
    span: &'a AlertSpan,
}

/// Why an alert is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertError {
    /// No label is left after empty values are dropped (Alertmanager's rule).
    NoLabels,
    /// A label without a name.
    EmptyName,
    /// The same label name twice.
    DuplicateName(String),
    /// The end lies before the start.
    EndsBeforeStart,
    /// The batch holds more than 4 GiB of text.
    TooLarge,
}

impl core::fmt::Display for AlertError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AlertError::NoLabels => f.write_str("at least one label with a value is required"),
            AlertError::EmptyName => f.write_str("a label name is empty"),
            AlertError::DuplicateName(name) => write!(f, "the name `{name}` is given twice"),
            AlertError::EndsBeforeStart => f.write_str("ends_at lies before starts_at"),
            AlertError::TooLarge => f.write_str("the batch holds more than 4 GiB of text"),
        }
    }
}

impl core::error::Error for AlertError {}

impl AlertBatch {
    /// How many alerts.
    pub fn len(&self) -> usize {
        self.alerts.len()
    }

    /// Whether there is no alert at all.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty()
    }

    /// Alert `index`, counted from 0.
    pub fn alert(&self, index: usize) -> Option<AlertRef<'_>> {
        self.alerts.get(index).map(|span| AlertRef { batch: self, span })
    }

    /// The alerts in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = AlertRef<'_>> {
        self.alerts.iter().map(|span| AlertRef { batch: self, span })
    }

    /// Whether an alert in it has a key.
    pub fn has_keys(&self) -> bool {
        self.has_keys
    }

    /// Bytes of memory that the batch holds, for limits on what is in flight.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
            + self.pairs.capacity() * size_of::<PairSpan>()
            + self.alerts.capacity() * size_of::<AlertSpan>()
    }
}

/// Equal alerts in the same order; how their text lies in memory does not matter.
impl PartialEq for AlertBatch {
    fn eq(&self, other: &AlertBatch) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| a == b)
    }
}

impl Eq for AlertBatch {}

impl PartialEq for AlertRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.times() == other.times()
            && self.id() == other.id()
            && self.generator_url() == other.generator_url()
            && self.key() == other.key()
            && self.labels().eq(other.labels())
            && self.annotations().eq(other.annotations())
    }
}

impl<'a> AlertRef<'a> {
    /// Labels, sorted by name.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.pairs(self.span.pairs_start, self.span.labels)
    }

    /// Annotations, sorted by name.
    pub fn annotations(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.pairs(self.span.pairs_start + self.span.labels, self.span.annotations)
    }

    /// The value of label `name`; absent labels are `""`.
    pub fn label(&self, name: &str) -> &'a str {
        self.labels().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// The value of annotation `name`.
    pub fn annotation(&self, name: &str) -> Option<&'a str> {
        self.annotations().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The sender's times.
    pub fn times(&self) -> AlertTimes {
        self.span.times
    }

    /// The sender's name of this occurrence, for idempotence; `None` if it gave none.
    pub fn id(&self) -> Option<&'a str> {
        self.span.id.as_ref().map(|range| self.text(range))
    }

    /// Where the alert came from, as Alertmanager's `generatorURL`.
    pub fn generator_url(&self) -> Option<&'a str> {
        self.span.generator_url.as_ref().map(|range| self.text(range))
    }

    /// The sender's name of the alert, whatever its labels, as PagerDuty's `dedup_key`: its client has one alert with it that
    /// fires. Another takes that one's place, and an end ends it; then the labels say nothing.
    pub fn key(&self) -> Option<&'a str> {
        self.span.key.as_ref().map(|range| self.text(range))
    }

    /// The 64-bit name of the label set.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.labels())
    }

    fn text(&self, range: &Range<u32>) -> &'a str {
        &self.batch.text[range.start as usize..range.end as usize]
    }

    fn pairs(
        &self,
        start: u32,
        count: u32,
    ) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let batch = self.batch;
        batch.pairs[start as usize..(start + count) as usize].iter().map(move |pair| {
            let name_end = (pair.start + pair.name_len) as usize;
            let value_end = name_end + pair.value_len as usize;
            (&batch.text[pair.start as usize..name_end], &batch.text[name_end..value_end])
        })
    }
}

impl core::fmt::Debug for AlertRef<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.labels()).finish()
    }
}

/// Builds an [`AlertBatch`]: labels and annotations of one alert, then [`BatchBuilder::finish_alert`], and again.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: AlertBatch,
    labels: Vec<PairSpan>,
    annotations: Vec<PairSpan>,
    key: Option<Range<u32>>,
}

impl BatchBuilder {
    /// A builder with room for `text_bytes` of names and values.
    pub fn with_capacity(text_bytes: usize) -> BatchBuilder {
        let mut builder = BatchBuilder::default();
        builder.batch.text.reserve(text_bytes);
        builder
    }

    /// Adds a label to the alert being built. An empty value is the same as no label (Alertmanager's rule).
    pub fn label(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let span = self.append(name, value);
            self.labels.push(span);
        }
    }

    /// Adds an annotation to the alert being built. What only ams2 sets is left out.
    pub fn annotation(&mut self, name: &str, value: &str) {
        if !trail::is_reserved(name) {
            self.any_annotation(name, value);
        }
    }

    /// Adds an annotation, also one that only ams2 sets.
    pub fn any_annotation(&mut self, name: &str, value: &str) {
        let span = self.append(name, value);
        self.annotations.push(span);
    }

    /// Gives the alert being built a key, see [`AlertRef::key`]. An empty one is none.
    pub fn key(&mut self, key: &str) {
        self.key = (!key.is_empty()).then(|| self.append_text(key));
    }

    /// Ends the alert being built. On an error the alert is discarded and the builder is ready for the next.
    pub fn finish_alert(
        &mut self,
        times: AlertTimes,
        id: Option<&str>,
        generator_url: Option<&str>,
    ) -> Result<(), AlertError> {
        let checked = self.check(times);
        if checked.is_err() {
            self.discard_alert();
            return checked;
        }
        let id = id.map(|text| self.append_text(text));
        let generator_url = generator_url.map(|text| self.append_text(text));
        let span = AlertSpan {
            pairs_start: self.batch.pairs.len() as u32,
            labels: self.labels.len() as u32,
            annotations: self.annotations.len() as u32,
            times,
            id,
            generator_url,
            key: self.key.take(),
        };
        self.batch.has_keys |= span.key.is_some();
        self.batch.pairs.append(&mut self.labels);
        self.batch.pairs.append(&mut self.annotations);
        self.batch.alerts.push(span);
        Ok(())
    }

    /// Forgets the alert being built, with its text.
    pub fn discard_alert(&mut self) {
        let pairs = self.labels.iter().chain(&self.annotations).map(|pair| pair.start);
        let first = pairs.chain(self.key.take().map(|key| key.start)).min();
        // Past 4 GiB starts are not true any more.
        if let Some(first) = first.filter(|_| u32::try_from(self.batch.text.len()).is_ok()) {
            self.batch.text.truncate(first as usize);
        }
        self.labels.clear();
        self.annotations.clear();
    }

    /// The alert that was finished last.
    pub fn last(&self) -> Option<AlertRef<'_>> {
        self.batch.alert(self.batch.len().checked_sub(1)?)
    }

    /// Forgets the alert that was finished last; its text stays behind.
    pub fn remove_last(&mut self) {
        if let Some(span) = self.batch.alerts.pop() {
            self.batch.pairs.truncate(span.pairs_start as usize);
        }
    }

    /// The finished batch.
    pub fn finish(mut self) -> AlertBatch {
        // An arrival waits in queues: it should hold no more than it needs.
        self.batch.text.shrink_to_fit();
        self.batch
    }

    fn check(&mut self, times: AlertTimes) -> Result<(), AlertError> {
        if u32::try_from(self.batch.text.len()).is_err() {
            return Err(AlertError::TooLarge);
        }
        if self.labels.is_empty() {
            return Err(AlertError::NoLabels);
        }
        let text = &self.batch.text;
        let name = |pair: &PairSpan| &text[pair.start as usize..(pair.start + pair.name_len) as usize];
        for pairs in [&mut self.labels, &mut self.annotations] {
            if !pairs.is_sorted_by(|a, b| name(a) < name(b)) {
                pairs.sort_by(|a, b| name(a).cmp(name(b)));
                if let Some(twice) = pairs.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
                    return Err(AlertError::DuplicateName(name(&twice[0]).into()));
                }
            }
        }
        if self.labels.iter().chain(&self.annotations).any(|pair| pair.name_len == 0) {
            return Err(AlertError::EmptyName);
        }
        match (times.starts_at, times.ends_at) {
            (Some(start), Some(end)) if end < start => Err(AlertError::EndsBeforeStart),
            _ => Ok(()),
        }
    }

    fn append(&mut self, name: &str, value: &str) -> PairSpan {
        let start = self.batch.text.len() as u32;
        self.batch.text.push_str(name);
        self.batch.text.push_str(value);
        PairSpan { start, name_len: name.len() as u32, value_len: value.len() as u32 }
    }

    fn append_text(&mut self, text: &str) -> Range<u32> {
        let start = self.batch.text.len() as u32;
        self.batch.text.push_str(text);
        start..self.batch.text.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(labels: &[(&str, &str)], times: AlertTimes) -> Result<AlertBatch, AlertError> {
        let mut builder = BatchBuilder::default();
        for (name, value) in labels {
            builder.label(name, value);
        }
        builder.finish_alert(times, None, None)?;
        Ok(builder.finish())
    }

    #[test]
    fn labels_are_sorted_and_empty_ones_dropped() {
        let batch = one(&[("b", "2"), ("a", "1"), ("c", "")], AlertTimes::default()).expect("valid");
        let labels: Vec<_> = batch.alert(0).expect("one alert").labels().collect();
        assert_eq!(labels, [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn each_broken_alert_is_refused_by_name() {
        let late = AlertTimes { starts_at: Some(Wall(2)), ends_at: Some(Wall(1)) };
        let none = AlertTimes::default();
        let rows: [(&[(&str, &str)], AlertTimes, AlertError); 5] = [
            (&[], none, AlertError::NoLabels),
            (&[("a", "")], none, AlertError::NoLabels),
            (&[("", "x")], none, AlertError::EmptyName),
            (&[("a", "1"), ("b", "2"), ("a", "3")], none, AlertError::DuplicateName("a".into())),
            (&[("a", "1")], late, AlertError::EndsBeforeStart),
        ];
        for (labels, times, error) in rows {
            assert_eq!(one(labels, times), Err(error), "{labels:?}");
        }
    }

    #[test]
    fn a_refused_alert_leaves_nothing_behind() {
        let mut builder = BatchBuilder::default();
        builder.annotation("summary", "lost");
        assert_eq!(builder.finish_alert(AlertTimes::default(), None, None), Err(AlertError::NoLabels));
        builder.label("a", "1");
        builder.finish_alert(AlertTimes::default(), Some("id-1"), None).expect("valid");
        let batch = builder.finish();
        let alert = batch.alert(0).expect("one alert");
        assert_eq!((alert.annotations().len(), alert.id()), (0, Some("id-1")));
        assert_eq!(batch.text, "a1id-1");
    }
}
