//! Decodes a table of the configuration key by key and collects every fault on the way.
//!
//! Knows no setting: the caller asks for each key it knows, then [`Fields::finish`] reports those
//! that nobody asked for.

use std::fmt;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::from_value::{FromValue, Mismatch};
use crate::layers::Document;
use crate::origin::Origin;
use crate::pointer;
use crate::suggest::suggestion;

/// A table being decoded.
///
/// A key that is absent is no fault unless it is asked for with [`Fields::require`]; one with a
/// fault answers `None` as well, and the fault is in the list.
pub struct Fields<'a> {
    document: &'a Document,
    pointer: String,
    table: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

/// Shows no values: passwords may be among them.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fields").field("pointer", &self.pointer).finish_non_exhaustive()
    }
}

impl<'a> Fields<'a> {
    /// The top of the configuration.
    pub fn new(document: &'a Document) -> Self {
        Self::at(document, String::new())
    }

    fn at(document: &'a Document, pointer: String) -> Self {
        let table = document.value(&pointer).and_then(Value::as_object);
        Self { document, pointer, table, known: Vec::new(), refused: Vec::new() }
    }

    /// The JSON pointer to this table.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// What wrote this table.
    pub fn origin(&self) -> Origin {
        self.document.origin(&self.pointer)
    }

    /// Whether the key is there, whatever it holds.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The text of a key, if it has one; it does not count as read.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.table.and_then(|table| table.get(key)).and_then(Value::as_str)
    }

    /// The value of a key.
    pub fn take<T: FromValue>(&mut self, key: &'static str, faults: &mut Vec<Diagnostic>) -> Option<T> {
        let value = self.look_up(key)?;
        let place = self.place(key);
        // A text that looks like a number or a boolean is still a text where one is wanted.
        if !value.is_string()
            && let Some(taken) = self.document.raw(&place).and_then(T::from_text)
        {
            return Some(taken);
        }
        T::from_value(value).map_err(|found| faults.extend(self.faults(&place, found))).ok()
    }

    /// The value of a key that must be there.
    pub fn require<T: FromValue>(&mut self, key: &'static str, faults: &mut Vec<Diagnostic>) -> Option<T> {
        if !self.has(key) {
            let message = format!("{} is missing", pointer::subject(&self.place(key)));
            let help = format!("write `{key}`, {}", T::EXPECTED);
            faults.push(Diagnostic::error("config/missing_key", message, self.origin()).with_help(help));
        }
        self.take(key, faults)
    }

    /// The value of a key that is one of several words.
    pub fn word<T: Clone>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        faults: &mut Vec<Diagnostic>,
    ) -> Option<T> {
        let written: String = self.take(key, faults)?;
        let found = words.iter().find(|(word, _)| *word == written);
        if found.is_none() {
            let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let place = self.place(key);
            let mismatch =
                Mismatch::new("config/unknown_word", format!("is `{written}`, which is no choice"))
                    .with_help(suggestion(&written, "choices", &allowed));
            faults.extend(self.faults(&place, vec![mismatch]));
        }
        found.map(|(_, meaning)| meaning.clone())
    }

    /// The table under a key. One left empty, as YAML allows, has no keys.
    pub fn table(&mut self, key: &'static str, faults: &mut Vec<Diagnostic>) -> Option<Self> {
        let value = self.look_up(key)?;
        let place = self.place(key);
        self.is_table(value, &place, faults).then(|| Self::at(self.document, place))
    }

    /// The named tables under a key, such as the tasks, by name. A bad name is a fault, yet its
    /// table is answered too.
    pub fn tables(&mut self, key: &'static str, faults: &mut Vec<Diagnostic>) -> Vec<(String, Self)> {
        let Some(Self { table: Some(table), pointer, .. }) = self.table(key, faults) else {
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(table.len());
        for (name, value) in table {
            let place = pointer::child(&pointer, name);
            if let Some(problem) = name_problem(name) {
                let message = format!("the name of {} {problem}", pointer::subject(&place));
                let fault = Diagnostic::error("config/bad_name", message, self.document.key_origin(&place));
                faults.push(fault.with_help("use at most 64 of the characters a to z, 0 to 9 and _"));
            }
            if self.is_table(value, &place, faults) {
                tables.push((name.clone(), Self::at(self.document, place)));
            }
        }
        tables
    }

    /// Reports a key that this version does not take, with its own message; it is suggested to nobody.
    pub fn refuse(
        &mut self,
        code: &'static str,
        key: &'static str,
        problem: &str,
        faults: &mut Vec<Diagnostic>,
    ) {
        if self.has(key) {
            self.refused.push(key);
            let place = self.place(key);
            let message = format!("{} {problem}", pointer::subject(&place));
            faults.push(Diagnostic::error(code, message, self.document.key_origin(&place)));
        }
    }

    /// A fault of the value under a key, or of this table's own if the key is absent.
    ///
    /// The message is whole: it names the key and what is wrong.
    pub fn fault(&self, code: &'static str, key: &str, message: impl Into<String>) -> Diagnostic {
        self.fault_below(code, &pointer::child("", key), message)
    }

    /// A fault of what a JSON pointer below this table names, such as `/args/program`.
    pub fn fault_below(&self, code: &'static str, below: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message, self.document.origin(&format!("{}{below}", self.pointer)))
    }

    /// How messages name a key of this table: "`timeout` in task `backup`".
    pub fn subject(&self, key: &str) -> String {
        pointer::subject(&self.place(key))
    }

    /// Reports each key that nobody asked for.
    pub fn finish(self, faults: &mut Vec<Diagnostic>) {
        for key in self.table.into_iter().flat_map(Map::keys) {
            if !self.known.contains(&key.as_str()) && !self.refused.contains(&key.as_str()) {
                let place = self.place(key);
                let message = format!("unknown key {}", pointer::subject(&place));
                let fault =
                    Diagnostic::error("config/unknown_key", message, self.document.key_origin(&place));
                faults.push(fault.with_help(suggestion(key, "known keys", &self.known)));
            }
        }
    }

    fn look_up(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    fn place(&self, key: &str) -> String {
        pointer::child(&self.pointer, key)
    }

    fn is_table(&self, value: &Value, place: &str, faults: &mut Vec<Diagnostic>) -> bool {
        let is_table = value.is_object() || value.is_null();
        if !is_table {
            faults.extend(self.faults(place, vec![Mismatch::wrong_type(value, "a table")]));
        }
        is_table
    }

    fn faults(&self, place: &str, mismatches: Vec<Mismatch>) -> impl Iterator<Item = Diagnostic> {
        mismatches.into_iter().map(move |mismatch| {
            let place = format!("{place}{}", mismatch.pointer);
            let message = format!("{} {}", pointer::subject(&place), mismatch.problem);
            let fault = Diagnostic::error(mismatch.code, message, self.document.origin(&place));
            Diagnostic { help: mismatch.help, ..fault }
        })
    }
}

/// Why a text cannot name a task, a job or a backend: such names match `[a-z0-9_]+`, 64 characters at most.
pub fn name_problem(name: &str) -> Option<String> {
    let is_allowed = |character: &char| matches!(character, 'a'..='z' | '0'..='9' | '_');
    if let Some(wrong) = name.chars().find(|character| !is_allowed(character)) {
        return Some(format!("has the character `{wrong}`"));
    }
    match name.len() {
        0 => Some("is empty".to_owned()),
        1..=64 => None,
        length => Some(format!("is {length} characters long")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn document(content: &str, environment: &[(&str, &str)]) -> Document {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scheduler.toml");
        std::fs::write(&path, content).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Document::load(&path, environment, &[], &[]).unwrap()
    }

    fn summary(fault: &Diagnostic) -> String {
        let place = fault.origin.place();
        let place = place.split(", for ").next().unwrap().rsplit('/').next().unwrap();
        format!("{place} {} {}", fault.code, fault.message)
    }

    #[test]
    fn every_type_is_taken_from_its_value() {
        let document = document(
            "b = true\nu = 255\ni = -5\nf = 2\ns = 'x'\nd = '1h30m'\nl = ['a', 'b']\np = 'a/b'\nv = { x = [1] }",
            &[],
        );
        let (mut fields, mut faults) = (Fields::new(&document), Vec::new());

        assert_eq!(fields.take("b", &mut faults), Some(true));
        assert_eq!(fields.take("u", &mut faults), Some(255_u8));
        assert_eq!(fields.take("i", &mut faults), Some(-5_i64));
        assert_eq!(fields.take("f", &mut faults), Some(2.0));
        assert_eq!(fields.take("s", &mut faults), Some("x".to_owned()));
        assert_eq!(fields.take("d", &mut faults), Some(Duration::from_secs(5_400)));
        assert_eq!(fields.take("l", &mut faults), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(fields.take("p", &mut faults), Some(PathBuf::from("a/b")));
        assert_eq!(fields.take("v", &mut faults), Some(json!({"x": [1]})));
        assert_eq!(fields.take::<String>("absent", &mut faults), None);
        fields.finish(&mut faults);

        assert_eq!(faults, []);
    }

    #[test]
    fn every_fault_of_a_task_is_reported_at_its_place() {
        let document = document(
            "[tasks.backup]\nretires = 3\ntimeout = 30\noverlap = 'skp'\nargs = { list = ['a', 1] }\n\
             [tasks.backup.retry]\nmax_attempts = '5'\ninitial = '10 s'\n",
            &[("SCHEDULER_TASKS__BACKUP__PRIORITY", "300")],
        );
        let mut faults = Vec::new();

        for (_, mut task) in Fields::new(&document).tables("tasks", &mut faults) {
            task.require::<String>("job", &mut faults);
            task.take::<Duration>("timeout", &mut faults);
            task.take::<u8>("priority", &mut faults);
            task.word("overlap", &[("skip", 1), ("queue", 2)], &mut faults);
            let mut args = task.table("args", &mut faults).unwrap();
            args.take::<Vec<String>>("list", &mut faults);
            let mut retry = task.table("retry", &mut faults).unwrap();
            retry.take::<u32>("max_attempts", &mut faults);
            retry.take::<Duration>("initial", &mut faults);
            task.finish(&mut faults);
        }

        let expected = [
            "scheduler.toml:1:8 config/missing_key `job` in task `backup` is missing",
            "scheduler.toml:3:11 config/wrong_type `timeout` in task `backup` is a whole number, expected a duration",
            "environment variable SCHEDULER_TASKS__BACKUP__PRIORITY config/out_of_range `priority` in task `backup` is 300",
            "scheduler.toml:4:11 config/unknown_word `overlap` in task `backup` is `skp`, which is no choice",
            "scheduler.toml:5:23 config/wrong_type `args.list[1]` in task `backup` is a whole number, expected a string",
            "scheduler.toml:7:16 config/wrong_type `retry.max_attempts` in task `backup` is a string, expected a whole number",
            "scheduler.toml:8:11 config/bad_duration `retry.initial` in task `backup` is no duration: ` s` in `10 s` is no unit of time",
            "scheduler.toml:2:1 config/unknown_key unknown key `retires` in task `backup`",
        ];
        assert_eq!(faults.iter().map(summary).collect::<Vec<_>>(), expected);
        let help: Vec<&str> = faults.iter().filter_map(|fault| fault.help.as_deref()).collect();
        assert_eq!(help[1], "write the unit, for seconds \"30s\"");
        assert_eq!(help[2], "write a number from 0 to 255");
        assert_eq!(help[3], "did you mean `skip`? choices: `skip`, `queue`");
        assert!(help[5].starts_with("did you mean `retry`? known keys: `job`,"), "{}", help[5]);
    }

    #[test]
    fn an_unknown_section_in_the_environment_is_an_unknown_key() {
        let document = document("", &[("SCHEDULER_FOO", "1")]);
        let (mut fields, mut faults) = (Fields::new(&document), Vec::new());

        fields.table("scheduler", &mut faults);
        fields.finish(&mut faults);

        assert_eq!(
            faults.iter().map(summary).collect::<Vec<_>>(),
            ["environment variable SCHEDULER_FOO config/unknown_key unknown key `foo`"]
        );
    }

    #[test]
    fn a_text_from_the_environment_stays_a_text() {
        let document =
            document("", &[("SCHEDULER_A", "007"), ("SCHEDULER_B", "true"), ("SCHEDULER_C", "'x'")]);
        let (mut fields, mut faults) = (Fields::new(&document), Vec::new());

        assert_eq!(fields.take("a", &mut faults), Some("007".to_owned()));
        assert_eq!(fields.take("b", &mut faults), Some("true".to_owned()));
        assert_eq!(fields.take("c", &mut faults), Some("x".to_owned()));
        assert_eq!(fields.take("b", &mut faults), Some(true));
        assert_eq!(faults, []);
    }

    #[test]
    fn a_fault_of_an_argument_is_reported_at_its_json_pointer() {
        let document = document("[tasks.a]\nargs = { program = 1,\n env = { 'a/b' = 2 } }", &[]);
        let mut faults = Vec::new();
        let tasks = Fields::new(&document).tables("tasks", &mut faults);
        let cases = [
            ("/args/program", "scheduler.toml:2:20"),
            ("/args/env/a~1b", "scheduler.toml:3:18"),
            ("/args/env/missing", "scheduler.toml:3:2"),
            ("/args/missing", "scheduler.toml:2:1"),
            ("/missing", "scheduler.toml:1:8"),
        ];

        for (below, place) in cases {
            let fault = tasks[0].1.fault_below("job/bad_args", below, "is bad");
            assert_eq!(summary(&fault), format!("{place} job/bad_args is bad"), "{below}");
        }
    }

    #[test]
    fn a_table_that_is_none_is_refused_and_an_empty_one_is_not() {
        let document = document("a = 1\n[b]\nx = 1\n", &[]);
        let (mut fields, mut faults) = (Fields::new(&document), Vec::new());

        assert!(fields.table("a", &mut faults).is_none());
        assert!(fields.tables("b", &mut faults).is_empty());

        let expected = [
            "scheduler.toml:1:5 config/wrong_type `a` is a whole number, expected a table",
            "scheduler.toml:3:5 config/wrong_type `b.x` is a whole number, expected a table",
        ];
        assert_eq!(faults.iter().map(summary).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_bad_name_says_which_character_is_wrong() {
        let cases = [
            ("nightly_2", None),
            ("Nightly", Some("has the character `N`")),
            ("a-b", Some("has the character `-`")),
            ("ä", Some("has the character `ä`")),
            ("", Some("is empty")),
            (&"a".repeat(64), None),
            (&"a".repeat(65), Some("is 65 characters long")),
        ];

        for (name, problem) in cases {
            assert_eq!(name_problem(name).as_deref(), problem, "{name}");
        }
        let document = document("[tasks.a-b]", &[]);
        let mut faults = Vec::new();
        assert_eq!(Fields::new(&document).tables("tasks", &mut faults).len(), 1);
        assert_eq!(
            summary(&faults[0]),
            "scheduler.toml:1:8 config/bad_name the name of task `a-b` has the character `-`"
        );
    }
}
