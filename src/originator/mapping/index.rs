//! Rules by the value of one field: which of many can match is known without looking at the others.

use std::{collections::HashMap, iter::Peekable};

use ams2_core::matcher::Op;
use smol_str::SmolStr;

use super::{
    fields::{Fields, Path},
    rule::Rule,
};

/// Positions of rules, by the value of a field that they ask for.
#[derive(Clone, Debug)]
pub(super) struct Index {
    path: Path,
    /// Rules that ask for one value with `=`.
    by_value: HashMap<SmolStr, Vec<u32>>,
    /// Rules that do not.
    others: Vec<u32>,
}

impl Index {
    /// By the field at `path`.
    pub(super) fn of(rules: &[Rule], path: &Path) -> Index {
        let mut index = Index { path: path.clone(), by_value: HashMap::new(), others: Vec::new() };
        for (position, rule) in (0..).zip(rules) {
            let mut asked =
                rule.when.iter().filter(|(of, _)| of == path).map(|(_, matcher)| &matcher.matcher);
            // An empty value is asked for where the field is not there.
            match asked.find(|matcher| matcher.op == Op::Equal && !matcher.value.is_empty()) {
                Some(matcher) => index.by_value.entry(matcher.value.clone()).or_default().push(position),
                None => index.others.push(position),
            }
        }
        index
    }

    /// The rules that may take a record, in their order.
    pub(super) fn rules<'r>(
        &'r self,
        record: &dyn Fields,
        rules: &'r [Rule],
    ) -> impl Iterator<Item = &'r Rule> {
        let value = record.text(self.path.steps()).unwrap_or_default();
        let of_value = self.by_value.get(value.as_ref()).map(Vec::as_slice).unwrap_or_default();
        let merged = Merged { one: of_value.iter().peekable(), other: self.others.iter().peekable() };
        merged.filter_map(|position| rules.get(*position as usize))
    }
}

/// Two ascending lists as one.
struct Merged<'l> {
    one: Peekable<std::slice::Iter<'l, u32>>,
    other: Peekable<std::slice::Iter<'l, u32>>,
}

impl<'l> Iterator for Merged<'l> {
    type Item = &'l u32;

    fn next(&mut self) -> Option<&'l u32> {
        match (self.one.peek(), self.other.peek()) {
            (Some(one), Some(other)) if one > other => self.other.next(),
            (Some(_), _) => self.one.next(),
            (None, _) => self.other.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Json, *};

    /// How many rules are looked at, not how long it takes.
    #[test]
    fn of_ten_thousand_rules_as_few_are_looked_at_as_of_ten() {
        let mut looked_at = Vec::new();
        for count in [10, 10_000] {
            let of_one =
                |n: usize| format!("- {{when: ['trap = 1.3.{n}', 'n != \"\"'], labels: {{event: E{n}}}}}\n");
            let mut text: String = (0..count).map(of_one).collect();
            // Those that do not say which, and those that ask for what is not there, stand where they stand.
            text.insert_str(0, "- {when: ['trap =~ \"9.*\"'], labels: {event: First}}\n");
            text.push_str("- {when: ['trap = \"\"'], labels: {event: None}}\n- {when: ['trap = 1.3.7'], labels: {event: Again}}\n");
            let rules = crate::config::rules(&text).expect("rules").rules;
            let index = Index::of(&rules, &Path::parse("trap").expect("a path"));
            let record = json!({ "trap": "1.3.7", "n": "1" });
            let found: Vec<_> =
                index.rules(&Json(&record), &rules).map(|rule| format!("{:?}", rule.labels.own)).collect();
            let named = |at: usize, event: &str| found[at].contains(&format!("{event:?}"));
            assert!(
                named(0, "First") && named(1, "E7") && named(2, "None") && named(3, "Again"),
                "{found:?}"
            );
            looked_at.push(found.len());
        }
        assert_eq!(looked_at, [4, 4]);
    }
}
