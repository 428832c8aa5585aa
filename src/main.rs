//! The ams2 program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ams2::cli::main()
}
