//! Prints the CustomResourceDefinitions.

use std::process::ExitCode;

fn main() -> ExitCode {
    for crd in curfew::api::crds() {
        match serde_yaml::to_string(&crd) {
            #[allow(clippy::print_stdout, reason = "the output of the command")]
            Ok(yaml) => print!("---\n{yaml}"),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}
