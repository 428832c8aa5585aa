//! The console's side of the server: queries and commands over HTTP. It asks the router, and changes things only by
//! appending inputs; it never touches the machine.

mod api;
mod clients;
mod decisions;
mod done;
mod orders;
mod pieces;
mod problem;
mod silences;
mod status;
pub mod views;

pub use api::{
    Api, Inputs, KNOWN_FROM, NotAppended, Operator, Reload, ReloadOrder, SLOW_PATHS, TRUNCATED, alerts,
    routes,
};
pub use clients::Denied;
pub use decisions::Decision;
pub use orders::{AcknowledgeOrder, DeliveryOrder, Done, TestAnswer, TestOrder};
pub(crate) use pieces::{Listing, Quota, Took, Unwritten, json, streamed, walk};
pub use problem::{Problem, no_such_method, no_such_path};
pub(crate) use silences::listed_silences;
pub use silences::{ExpireOrder, Preview, PreviewOrder, SetDone, SetOrder};
pub use status::{Status, status_routes};
