//! Any bytes as a configuration file, TOML and YAML: everything that `check` does with it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use scheduler_cli::App;
use scheduler_cli::diagnostic::Diagnostic;
use scheduler_cli::origin::Origin;
use scheduler_core::source;

fuzz_target!(|content: &[u8]| -> Corpus {
    // Other files of the machine are no part of the input, and their faults could not be repeated elsewhere.
    if content.windows(7).any(|window| window == b"include") {
        return Corpus::Reject;
    }
    for name in ["fuzz.toml", "fuzz.yaml"] {
        let faults = diagnose(name, content);
        faults.iter().for_each(|fault| is_well_told(fault, content));
        assert_eq!(faults, diagnose(name, content), "the same file has the same faults");
    }
    Corpus::Keep
});

fn diagnose(name: &str, content: &[u8]) -> Vec<Diagnostic> {
    let app = App::new().with_builtins().backend_kind(backend_queue::kind(), source!());
    app.diagnose(Path::new(name), content.to_vec()).expect("the built-in parts have names of their own")
}

fn is_well_told(fault: &Diagnostic, content: &[u8]) {
    assert!(fault.code.contains('/') && !fault.message.is_empty(), "{fault:?}");
    let text = fault.to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?} would be obeyed by a terminal");
    serde_json::to_string(fault).expect("a fault can be written as JSON");
    if let Origin::File(position) = &fault.origin {
        let lines = content.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!((1..=lines).contains(&position.line), "{text} has no such line among {lines}");
    }
}
