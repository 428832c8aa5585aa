//! Computers by name and address: a cache that discovery begins with, and lists of them that are brought over (AMS²'s Importer).
//! It works without a router: the cache is one file of the user's.
//!
//! Where to start reading: [`read`] (what a list says, and what is wrong with it), [`merge()`] (what that changes), then
//! `cache` (the file).

mod address;
mod cache;
mod list;
mod merge;
mod separator;

pub use cache::{CACHE_VARIABLE, Cache, CacheError, Host, Origin, Which, default_path};
pub use list::{Comments, Form, List, NotText, Order, Pair, Refusal, read, text_of};
pub use merge::{Change, Fate, Merge, merge};
pub use separator::{Separator, SeparatorError};
