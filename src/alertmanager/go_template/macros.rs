//! The macros that the templates of a set become: one for each type of dot that a template is called with.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    frame::identifier,
    types::{RESERVED, Type},
};

/// Most macros of one translation.
pub(super) const MACROS_MAX: usize = 256;

/// The macros that have been asked for.
#[derive(Debug, Default)]
pub(super) struct Macros {
    /// The macro's name for each template of the set.
    base: BTreeMap<String, String>,
    taken: Vec<String>,
    keys: Vec<(String, Type)>,
}

impl Macros {
    /// Names for the templates of a set, none of which hides another name.
    pub fn new<'a>(templates: impl Iterator<Item = &'a str>) -> Macros {
        let mut taken: BTreeSet<String> = RESERVED.iter().map(|name| (*name).to_owned()).collect();
        let mut base = BTreeMap::new();
        for template in templates {
            let wanted = identifier(template);
            let mut name = wanted.clone();
            let mut number = 2;
            while taken.contains(&name) {
                name = format!("{wanted}_{number}");
                number += 1;
            }
            taken.insert(name.clone());
            base.insert(template.to_owned(), name);
        }
        Macros { taken: base.values().cloned().collect(), base, keys: Vec::new() }
    }

    /// Names that variables must not have.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.taken.iter().map(|name| &name[..])
    }

    /// What a macro calls a dot of that type; empty if it needs none, because the notification's data is everywhere.
    pub fn parameter(&self, dot: &Type) -> String {
        if !takes_dot(dot) {
            return String::new();
        }
        let wanted = dot.name();
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| !self.taken.contains(name)).unwrap_or_default()
    }

    /// The number of the macro for `template` with a dot of type `dot`; none if there are too many.
    pub fn number(&mut self, template: &str, dot: &Type) -> Option<usize> {
        let found = self.keys.iter().position(|(name, kind)| name == template && kind == dot);
        if found.is_some() || self.keys.len() == MACROS_MAX {
            return found;
        }
        self.keys.push((template.to_owned(), dot.clone()));
        Some(self.keys.len() - 1)
    }

    /// The template of macro `number`, and the type of its dot.
    pub fn key(&self, number: usize) -> (&str, &Type) {
        let (template, kind) = &self.keys[number];
        (template, kind)
    }

    /// What macro `number` is called: a double underscore, which no other name has, tells variants apart.
    pub fn name(&self, number: usize) -> String {
        let (template, _) = &self.keys[number];
        let variants = self.keys[..number].iter().filter(|(name, _)| name == template).count();
        let base = self.base.get(template).map_or("template", |base| base);
        if variants == 0 { base.to_owned() } else { format!("{base}__{}", variants + 1) }
    }
}

/// Whether a macro needs its dot: the notification's data is everywhere anyway.
pub(super) fn takes_dot(dot: &Type) -> bool {
    !matches!(dot, Type::Root | Type::Nil)
}
