//! Labels as Alertmanager's templates see them, and lists.

use minijinja::{
    Environment, Error,
    value::{Rest, Value, ValueKind},
};

use super::invalid;

/// Most items of a list that `append` makes: a list in itself doubles with each step.
const ITEMS_MAX: usize = 10_000;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("sorted_pairs", sorted_pairs);
    environment.add_filter("names", names);
    environment.add_filter("values", values);
    environment.add_filter("show_pairs", show_pairs);
    environment.add_filter("without", without);
    environment.add_filter("firing", |alerts: &Value| with_status(alerts, "firing"));
    environment.add_filter("resolved", |alerts: &Value| with_status(alerts, "resolved"));
    environment.add_filter("entries", entries);
    environment.add_filter("append", append);
}

/// Names and values of a map, sorted by name with `alertname` first; of a list of pairs, in its order.
fn pairs(labels: &Value) -> Result<Vec<(Value, Value)>, Error> {
    if labels.kind() != ValueKind::Map {
        let pair = |pair: Value| Ok((pair.get_attr("name")?, pair.get_attr("value")?));
        return labels.try_iter()?.map(pair).collect();
    }
    let pair = |name: Value| Ok((name.clone(), labels.get_item(&name)?));
    let mut pairs: Vec<(Value, Value)> = labels.try_iter()?.map(pair).collect::<Result<_, Error>>()?;
    pairs.sort_by(|(one, _), (other, _)| {
        let key = |name: &Value| (name.as_str() != Some("alertname"), name.clone());
        key(one).cmp(&key(other))
    });
    Ok(pairs)
}

/// `labels | sorted_pairs`: a list of maps with `name` and `value`, sorted by name with `alertname` first.
fn sorted_pairs(labels: &Value) -> Result<Value, Error> {
    let pair = |(name, value)| Value::from_pairs([("name", name), ("value", value)]);
    Ok(pairs(labels)?.into_iter().map(pair).collect())
}

fn names(labels: &Value) -> Result<Value, Error> {
    Ok(pairs(labels)?.into_iter().map(|(name, _)| name).collect())
}

fn values(labels: &Value) -> Result<Value, Error> {
    Ok(pairs(labels)?.into_iter().map(|(_, value)| value).collect())
}

/// `labels | show_pairs`: `alertname=x, job=y`.
fn show_pairs(labels: &Value) -> Result<String, Error> {
    let texts: Vec<String> = pairs(labels)?.iter().map(|(name, value)| format!("{name}={value}")).collect();
    super::bounded(texts.join(", "))
}

/// `labels | without(["a", "b"])`: the labels of other names.
fn without(labels: &Value, names: &Value) -> Result<Value, Error> {
    let names: Vec<Value> = names.try_iter()?.collect();
    Ok(Value::from_pairs(pairs(labels)?.into_iter().filter(|(name, _)| !names.contains(name))))
}

fn with_status(alerts: &Value, status: &str) -> Result<Value, Error> {
    let mut found = Vec::new();
    for alert in alerts.try_iter()? {
        if alert.get_attr("status")?.as_str() == Some(status) {
            found.push(alert);
        }
    }
    Ok(Value::from(found))
}

/// `value | entries`: pairs of index and item of a list, of key and value of a map in order; none of nothing.
fn entries(value: &Value) -> Result<Vec<Vec<Value>>, Error> {
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            keys.sort();
            keys.into_iter().map(|key| Ok(vec![key.clone(), value.get_item(&key)?])).collect()
        }
        ValueKind::Undefined | ValueKind::None | ValueKind::String => Ok(Vec::new()),
        _ => Ok(value.try_iter()?.enumerate().map(|(index, item)| vec![Value::from(index), item]).collect()),
    }
}

/// `list | append(a, b)`.
fn append(list: &Value, items: Rest<Value>) -> Result<Value, Error> {
    let all: Vec<Value> = list.try_iter()?.chain(items.0).take(ITEMS_MAX + 1).collect();
    if all.len() > ITEMS_MAX {
        return Err(invalid(format!("a list has more than {ITEMS_MAX} items")));
    }
    Ok(Value::from(all))
}
