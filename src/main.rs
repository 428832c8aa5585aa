//! The ams2 program.
fn main() {}
