//! Templates that others include or import.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{NAME, Scope, TemplateError, check, environment, explain};

/// Templates by name: a configuration's `templates`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Shared(Arc<BTreeMap<String, String>>);

impl Shared {
    /// Those of a configuration. What cannot be compiled is left out and named.
    pub fn new(
        templates: impl IntoIterator<Item = (String, String)>,
    ) -> (Shared, Vec<(String, TemplateError)>) {
        let (mut kept, mut wrong) = (BTreeMap::new(), Vec::new());
        for (name, source) in templates {
            let compile = || {
                check(&source)?;
                let mut environment = environment(Scope::Delivery);
                environment.add_template_owned(NAME, source.clone()).map_err(|error| explain(&error))
            };
            match compile() {
                Ok(()) => drop(kept.insert(name, source)),
                Err(error) => wrong.push((name, error)),
            }
        }
        (Shared(Arc::new(kept)), wrong)
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Those that `source` names in quotes, and those that they name in turn.
    pub(super) fn used_by<'s>(&'s self, source: &str) -> BTreeMap<&'s str, &'s str> {
        let named = |source: &str, name: &str| {
            ['"', '\''].iter().any(|quote| source.contains(&format!("{quote}{name}{quote}")))
        };
        let mut used: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = vec![source];
        while let Some(source) = open.pop() {
            for (name, text) in self.0.iter() {
                if !used.contains_key(name.as_str()) && named(source, name) {
                    used.insert(name, text);
                    open.push(text);
                }
            }
        }
        used
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{render::Template, sample};

    fn shared(rows: &[(&str, &str)]) -> Shared {
        let (shared, wrong) =
            Shared::new(rows.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())));
        assert_eq!(wrong, []);
        shared
    }

    fn render(source: &str, scope: Scope, shared: &Shared) -> Result<String, String> {
        let template = Template::compile_with(source, scope, shared).map_err(|error| error.to_string())?;
        template.render(&sample::delivery()).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_use_shared_ones_and_those_use_others() {
        let shared = shared(&[
            ("site.j2", "{% macro where(a) %}{{ a.labels.computer }} in {{ a.labels.site }}{% endmacro %}"),
            ("rows", "{% import 'site.j2' as site %}{% for a in alerts %}{{ site.where(a) }}{% endfor %}"),
            ("frame", "<<{% block inner %}{% endblock %}>>"),
            ("unused", "{{ nothing.of_it }}"),
        ]);
        let rows = [
            ("{% include 'rows' %}!", "ws-042 in boston!"),
            ("{% import \"site.j2\" as s %}{{ s.where(alerts[0]) }}", "ws-042 in boston"),
            ("{% from 'site.j2' import where %}{{ where(alerts[0]) }}", "ws-042 in boston"),
            ("{% extends 'frame' %}{% block inner %}{{ event }}{% endblock %}", "<<Virus Found>>"),
        ];
        for (source, text) in rows {
            assert_eq!(render(source, Scope::Delivery, &shared).as_deref(), Ok(text), "{source}");
        }
        assert_eq!(shared.used_by("{% include 'rows' %}").len(), 2, "and no others");
    }

    #[test]
    fn what_is_put_into_html_is_escaped_in_shared_ones_too() {
        let shared = shared(&[("row", "<b>{{ common_labels.event }}</b>")]);
        let delivery = sample::delivery_of(1, vec![sample::alert_of(&[("event", "<i>&")], &[])]);
        let template = Template::compile_with("{% include 'row' %}", Scope::Html, &shared).expect("compiles");
        assert_eq!(template.render(&delivery).as_deref(), Ok("<b>&lt;i&gt;&amp;</b>"));
    }

    #[test]
    fn mistakes_name_the_shared_template_and_its_line() {
        let (kept, wrong) = Shared::new([
            ("good".to_owned(), "{{ event }}".to_owned()),
            ("bad".to_owned(), "\n{% if %}".to_owned()),
            ("long".to_owned(), "x".repeat(super::super::SOURCE_BYTES_MAX + 1)),
            ("deep".to_owned(), format!("{{{{ event{} }}}}", "|e".repeat(999))),
        ]);
        assert_eq!(kept.names().collect::<Vec<_>>(), ["good"]);
        let named: Vec<(&str, Option<usize>)> =
            wrong.iter().map(|(name, error)| (name.as_str(), error.line)).collect();
        assert_eq!(named, [("bad", Some(2)), ("long", None), ("deep", Some(1))]);
        let shared = shared(&[("row", "\n{{ common_labels.nosuch }}"), ("self", "{% include 'self' %}")]);
        let error =
            render("{% include 'row' %}", Scope::Delivery, &shared).expect_err("a label that is not there");
        assert!(error.contains("undefined value") && error.contains("(line 2 of row)"), "{error}");
        let error = render("{% include 'self' %}", Scope::Delivery, &shared).expect_err("without an end");
        assert!(error.contains("recursion"), "{error}");
        let error = render("{% include 'nosuch' %}", Scope::Delivery, &shared).expect_err("not there");
        assert_eq!(error, "no shared template is called `nosuch`; there are row, self");
    }
}
