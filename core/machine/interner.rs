//! Strings kept once: a label is two numbers. Numbers never reach an effect, and nothing is ordered by them.

use alloc::boxed::Box;
use core::hash::Hasher;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{slab::Slab, table::Table};

/// The number of a string. Its order is for lookups only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Sym(u32);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Interner {
    seed: [u64; 2],
    slots: Slab<Slot>,
    #[serde(skip)]
    table: Table,
}

#[derive(Debug, Serialize, Deserialize)]
struct Slot {
    text: Box<str>,
    /// How many labels use it.
    uses: u32,
}

impl Interner {
    pub fn new(seed: [u64; 2]) -> Interner {
        Interner { seed, ..Interner::default() }
    }

    /// The number of `text`, with one use more.
    pub fn intern(&mut self, text: &str) -> Sym {
        let hash = self.hash(text);
        if let Some(number) = self.table.find(hash, |number| &*self.slots[number].text == text) {
            self.slots[number].uses += 1;
            return Sym(number);
        }
        let number = self.slots.insert(Slot { text: text.into(), uses: 1 });
        self.table.insert(hash, number);
        Sym(number)
    }

    /// The number of `text`, if it is kept.
    pub fn find(&self, text: &str) -> Option<Sym> {
        let same = |number| &*self.slots[number].text == text;
        self.table.find(self.hash(text), same).map(Sym)
    }

    /// One use less; the last one frees the string.
    pub fn release(&mut self, sym: Sym) {
        let slot = &mut self.slots[sym.0];
        slot.uses -= 1;
        if slot.uses == 0
            && let Some(slot) = self.slots.remove(sym.0)
        {
            let hash = self.hash(&slot.text);
            self.table.remove(hash, sym.0);
        }
    }

    pub fn text(&self, sym: Sym) -> &str {
        &self.slots[sym.0].text
    }

    /// Makes the lookup table again, after a snapshot was read.
    pub fn rebuild(&mut self) {
        let Interner { seed, slots, table, .. } = self;
        table.clear();
        for (number, slot) in slots.iter() {
            table.insert(hash_text(*seed, &slot.text), number);
        }
    }

    fn hash(&self, text: &str) -> u64 {
        hash_text(self.seed, text)
    }
}

fn hash_text(seed: [u64; 2], text: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_lives_as_long_as_it_is_used() {
        let mut strings = Interner::new([1, 2]);
        let (a, b) = (strings.intern("site"), strings.intern("boston"));
        assert_eq!(strings.intern("site"), a);
        strings.release(a);
        assert_eq!(strings.text(a), "site");
        strings.release(a);
        let c = strings.intern("paris");
        assert_eq!((strings.text(c), strings.text(b)), ("paris", "boston"));
        assert_ne!(strings.intern("site"), b);
        strings.rebuild();
        assert_eq!(strings.intern("boston"), b);
    }
}
