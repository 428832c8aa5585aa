//! An action of a service from its settings: what must be given is there, templates compile, and nothing is asked of anybody.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value};
use reqwest::Url;
use serde_json::Value as Json;

use super::{
    Settings,
    escape::Escape,
    file::{self, Type},
    ready::{Follows, Part, Ready, Session},
    tree::{self, Tree},
};
use crate::{
    Action, BuildContext, Secret, SettingsError,
    render::{Scope, Template},
    webhook::{
        client::{self, Client, Options},
        post::{Auth, Poster},
    },
};

impl Settings {
    /// The words of `older`, sent where these settings say.
    pub(crate) fn with_texts_of(&self, older: &Settings) -> Settings {
        let mut merged = self.clone();
        merged.common.templates = older.common.templates.clone();
        for setting in self.target.file.settings.iter().filter(|setting| setting.kind.is_text()) {
            merged.values.remove(setting.name.as_str());
            if let Some(value) = older.values.get(setting.name.as_str()) {
                merged.values.insert(setting.name.clone(), value.clone());
            }
        }
        merged
    }

    pub(crate) fn build(&self, context: &BuildContext) -> Result<Box<dyn Action>, Vec<SettingsError>> {
        let (file, mut errors) = (&self.target.file, Vec::new());
        self.check_presence(&mut errors);
        if file.one_group && self.common().max_per_minute.is_some() {
            let message = format!(
                "what is over it becomes one message about several groups, and {} knows each by a key of its own",
                file.name
            );
            let mend = "remove it: where the service is told too much it says so (429), and what is left waits; `group_by` with fewer labels makes fewer groups";
            errors.push(SettingsError::new("max_per_minute", message, mend));
        }
        let (mut settings, mut given) = (BTreeMap::new(), BTreeMap::new());
        let (mut named, mut urls, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        let escape = file.escape_with.iter().find(|(name, _)| self.values.contains_key(*name));
        let escape = escape.map_or(file.escape, |(_, escape)| *escape);
        for setting in &file.settings {
            let value = match (self.values.get(&setting.name), &setting.default) {
                (Some(value), _) => value.clone(),
                (None, Some(default)) => default.clone(),
                (None, None) => Json::String(String::new()),
            };
            let part = match self.part(setting, &value, setting.escape.unwrap_or(escape)) {
                Ok(part) => part,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let text = value.as_str().unwrap_or_default();
            if setting.secret {
                hidden.push(Secret::new(text));
            }
            if setting.kind == Type::Url
                && !text.is_empty()
                && let Ok(url) = client::url(text)
            {
                let is_own = self.values.contains_key(&setting.name);
                named.extend(url.host_str().filter(|_| is_own).map(str::to_owned));
                urls.push(url);
            }
            let seen = match &part {
                Part::Fixed(value) => value.clone(),
                _ => value,
            };
            given.insert(setting.name.as_str(), seen);
            settings.insert(setting.name.as_str(), part);
        }
        let mut follows = Follows::default();
        if errors.is_empty() {
            follows = self.follows(&given, &urls, &mut errors);
        }
        let place = follows.place.as_ref().map(|(url, _)| url);
        let options = Options {
            proxy: self.common.proxy.as_deref(),
            tls: self.common.tls.as_ref(),
            redirects: false,
            https: urls.iter().chain(place).any(|url| url.scheme() == "https"),
            connections: self.common().limits(&self.target.kind.defaults).max_in_flight as usize,
            named,
            host: place.and_then(Url::host_str).map(str::to_owned),
        };
        match Client::new(options, context.clock.clone()) {
            Ok(client) if errors.is_empty() => {
                let poster = Poster::new(client, Auth::None, None, context.clock.clone(), hidden);
                let session = Session::default();
                Ok(Box::new(Ready { target: self.target, settings, follows, poster, session }))
            }
            Ok(_) => Err(errors),
            Err(more) => {
                errors.extend(more);
                Err(errors)
            }
        }
    }

    /// What follows from the settings, templates as they are written, and whether they go together.
    fn follows(
        &self,
        given: &BTreeMap<&str, Json>,
        urls: &[Url],
        errors: &mut Vec<SettingsError>,
    ) -> Follows {
        let (file, parts) = (&self.target.file, self.target.parts());
        let settings = Value::from(Serde(given));
        let mut follows = Follows::default();
        let render = |follows: &Follows, template: &Template| {
            let context = minijinja::context! {
                settings => settings.clone(),
                values => Value::from(Serde(&follows.values)),
                place => follows.place.as_ref().map_or("", |(_, text)| text),
            };
            template.render_value(context)
        };
        for (name, template) in &parts.values {
            let text = render(&follows, template).unwrap_or_default();
            follows.values.insert(name.clone(), text.trim().to_owned());
        }
        let place = match &parts.place {
            None => urls.first().map(|url| (url.clone(), url.to_string())),
            Some(template) => {
                let text = render(&follows, template).unwrap_or_default();
                client::url(text.trim()).ok().map(|url| (url, text.trim().to_owned()))
            }
        };
        follows.place = place;
        for (mistake, template) in file.mistakes.iter().zip(&parts.mistakes) {
            let is_one = render(&follows, template).map(|text| tree::is_yes(&text));
            if is_one.unwrap_or(true) {
                errors.push(SettingsError::new(&mistake.setting, &mistake.says, &mistake.mend));
            }
        }
        follows
    }

    /// What must be given is, and no more.
    fn check_presence(&self, errors: &mut Vec<SettingsError>) {
        let file = &self.target.file;
        let has = |name: &String| self.values.contains_key(name);
        let is_secret =
            |name: &str| file.settings.iter().any(|setting| setting.name == name && setting.secret);
        let mend = |name: &str| match is_secret(name) {
            true => format!("add `{name}_file:` or `{name}: ${{env:NAME}}`"),
            false => format!("add `{name}:`"),
        };
        for setting in file.settings.iter().filter(|setting| setting.required && !has(&setting.name)) {
            let name = &setting.name;
            errors.push(SettingsError::new(name, format!("`{name}` is missing"), mend(name)));
        }
        if file.one_of.is_empty() {
            return;
        }
        let ways: Vec<String> = file.one_of.iter().map(|way| format!("`{}`", way.join("` with `"))).collect();
        let begun: Vec<&Vec<String>> =
            file.one_of.iter().filter(|way| way.first().is_some_and(has)).collect();
        match begun[..] {
            [] => {
                let first = &file.one_of[0][0];
                let message = format!("nothing says where to: give {}", ways.join(", or "));
                errors.push(SettingsError::new(first, message, mend(first)));
            }
            [way] => {
                for name in way.iter().filter(|name| !has(name)) {
                    errors.push(SettingsError::new(name, format!("`{name}` is missing"), mend(name)));
                }
            }
            [_, second, ..] => {
                let name = second.first().expect("it was begun");
                let message = "two ways to the same place";
                errors.push(SettingsError::new(name, message, format!("give {}", ways.join(", or "))));
            }
        }
    }

    fn part(&self, setting: &file::Setting, value: &Json, escape: Escape) -> Result<Part, SettingsError> {
        let name = &setting.name;
        let wrong = |what: String, mend: &str| SettingsError::new(name, what, mend);
        let compile = |field: &str, source: &str| {
            Template::compile_with(source, Scope::Message(escape), &self.common.templates)
                .map_err(|error| error.of_setting(field))
        };
        match (setting.kind, value) {
            (Type::Template, Json::String(source)) => {
                let default = setting.default.as_ref().and_then(Json::as_str);
                let default =
                    default.filter(|default| default != source).map(|default| compile(name, default));
                Ok(Part::Template(compile(name, source)?, default.transpose()?))
            }
            (Type::Templates, Json::Object(map)) => {
                let one = |(key, source): (&String, &Json)| {
                    Ok((key.clone(), compile(&format!("{name}.{key}"), source.as_str().unwrap_or_default())?))
                };
                Ok(Part::Templates(map.iter().map(one).collect::<Result<_, _>>()?))
            }
            (Type::TemplateList, Json::Array(list)) => {
                let one = |(position, source): (usize, &Json)| {
                    compile(&format!("{name}[{position}]"), source.as_str().unwrap_or_default())
                };
                Ok(Part::TemplateList(list.iter().enumerate().map(one).collect::<Result<_, _>>()?))
            }
            (Type::Tree, Json::Object(map)) => {
                let tree = Tree::compile(value, Scope::Message(escape), &self.common.templates);
                // The entry that it is in has a line of its own.
                let mistake = |error: String| match error.split_once(": ") {
                    Some((key, what)) if map.contains_key(key) => {
                        SettingsError::new(format!("{name}.{key}"), what, "correct the template")
                    }
                    _ => wrong(error, "correct the template"),
                };
                Ok(Part::Tree(tree.map_err(mistake)?))
            }
            (Type::Address, Json::String(source)) if Template::is_template(source) => {
                Ok(Part::Address(compile(name, source)?))
            }
            (Type::Url, Json::String(text)) if !text.is_empty() => {
                client::url(text)
                    .map_err(|what| wrong(format!("it is no URL: {what}"), "write https://host/path"))?;
                let text = text.trim_end_matches('/');
                Ok(if setting.secret { Part::Secret(Secret::new(text)) } else { Part::Fixed(text.into()) })
            }
            (Type::Text | Type::Address, Json::String(text)) => {
                if text.contains(char::is_control) {
                    return Err(wrong("control characters in it".into(), "write it in one line"));
                }
                if !setting.choices.is_empty() && !text.is_empty() && !setting.choices.contains(text) {
                    let mend = format!("use {}", setting.choices.join(", "));
                    return Err(wrong(format!("{text:?} is not one of its values"), &mend));
                }
                Ok(if setting.secret { Part::Secret(Secret::new(text)) } else { Part::Fixed(value.clone()) })
            }
            _ => Ok(Part::Fixed(value.clone())),
        }
    }
}
