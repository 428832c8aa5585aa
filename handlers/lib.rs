//! The actions of ams2: ways to tell somebody, one file each behind one trait, listed in one table.
//!
//! One call of [`Action::deliver`] is one attempt. Actions do not retry, wait or remember: patience is the core's.

mod delivery;

pub use ams2_core::input::{Failure, FailureKind, Receipt};
pub use delivery::{Alert, Delivery, Digest, Group};

use std::{fmt, time::Duration};

/// One configured way to tell somebody.
#[async_trait::async_trait]
pub trait Action: fmt::Debug + Send + Sync {
    /// Most deliveries that one call may carry; 1 unless the far end takes batches.
    fn batch_max(&self) -> usize {
        1
    }

    /// Makes one attempt for each delivery, giving up at `deadline`, and answers each in order.
    /// Retries are the router's business.
    async fn deliver(&self, batch: &[Delivery], deadline: Duration) -> Vec<Result<Receipt, Failure>>;

    /// Asks the far end how it is, without telling anybody anything. `Ok` is its answer in words.
    async fn probe(&self, deadline: Duration) -> Result<String, String>;
}
