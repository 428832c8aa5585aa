//! `ams2 template`: what templates make of alerts.

use std::io::Read as _;

use ams2_core::{At, DeliveryId, Fingerprint, Position, Severities, Wall, effect::NotifyReason};
use ams2_handlers::{
    Alert, Delivery, Group, Server,
    render::{SOURCE_BYTES_MAX, Scope, Shared, Template, TemplateError},
};
use smol_str::SmolStr;

use super::{
    CliError, Exit,
    args::{TemplateRender, TemplateUse},
    bring,
    client::Client,
    operate::{listed, percent},
    send::{self, Pairs},
    write_out,
};
use crate::{
    config::{self, Overrides},
    console::views,
};

/// When the sample began.
const SAMPLE_BEGAN: &str = "2026-11-24T10:15:00Z";
/// How long after it the sample is told.
const SAMPLE_TOLD_MS: i64 = 2_000;
/// What the sample is, unless labels say otherwise.
const SAMPLE_LABELS: [(&str, &str); 4] =
    [("computer", "ws-042"), ("event", "Virus Found"), ("severity", "critical"), ("site", "boston")];
const SAMPLE_ANNOTATIONS: [(&str, &str); 1] = [("summary", "EICAR in invoice.doc")];

pub(super) async fn render(render: TemplateRender) -> Result<Exit, CliError> {
    let (name, source) = source(&render)?;
    let loaded = match &render.config {
        None => None,
        Some(path) => Some(config::load(path, &Overrides::default()).map_err(|found| bring::wrong(&found))?),
    };
    let (severities, shared, external_url) = match &loaded {
        Some(loaded) => {
            (loaded.core.severities.clone(), loaded.templates.clone(), loaded.external_url.clone())
        }
        None => (Severities::default(), Shared::default(), SmolStr::default()),
    };
    let scope = match render.used_for {
        TemplateUse::Message => Scope::Delivery,
        TemplateUse::Html => Scope::Html,
        TemplateUse::Line => Scope::Alert,
    };
    let wrong = |error: TemplateError| {
        let line = error.line.map_or(String::new(), |line| format!(":{line}"));
        let mend = match render.config {
            None if error.message.contains("shared template") => {
                "name the configuration that shares it: --config FILE"
            }
            _ => "correct the template; docs/templates.md has every variable and filter",
        };
        CliError::new(Exit::Usage, format!("{name}{line}: {}", error.message), mend)
    };
    let template = Template::compile_with(&source, scope, &shared).map_err(wrong)?;
    let alerts = alerts(&render, &severities).await?;
    let delivery = delivery(alerts, &render.group_by, external_url);
    if scope == Scope::Alert {
        for line in template.render_each(&delivery) {
            let line = line.map_err(wrong)?;
            write_out(format_args!("{line}\n"));
        }
    } else {
        let text = template.render(&delivery).map_err(wrong)?;
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write_out(format_args!("{text}{end}"));
    }
    Ok(Exit::Done)
}

/// The template, and what it is called in messages.
fn source(render: &TemplateRender) -> Result<(String, String), CliError> {
    let Some(path) = &render.file else {
        return Ok(("TEMPLATE".into(), render.template.clone().unwrap_or_default()));
    };
    let from_input = path.as_os_str() == "-";
    let name = if from_input { "standard input".into() } else { path.display().to_string() };
    let mut text = String::new();
    // One byte more than may be: what is longer is refused with its reason, and never read whole.
    let bytes_max = SOURCE_BYTES_MAX as u64 + 1;
    let read = match from_input {
        true => std::io::stdin().take(bytes_max).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(bytes_max).read_to_string(&mut text)),
    };
    read.map_err(|error| {
        CliError::new(Exit::Usage, format!("{name} cannot be read: {error}"), "name a file of UTF-8 text")
    })?;
    Ok((name, text))
}

async fn alerts(render: &TemplateRender, severities: &Severities) -> Result<Vec<Alert>, CliError> {
    if render.alerts.is_empty() {
        return Ok(vec![sample(render, severities)?]);
    }
    let client = Client::new(&render.server)?;
    let path = format!("/api/v1/alerts?filter={}", percent(&render.alerts.join(",")));
    let rows: Vec<views::Alert> = listed(&client, &path).await?;
    if rows.is_empty() {
        let mend = "`ams2 query alerts` shows those that there are";
        return Err(CliError::new(Exit::No, "no alert matches", mend));
    }
    rows.iter().map(|row| real(row, severities)).collect()
}

fn sample(render: &TemplateRender, severities: &Severities) -> Result<Alert, CliError> {
    let given = |texts: &[String], what, sample: &[(&str, &str)]| -> Result<Pairs, CliError> {
        let mut all: Pairs =
            sample.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        all.extend(send::pairs(texts, what)?);
        Ok(all)
    };
    let text = |pairs: Pairs| -> Vec<(SmolStr, SmolStr)> {
        let own = |value: serde_json::Value| value.as_str().unwrap_or_default().into();
        // An empty value removes the sample's own: such a label is none.
        let pairs = pairs.into_iter().map(|(name, value)| (SmolStr::from(name), own(value)));
        let mut pairs: Vec<(SmolStr, SmolStr)> =
            pairs.filter(|(_, value): &(_, SmolStr)| !value.is_empty()).collect();
        pairs.sort();
        pairs
    };
    let labels = text(given(&render.labels, "--label", &SAMPLE_LABELS)?);
    let annotations = text(given(&render.annotations, "--annotation", &SAMPLE_ANNOTATIONS)?);
    let starts_at = wall(SAMPLE_BEGAN).expect("a test reads it");
    let ends_at = render.resolved.then_some(Wall(starts_at.0 + SAMPLE_TOLD_MS / 2));
    let severity = severities.rank(label(&labels, "severity"));
    Ok(Alert {
        fingerprint: Fingerprint::of(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        sequence: 17,
        position: Position::arrived(17),
        occurrence: None,
        firing: !render.resolved,
        new: true,
        labels,
        annotations,
        starts_at,
        ends_at,
        generator_url: "http://prometheus.example.com/graph".into(),
        severity,
        client: "boston".into(),
    })
}

fn label<'a>(labels: &'a [(SmolStr, SmolStr)], name: &str) -> &'a str {
    labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

fn real(row: &views::Alert, severities: &Severities) -> Result<Alert, CliError> {
    let odd = |what: &str| {
        let message = format!("the server shows an alert whose {what} cannot be read");
        CliError::new(Exit::Failed, message, "is it an ams2 of this version?")
    };
    let firing = row.state == "firing";
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| -> Vec<(SmolStr, SmolStr)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    };
    let labels = pairs(&row.labels);
    let severity = severities.rank(label(&labels, "severity"));
    let ends_at = (!firing).then(|| wall(&row.ends_at).ok_or_else(|| odd("end"))).transpose()?;
    Ok(Alert {
        fingerprint: Fingerprint::of(labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        sequence: row.sequence,
        position: Position::arrived(row.sequence),
        occurrence: None,
        firing,
        new: true,
        labels,
        annotations: pairs(&row.annotations),
        starts_at: wall(&row.starts_at).ok_or_else(|| odd("beginning"))?,
        ends_at,
        generator_url: row.generator_url.as_str().into(),
        severity,
        client: row.client.as_str().into(),
    })
}

fn wall(text: &str) -> Option<Wall> {
    let moment: jiff::Timestamp = text.parse().ok()?;
    Some(Wall(moment.as_millisecond()))
}

/// All of them as the first notification of one group.
fn delivery(alerts: Vec<Alert>, group_by: &[String], external_url: SmolStr) -> Delivery {
    let decided = alerts.iter().map(|alert| alert.starts_at.0).max().unwrap_or(0) + SAMPLE_TOLD_MS;
    let shared = |name: &&String| {
        let first = alerts.first().map_or("", |alert| alert.label(name));
        !first.is_empty() && alerts.iter().all(|alert| alert.label(name) == first)
    };
    let mut labels: Vec<(SmolStr, SmolStr)> = group_by
        .iter()
        .filter(shared)
        .map(|name| (name.as_str().into(), alerts[0].label(name).into()))
        .collect();
    labels.sort();
    labels.dedup();
    let key: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let firing = alerts.iter().filter(|alert| alert.firing).count() as u32;
    let group = Group {
        key: format!("{{}}:{{{}}}", key.join(", ")).into(),
        labels: labels.into(),
        reason: NotifyReason::FirstTime,
        number: 1,
        decided: Wall(decided),
        decided_at: At(0),
        firing,
        resolved: alerts.len() as u32 - firing,
        alerts,
        overview: None,
    };
    Delivery {
        id: DeliveryId(0x2a),
        attempt: 1,
        maybe_duplicate: false,
        test: false,
        receiver: "receiver".into(),
        external_url,
        groups: vec![group],
        digest: None,
        unfinished: None,
        memo: None,
        server: Server::default(),
    }
}
