//! Records in bytes: alerts by their own code with a dictionary, everything else by postcard.

use std::{borrow::Cow, collections::HashMap, io, ops::Range, sync::Arc};

use ams2_core::{AlertBatch, BatchBuilder, Input, Wall, batch::AlertTimes, input::Arrival};
use siphasher::sip128::{Hasher128, SipHasher13};
use smol_str::SmolStr;

const KIND_INPUT: u8 = 0;
const KIND_ALERTS: u8 = 1;
/// Version of inputs by postcard.
pub(super) const INPUT_VERSION: u8 = 6;
/// The oldest that is read: it lacks kinds of inputs, and has those that it has as they are.
const INPUT_VERSION_MIN: u8 = 4;

/// Whether inputs of this version are read.
fn is_known(version: u8) -> bool {
    (INPUT_VERSION_MIN..=INPUT_VERSION).contains(&version)
}

const LABELS_EARLIER: u8 = 1;
const TEXT_EARLIER: u8 = 2;
const STARTS_AT: u8 = 4;
const ENDS_AT: u8 = 8;
const ID: u8 = 16;
const KEY: u8 = 32;

/// Which definitions stand where in a segment, by a keyed hash of 128 bits.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    key: [u64; 2],
    offsets: HashMap<u128, u32, BuildDirect>,
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct BuildDirect;
struct Direct(u64);

impl std::hash::BuildHasher for BuildDirect {
    type Hasher = Direct;
    fn build_hasher(&self) -> Direct {
        Direct(0)
    }
}

impl std::hash::Hasher for Direct {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().take(8) {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

impl Dictionary {
    pub fn new(key: [u64; 2]) -> Dictionary {
        Dictionary { key, offsets: HashMap::default() }
    }

    /// The offset of an equal definition, or notes that this one stands at `offset`.
    fn find_or_note(&mut self, definition: &[u8], offset: u64) -> Option<u32> {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        std::hash::Hasher::write(&mut hasher, definition);
        let hash = hasher.finish128().as_u128();
        // Offsets over 4 GiB are not noted: segments are far smaller.
        let place = u32::try_from(offset).ok()?;
        match self.offsets.entry(hash) {
            std::collections::hash_map::Entry::Occupied(known) => Some(*known.get()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(place);
                None
            }
        }
    }
}

/// Appends a record to `out`, whose first byte will stand at `origin` in the segment.
pub(super) fn encode(
    input: &Input,
    out: &mut Vec<u8>,
    origin: u64,
    base_ms: i64,
    dictionary: &mut Dictionary,
) {
    let Input::Alerts(arrival) = input else {
        out.push(KIND_INPUT);
        out.push(INPUT_VERSION);
        let body = postcard::to_stdvec(input).expect("plain data encodes");
        put_varint(out, body.len() as u64);
        out.extend_from_slice(&body);
        return;
    };
    out.push(KIND_ALERTS);
    put_text(out, &arrival.client);
    put_varint(out, arrival.batch.len() as u64);
    for alert in arrival.batch.iter() {
        let flags_at = out.len();
        out.push(0);
        let mut flags = 0;
        define(out, origin, dictionary, &mut flags, LABELS_EARLIER, |out| put_pairs(out, alert.labels()));
        define(out, origin, dictionary, &mut flags, TEXT_EARLIER, |out| {
            put_text(out, alert.generator_url().unwrap_or(""));
            put_pairs(out, alert.annotations());
        });
        let times = alert.times();
        for (time, flag) in [(times.starts_at, STARTS_AT), (times.ends_at, ENDS_AT)] {
            if let Some(Wall(ms)) = time {
                flags |= flag;
                put_varint(out, zigzag(ms.wrapping_sub(base_ms)));
            }
        }
        if let Some(id) = alert.id() {
            flags |= ID;
            put_text(out, id);
        }
        if let Some(key) = alert.key() {
            flags |= KEY;
            put_text(out, key);
        }
        out[flags_at] = flags;
    }
}

/// Writes a definition, or where an equal one stands.
fn define(
    out: &mut Vec<u8>,
    origin: u64,
    dictionary: &mut Dictionary,
    flags: &mut u8,
    earlier: u8,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    write(out);
    if let Some(offset) = dictionary.find_or_note(&out[start..], origin + start as u64) {
        out.truncate(start);
        put_varint(out, offset.into());
        *flags |= earlier;
    }
}

fn put_pairs<'a>(out: &mut Vec<u8>, pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
    put_varint(out, pairs.len() as u64);
    for (name, value) in pairs {
        put_text(out, name);
        put_text(out, value);
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Bytes that do not decode although their checksum is right.
#[derive(Debug)]
pub(super) enum Undecodable {
    /// What they refer to is damaged, or the program that wrote them made a mistake.
    Damaged,
    /// A kind of record, or a version of one, that only a newer program writes.
    Newer,
    /// What they refer to cannot be read now.
    Unreadable(io::Error),
}

/// Definitions that stand earlier in the segment.
pub(super) trait Earlier {
    /// The bytes of the segment from `offset` on: at least the whole definition there. `None` where it is damaged; an error
    /// says nothing of what stands there.
    fn at(&self, offset: u64) -> io::Result<Option<Cow<'_, [u8]>>>;
}

/// A segment that is in memory as a whole, with the parts of it that do not check.
pub(super) struct InMemory<'a> {
    pub bytes: &'a [u8],
    pub damaged: &'a [Range<u64>],
}

impl Earlier for InMemory<'_> {
    fn at(&self, offset: u64) -> io::Result<Option<Cow<'_, [u8]>>> {
        // A definition lies in one frame: whole, or in damage.
        let is_damaged = self.damaged.iter().any(|range| range.contains(&offset));
        let place = usize::try_from(offset).ok().filter(|_| !is_damaged);
        Ok(place.and_then(|place| self.bytes.get(place..)).map(Cow::Borrowed))
    }
}

/// Reads records one after the other.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(payload: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: payload }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next record.
    pub fn input(&mut self, earlier: &impl Earlier, base_ms: i64) -> Result<Input, Undecodable> {
        match self.byte()? {
            KIND_INPUT => {
                if !is_known(self.byte()?) {
                    return Err(Undecodable::Newer);
                }
                let length = self.length()?;
                let body = self.take(length)?;
                postcard::from_bytes(body).map_err(|_| Undecodable::Damaged)
            }
            KIND_ALERTS => {
                let (client, count) = self.arrival_head()?;
                let mut builder = BatchBuilder::with_capacity(0);
                for _ in 0..count {
                    self.alert(earlier, base_ms, &mut builder)?;
                }
                Ok(Input::Alerts(Arrival { client, batch: Arc::new(builder.finish()) }))
            }
            _ => Err(Undecodable::Newer),
        }
    }

    /// Behind the head of a record of alerts: who sent them, and how many follow; see [`Decoder::skip_alert`] and
    /// [`Decoder::one_alert`].
    pub fn alerts_head(&mut self) -> Result<(SmolStr, u64), Undecodable> {
        if self.byte()? != KIND_ALERTS {
            return Err(Undecodable::Damaged);
        }
        self.arrival_head()
    }

    /// Passes over a record that does not decode, by its length, and answers how many sequence numbers it takes, where that can
    /// be told without decoding it.
    pub fn skip(&mut self) -> Result<Option<u64>, Undecodable> {
        if self.is_alerts() {
            return self.skip_alerts().map(Some);
        }
        let (kind, version) = (self.byte()?, self.byte()?);
        if kind != KIND_INPUT || !is_known(version) {
            return Err(Undecodable::Newer);
        }
        let length = self.length()?;
        self.take(length).map(|_| None)
    }

    /// Passes over a record of alerts whose texts cannot be read, and answers how many sequence numbers it takes.
    fn skip_alerts(&mut self) -> Result<u64, Undecodable> {
        let (_, count) = self.alerts_head()?;
        for _ in 0..count {
            self.skip_alert()?;
        }
        Ok(count.max(1))
    }

    /// Passes over an alert; what it has elsewhere is not read.
    pub fn skip_alert(&mut self) -> Result<(), Undecodable> {
        let flags = self.byte()?;
        if flags & LABELS_EARLIER != 0 {
            self.varint()?;
        } else {
            self.skip_pairs()?;
        }
        if flags & TEXT_EARLIER != 0 {
            self.varint()?;
        } else {
            self.skip_text()?;
            self.skip_pairs()?;
        }
        for flag in [STARTS_AT, ENDS_AT] {
            if flags & flag != 0 {
                self.varint()?;
            }
        }
        for flag in [ID, KEY] {
            if flags & flag != 0 {
                self.skip_text()?;
            }
        }
        Ok(())
    }

    /// The next alert, as a batch of one.
    pub fn one_alert(&mut self, earlier: &impl Earlier, base_ms: i64) -> Result<AlertBatch, Undecodable> {
        let mut builder = BatchBuilder::with_capacity(0);
        self.alert(earlier, base_ms, &mut builder)?;
        Ok(builder.finish())
    }

    /// Whether the next record holds alerts.
    pub fn is_alerts(&self) -> bool {
        self.rest.first() == Some(&KIND_ALERTS)
    }

    /// How many bytes are left.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    fn skip_text(&mut self) -> Result<(), Undecodable> {
        let length = self.length()?;
        self.take(length).map(drop)
    }

    fn skip_pairs(&mut self) -> Result<(), Undecodable> {
        for _ in 0..self.varint()? {
            self.skip_text()?;
            self.skip_text()?;
        }
        Ok(())
    }

    fn arrival_head(&mut self) -> Result<(SmolStr, u64), Undecodable> {
        Ok((self.text()?.into(), self.varint()?))
    }

    /// One alert, into the builder.
    fn alert(
        &mut self,
        earlier: &impl Earlier,
        base_ms: i64,
        builder: &mut BatchBuilder,
    ) -> Result<(), Undecodable> {
        let flags = self.byte()?;
        self.definition(flags & LABELS_EARLIER != 0, earlier, |source| {
            for _ in 0..source.varint()? {
                let (name, value) = (source.text()?, source.text()?);
                builder.label(name, value);
            }
            Ok(())
        })?;
        let mut url = String::new();
        self.definition(flags & TEXT_EARLIER != 0, earlier, |source| {
            url.push_str(source.text()?);
            for _ in 0..source.varint()? {
                let (name, value) = (source.text()?, source.text()?);
                builder.any_annotation(name, value);
            }
            Ok(())
        })?;
        let mut time = |flag| -> Result<Option<Wall>, Undecodable> {
            if flags & flag == 0 {
                return Ok(None);
            }
            Ok(Some(Wall(unzigzag(self.varint()?).wrapping_add(base_ms))))
        };
        let times = AlertTimes { starts_at: time(STARTS_AT)?, ends_at: time(ENDS_AT)? };
        let id = if flags & ID != 0 { Some(self.text()?) } else { None };
        if flags & KEY != 0 {
            builder.key(self.text()?);
        }
        builder.finish_alert(times, id, (!url.is_empty()).then_some(&url)).map_err(|_| Undecodable::Damaged)
    }

    /// Reads a definition that stands here, or earlier in the segment.
    fn definition(
        &mut self,
        is_earlier: bool,
        earlier: &impl Earlier,
        read: impl FnOnce(&mut Decoder<'_>) -> Result<(), Undecodable>,
    ) -> Result<(), Undecodable> {
        if is_earlier {
            let offset = self.varint()?;
            let bytes = earlier.at(offset).map_err(Undecodable::Unreadable)?.ok_or(Undecodable::Damaged)?;
            return read(&mut Decoder::new(&bytes));
        }
        let mut here = Decoder::new(self.rest);
        read(&mut here)?;
        self.rest = here.rest;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Undecodable> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Undecodable> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Undecodable::Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Undecodable::Damaged)
    }

    fn length(&mut self) -> Result<usize, Undecodable> {
        usize::try_from(self.varint()?).map_err(|_| Undecodable::Damaged)
    }

    fn text(&mut self) -> Result<&'a str, Undecodable> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Undecodable::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use serde::{
        Deserialize, Deserializer,
        de::{Visitor, value::Error},
    };

    use super::*;

    /// Takes down the names of an enum's variants, and gives up.
    struct Variants<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Variants<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(serde::de::Error::custom("an input is an enum"))
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            variants: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = variants;
            Err(serde::de::Error::custom("the names are all that is wanted"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }

    /// A program that does not know a kind of input must see that a newer one wrote it, or it takes it for damage: whoever
    /// adds one raises the version, and this list with it.
    #[test]
    fn the_version_of_inputs_stands_for_these_kinds() {
        let mut variants: &[&str] = &[];
        assert!(Input::deserialize(Variants(&mut variants)).is_err());
        let kinds = [
            "Alerts",
            "Own",
            "Outcome",
            "Acknowledge",
            "Deliveries",
            "ConfigInstalled",
            "Started",
            "Stopping",
            "WallClock",
            "Advanced",
            "Carried",
            "Silence",
            "Ping",
            "CheckIn",
            "ForgetClient",
        ];
        assert_eq!((INPUT_VERSION, variants), (6, &kinds[..]));
    }
}
