//! The settings of an action whose kind is a service's file: those that the file names, and those that every action has.

use std::{collections::BTreeMap, fmt};

use schemars::SchemaGenerator;
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};
use serde_json::{Value as Json, json};

use super::{
    Target,
    file::{Setting, Type},
};
use crate::{Common, units};

/// What actions of all services have in common.
mod common {
    use crate::{settings::settings, webhook::client::ClientTls};

    settings! {
        /// Settings that the actions of all services have.
        pub struct Settings {
            /// The proxy that is used, such as http://proxy.example.com:3128. None unless set, whatever the environment says.
            pub proxy: Option<String>,
            /// Whom TLS trusts, and who we are.
            pub tls: Option<ClientTls>,
        }
    }
}

/// The keys of [`common::Settings`].
pub(super) const COMMON: [&str; 8] =
    ["proxy", "tls", "name", "send_resolved", "max_in_flight", "max_per_minute", "timeout", "max_alerts"];

/// Settings of an action of one service.
#[derive(Clone)]
pub struct Settings {
    pub(super) target: &'static Target,
    pub(super) common: common::Settings,
    /// The file's own, as given, each of the right type.
    pub(super) values: BTreeMap<String, Json>,
}

/// Secrets are among the values, so none is shown.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.values.keys().collect();
        f.debug_struct("Settings")
            .field("kind", &self.target.kind.key)
            .field("given", &names)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        std::ptr::eq(self.target, other.target) && self.common == other.common && self.values == other.values
    }
}

impl Settings {
    /// The entry in the table.
    pub(crate) fn kind(&self) -> &'static crate::Kind {
        &self.target.kind
    }

    pub(crate) fn common(&self) -> Common {
        self.common.common()
    }

    pub(crate) fn set_templates(&mut self, templates: crate::render::Shared) {
        self.common.templates = templates;
    }

    /// These settings with another bound of what a message shows.
    pub(crate) fn with_max_alerts_of(mut self, other: &Settings) -> Settings {
        self.common.max_alerts = other.common.max_alerts;
        self
    }
}

/// Reads the settings of one service.
pub(crate) struct Seed(pub(crate) &'static Target);

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Settings;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Settings, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Settings, A::Error> {
        let mut values = BTreeMap::new();
        let own = Own { target: self.0, map, values: &mut values };
        let common = common::Settings::deserialize(MapAccessDeserializer::new(own))?;
        Ok(Settings { target: self.0, common, values })
    }
}

/// A map from which the file's own settings are taken on the way.
struct Own<'v, A> {
    target: &'static Target,
    map: A,
    values: &'v mut BTreeMap<String, Json>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Own<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if let Some(setting) = self.target.file.settings.iter().find(|setting| setting.name == key) {
                let value = self.map.next_value_seed(Value(setting))?;
                self.values.insert(key, value);
                continue;
            }
            if !COMMON.contains(&key.as_str()) {
                return Err(A::Error::unknown_field(&key, self.target.known));
            }
            let key: StrDeserializer<'_, A::Error> = key.as_str().into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads the value of one setting by its type.
struct Value<'s>(&'s Setting);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Ok(match self.0.kind {
            Type::Text | Type::Template | Type::Address | Type::Url => {
                String::deserialize(deserializer)?.into()
            }
            Type::Flag => bool::deserialize(deserializer)?.into(),
            Type::Number => i64::deserialize(deserializer)?.into(),
            Type::Duration => (units::Duration::deserialize(deserializer)?.ms() / 1000).into(),
            Type::Texts | Type::TemplateList => Vec::<String>::deserialize(deserializer)?.into(),
            Type::Tree => Json::Object(serde_json::Map::deserialize(deserializer)?),
            Type::Templates => {
                let map = BTreeMap::<String, String>::deserialize(deserializer)?;
                Json::Object(map.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
        })
    }
}

/// The schema of one service's settings. What must be given is left to `check`: a secret may come by another key.
pub(crate) fn schema(target: &Target, generator: &mut SchemaGenerator) -> Json {
    let common = <common::Settings as schemars::JsonSchema>::json_schema(generator).to_value();
    let mut properties = common["properties"].as_object().cloned().unwrap_or_default();
    let duration = generator.subschema_for::<units::Duration>().to_value();
    for setting in &target.file.settings {
        let mut property = match setting.kind {
            Type::Text | Type::Template | Type::Address | Type::Url => json!({ "type": "string" }),
            Type::Flag => json!({ "type": "boolean" }),
            Type::Number => json!({ "type": "integer" }),
            Type::Duration => duration.clone(),
            Type::Texts | Type::TemplateList => json!({ "type": "array", "items": { "type": "string" } }),
            Type::Tree => json!({ "type": "object" }),
            Type::Templates => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        };
        if !setting.choices.is_empty() {
            property["enum"] = json!(setting.choices);
        }
        property["description"] = json!(setting.description);
        properties.insert(setting.name.clone(), property);
    }
    json!({
        "type": "object",
        "description": format!("Settings of `{}`.", target.kind.key),
        "properties": properties,
        "additionalProperties": false,
    })
}
