//! The console's side of the server: queries and commands over HTTP. It asks the router, and changes things only by
//! appending inputs; it never touches the machine.

mod api;
mod decisions;
mod done;
mod pieces;
mod silences;
mod status;
pub mod views;

pub use api::{
    AcknowledgeOrder, Api, DeliveryOrder, Done, Inputs, KNOWN_FROM, NotAppended, Operator, Problem, Reload,
    ReloadOrder, SLOW_PATHS, TRUNCATED, TestAnswer, TestOrder, alerts, no_such_method, no_such_path, routes,
};
pub use decisions::Decision;
pub(crate) use pieces::{Listing, Took, Unwritten, streamed, walk};
pub use silences::{ExpireOrder, Preview, PreviewOrder, SetDone, SetOrder};
pub use status::{Status, status_routes};
