//! Lists of matchers by what they demand, so that a label set meets only those that can match it: routes, silences
//! and inhibition rules that do not concern an alert cost it nothing.
//!
//! Each list stands under one demand of one of its matchers: a value that a label must have, how it must begin, or three
//! bytes that it must have somewhere.
//! Lists that demand nothing that can be looked up are candidates for every label set.

use alloc::{collections::BTreeMap, vec::Vec};
use smol_str::SmolStr;

use super::routing::Labels;
use crate::matcher::{CONTAINED_BYTES_MIN, Compiled, Demand};

/// Lists of matchers, by number.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_label: BTreeMap<SmolStr, ByValue>,
    /// Numbers of lists that demand nothing that can be looked up.
    others: Vec<u32>,
}

/// The lists that demand something of one label.
#[derive(Debug, Default)]
struct ByValue {
    /// By the whole value.
    exact: BTreeMap<SmolStr, Vec<u32>>,
    /// By how the value begins.
    prefix: BTreeMap<SmolStr, Vec<u32>>,
    /// How many entries of `prefix` have which length in bytes.
    prefix_bytes: BTreeMap<usize, u32>,
    /// By three bytes that the value has in it: of each text the ones that the fewest others stood under.
    inside: BTreeMap<Gram, Vec<u32>>,
}

/// Bytes in a row.
type Gram = [u8; CONTAINED_BYTES_MIN];

/// Those of a text, in order.
fn grams(text: &str) -> impl Iterator<Item = Gram> {
    text.as_bytes().windows(CONTAINED_BYTES_MIN).filter_map(|bytes| Gram::try_from(bytes).ok())
}

impl ByValue {
    fn lists(&self, demand: &Demand<'_>) -> usize {
        let count = |lists: Option<&Vec<u32>>| lists.map_or(0, Vec::len);
        let lists = |text: &SmolStr| match demand {
            Demand::OneOf(_) => count(self.exact.get(text)),
            Demand::StartsWith(_) => count(self.prefix.get(text)),
            Demand::Contains(_) => count(self.rarest(text).and_then(|gram| self.inside.get(&gram))),
        };
        demand.texts().iter().map(lists).sum()
    }

    /// The bytes of a text that the fewest lists stand under.
    fn rarest(&self, text: &str) -> Option<Gram> {
        grams(text).min_by_key(|gram| self.inside.get(gram).map_or(0, Vec::len))
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty() && self.inside.is_empty()
    }
}

impl Index {
    /// Puts the list in, under the demand that stands with the fewest others. A number is put in once.
    pub fn insert(&mut self, number: u32, matchers: &[Compiled]) {
        let demands = matchers.iter().flat_map(|m| m.demands().map(move |demand| (&m.matcher.name, demand)));
        let crowd = |(name, demand): &(&SmolStr, Demand<'_>)| {
            let others = self.by_label.get(*name).map_or(0, |values| values.lists(demand));
            // A whole value says more than a beginning, and that more than what is somewhere.
            let vague = match demand {
                Demand::OneOf(_) => 0,
                Demand::StartsWith(_) => 1,
                Demand::Contains(_) => 2,
            };
            (others, demand.texts().len(), vague)
        };
        let Some((name, demand)) = demands.min_by_key(crowd) else {
            self.others.push(number);
            return;
        };
        let values = self.by_label.entry(name.clone()).or_default();
        for text in demand.texts() {
            let lists = match demand {
                Demand::OneOf(_) => values.exact.entry(text.clone()).or_default(),
                Demand::StartsWith(_) => {
                    let lists = values.prefix.entry(text.clone()).or_default();
                    if lists.is_empty() {
                        *values.prefix_bytes.entry(text.len()).or_default() += 1;
                    }
                    lists
                }
                Demand::Contains(_) => {
                    let Some(gram) = values.rarest(text) else { continue };
                    values.inside.entry(gram).or_default()
                }
            };
            lists.push(number);
        }
    }

    /// Takes the list out again.
    pub fn remove(&mut self, number: u32, matchers: &[Compiled]) {
        let take = |lists: &mut Vec<u32>| {
            if let Some(place) = lists.iter().position(|known| *known == number) {
                lists.swap_remove(place);
            }
            lists.is_empty()
        };
        take(&mut self.others);
        for (matcher, demand) in matchers.iter().flat_map(|m| m.demands().map(move |demand| (m, demand))) {
            let name = &matcher.matcher.name;
            let Some(values) = self.by_label.get_mut(name) else { continue };
            for text in demand.texts() {
                match demand {
                    Demand::OneOf(_) => {
                        if values.exact.get_mut(text).is_some_and(take) {
                            values.exact.remove(text);
                        }
                    }
                    Demand::StartsWith(_) => {
                        if values.prefix.get_mut(text).is_some_and(take) {
                            values.prefix.remove(text);
                            let count = values.prefix_bytes.entry(text.len()).or_default();
                            *count = count.saturating_sub(1);
                            if *count == 0 {
                                values.prefix_bytes.remove(&text.len());
                            }
                        }
                    }
                    Demand::Contains(_) => {
                        for gram in grams(text) {
                            if values.inside.get_mut(&gram).is_some_and(take) {
                                values.inside.remove(&gram);
                            }
                        }
                    }
                }
            }
            if values.is_empty() {
                self.by_label.remove(name);
            }
        }
    }

    /// The numbers of all lists that can match, and of few others, in ascending order.
    pub fn candidates(&self, labels: &impl Labels) -> Vec<u32> {
        let mut numbers = self.others.clone();
        for (name, values) in &self.by_label {
            let value = labels.value(name);
            if value.is_empty() {
                continue;
            }
            if let Some(more) = values.exact.get(value) {
                numbers.extend_from_slice(more);
            }
            for bytes in values.prefix_bytes.keys() {
                if let Some(more) = value.get(..*bytes).and_then(|start| values.prefix.get(start)) {
                    numbers.extend_from_slice(more);
                }
            }
            if !values.inside.is_empty() {
                let mut found: Vec<Gram> = grams(value).collect();
                found.sort_unstable();
                found.dedup();
                let lists = found.iter().filter_map(|gram| values.inside.get(gram));
                lists.for_each(|more| numbers.extend_from_slice(more));
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Severities, matcher::parse_list};

    struct Pairs<'a>(&'a [(&'a str, &'a str)]);

    impl Labels for Pairs<'_> {
        fn value(&self, name: &str) -> &str {
            self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
        }
    }

    fn compiled(text: &str) -> Vec<Compiled> {
        let severities = Severities::default();
        let matchers = parse_list(text).expect(text);
        matchers.iter().map(|m| m.compile(&severities).expect(text)).collect()
    }

    const LISTS: [&str; 13] = [
        "{a=\"1\"}",
        "{a=\"1\", b=\"2\"}",
        "{a=~\"1|3\"}",
        "{a=~\"team-.*\"}",
        "{a=~\"(?:team-x|line-y)[0-9]+\"}",
        "{a=~\".*\"}",
        "{a!=\"1\"}",
        "{a=\"\"}",
        "{a=~\"1.*\", b=\"\"}",
        "{a=~\".*x7\"}",
        "{a=~\".*am-(x|y)7\"}",
        "{a=~\"[a-z]*(?:eam|ine)-.[0-9]\"}",
        "{a=~\"(?:(?i)T)(eam-){1,2}x?.*|☺+\"}",
    ];

    #[test]
    fn every_list_that_matches_is_a_candidate() {
        let severities = Severities::default();
        let mut index = Index::default();
        let lists: Vec<Vec<Compiled>> = LISTS.iter().map(|text| compiled(text)).collect();
        for (number, list) in (0..).zip(&lists) {
            index.insert(number, list);
        }
        let sets: [&[(&str, &str)]; 10] = [
            &[],
            &[("a", "1")],
            &[("a", "1"), ("b", "2")],
            &[("a", "3")],
            &[("a", "team-x7")],
            &[("a", "line-y0"), ("b", "2")],
            &[("a", "1☺")],
            &[("b", "2")],
            &[("a", "☺")],
            &[("a", "team-team-x7")],
        ];
        for labels in sets {
            let labels = Pairs(labels);
            let found = index.candidates(&labels);
            for (number, list) in (0..).zip(&lists) {
                let fits = list.iter().all(|m| m.matches(labels.value(&m.matcher.name), &severities));
                assert!(!fits || found.contains(&number), "{} for {:?}", LISTS[number as usize], labels.0);
            }
        }
        assert_eq!(index.candidates(&Pairs(&[("a", "team-x7")])), [3, 4, 5, 6, 7, 9, 10, 11, 12]);
        assert_eq!(index.candidates(&Pairs(&[("a", "9")])), [5, 6, 7, 9], "what cannot match costs nothing");
    }

    #[test]
    fn lists_that_share_a_value_are_told_apart_by_another() {
        let mut index = Index::default();
        for number in 0..1_000 {
            index.insert(number, &compiled(&alloc::format!("{{alertname=\"Down\", node=\"n{number}\"}}")));
        }
        let found = index.candidates(&Pairs(&[("alertname", "Down"), ("node", "n77")]));
        assert!(found.contains(&77) && found.len() <= 3, "{found:?}");
    }

    #[test]
    fn regexes_that_begin_with_anything_are_told_apart_by_what_is_in_them() {
        let mut index = Index::default();
        for number in 0..1_000 {
            index.insert(number, &compiled(&alloc::format!("{{host=~\".*never{number}x.*\"}}")));
        }
        assert!(index.candidates(&Pairs(&[("host", "web-1")])).is_empty());
        let found = index.candidates(&Pairs(&[("host", "web-never77x-1")]));
        assert!(found.contains(&77) && found.len() < 100, "{found:?}");
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut index = Index::default();
        let lists: Vec<Vec<Compiled>> = LISTS.iter().map(|text| compiled(text)).collect();
        for (number, list) in (0..).zip(&lists) {
            index.insert(number, list);
        }
        for (number, list) in (0..).zip(&lists) {
            index.remove(number, list);
            assert!(!index.candidates(&Pairs(&[("a", "1"), ("b", "2")])).contains(&number));
        }
        assert!(index.by_label.is_empty() && index.others.is_empty(), "{index:?}");
    }
}
