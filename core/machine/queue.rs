//! Effects in their order, in pages: a record that gives cause for a million of them never moves those it has made.

use alloc::collections::VecDeque;

use crate::Effect;

/// Effects of one page.
const PAGE: usize = 512;

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// None of them empty.
    pages: VecDeque<VecDeque<Effect>>,
}

impl Queue {
    pub fn push(&mut self, effect: Effect) {
        match self.pages.back_mut() {
            Some(page) if page.len() < PAGE => page.push_back(effect),
            _ => self.pages.push_back([effect].into()),
        }
    }

    pub fn pop(&mut self) -> Option<Effect> {
        let page = self.pages.front_mut()?;
        let effect = page.pop_front();
        if page.is_empty() {
            self.pages.pop_front();
        }
        effect
    }
}
