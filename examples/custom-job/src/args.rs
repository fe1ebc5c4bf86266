//! What a task writes under `args`, and everything that can be wrong with it.

use std::path::PathBuf;

use scheduler_core::ArgsError;
use serde::Deserialize;
use serde_json::{Value, json};

/// The most lines that one run may report: they become part of history.
const MOST_LINES: usize = 1_000;

/// The args of `log_watch`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The log file, absolute or relative to where the program was started. It may appear later, its folder may not.
    pub file: PathBuf,
    /// A line that holds one of these is reported.
    pub words: Vec<String>,
    /// How many lines a run reports; 20 unless set. Those beyond it are counted.
    #[serde(default = "twenty")]
    pub max_lines: usize,
}

fn twenty() -> usize {
    20
}

impl Args {
    /// Every fault that the types let through, so that nobody has to mend them one at a time.
    pub(crate) fn faults(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        if self.file.file_name().is_none() {
            let message = format!("`{}` names no file", self.file.display());
            faults.push(
                ArgsError::new("/file", message).with_help("write for example file = \"/var/log/app.log\""),
            );
        }
        if self.words.is_empty() {
            let fault = ArgsError::new("/words", "it names no word, so nothing could ever be reported");
            faults.push(fault.with_help("write for example words = [\"ERROR\"]"));
        }
        let empty = self.words.iter().enumerate().filter(|(_, word)| word.is_empty());
        faults.extend(
            empty.map(|(at, _)| ArgsError::new(format!("/words/{at}"), "an empty word is in every line")),
        );
        if !(1..=MOST_LINES).contains(&self.max_lines) {
            let message = format!("{} is not between 1 and {MOST_LINES}", self.max_lines);
            faults.push(ArgsError::new("/max_lines", message));
        }
        faults
    }

    /// The JSON Schema by which editors and `scheduler check` know the args without this crate.
    pub(crate) fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["file", "words"],
            "properties": {
                "file": { "type": "string", "description": "the log file" },
                "words": {
                    "type": "array", "minItems": 1, "items": { "type": "string", "minLength": 1 },
                    "description": "a line that holds one of these is reported",
                },
                "max_lines": {
                    "type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": twenty(),
                    "description": "how many lines a run reports",
                },
            },
        })
    }
}
