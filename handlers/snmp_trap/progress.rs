//! How far a delivery of many alerts got, kept from one attempt to the next: what was answered is not told again.
//!
//! A delivery's order is the same at each attempt, so a few names say it all: those that were passed over, and the one from which on none
//! is told. They are kept where a mail keeps the recipients that are left.

use std::collections::HashSet;

use ams2_core::Fingerprint;

use crate::{Alert, Delivery, Group, Recipient};

/// Most alerts that are kept by name; further ones are told again with all behind them.
const PASSED_OVER_MAX: usize = 1000;

/// Every alert of a delivery with its group, in order.
pub(super) fn alerts(delivery: &Delivery) -> impl Iterator<Item = (&Group, &Alert)> {
    delivery.groups.iter().flat_map(|group| group.alerts.iter().map(move |alert| (group, alert)))
}

/// Which alerts of a delivery are to be told, in order. Where the last name is unknown, because a digest let go of its delivery: all.
pub(super) fn wanted(delivery: &Delivery) -> Vec<bool> {
    let names: Vec<Recipient> =
        alerts(delivery).map(|(group, alert)| name(group, alert.fingerprint)).collect();
    let Some((last, passed_over)) = delivery.unfinished.as_deref().and_then(<[Recipient]>::split_last) else {
        return vec![true; names.len()];
    };
    let rest = if *last == end() { Some(names.len()) } else { names.iter().position(|name| name == last) };
    let Some(rest) = rest else { return vec![true; names.len()] };
    let passed_over: HashSet<&Recipient> = passed_over.iter().collect();
    names.iter().enumerate().map(|(at, name)| at >= rest || passed_over.contains(name)).collect()
}

/// What [`wanted`] finds the alerts by that are not told yet: those before the last that is, then the first of the rest.
pub(super) fn left(delivery: &Delivery, is_told: &[bool]) -> Vec<Recipient> {
    let mut rest = is_told.iter().rposition(|told| *told).map_or(0, |last| last + 1);
    let mut left = Vec::new();
    for (at, (group, alert)) in alerts(delivery).enumerate() {
        if at < rest && left.len() == PASSED_OVER_MAX && !is_told[at] {
            rest = at;
        }
        if at < rest && !is_told[at] {
            left.push(name(group, alert.fingerprint));
        }
        if at == rest {
            left.push(name(group, alert.fingerprint));
            return left;
        }
    }
    left.push(end());
    left
}

/// An alert in one notification of its group.
fn name(group: &Group, alert: Fingerprint) -> Recipient {
    Recipient::of(&format!("{alert} {} {}", group.number, group.key))
}

/// Behind the last alert.
fn end() -> Recipient {
    Recipient::of("")
}
