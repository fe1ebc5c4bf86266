//! `config schema` against the loader, over every configuration that ships: both take it as it is, and both
//! refuse it after any one mutation.

use std::path::{Path, PathBuf};

use jsonschema::Validator;
use scheduler_cli::App;
use scheduler_cli::diagnostic::Severity;
use scheduler_cli::layers::Document;
use serde_json::{Value, json};

use crate::bench::Bench;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The configurations of the examples whose jobs this program has, and the one that lists every setting.
fn shipped() -> Vec<(PathBuf, Value)> {
    let mut open = vec![root().join("examples")];
    let mut files = vec![root().join("scheduler.example.toml")];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_config = [".toml", ".yaml", ".yml"].iter().any(|ending| name.ends_with(ending));
            // The binary that is composed there has jobs of its own, and its own test of this kind.
            let is_other = ["custom-binary", "target"].contains(&name.as_str());
            match path.is_dir() {
                true if !is_other => open.push(path),
                false if is_config && name != "Cargo.toml" => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| (path.clone(), tree(&path))).collect()
}

fn tree(path: &Path) -> Value {
    Document::load(path, [], &[], &[]).unwrap().value("").unwrap().clone()
}

fn validator() -> Validator {
    let answer = Bench::new("").run(&["config", "schema"]);
    jsonschema::validator_for(&answer.json()).unwrap()
}

/// What the loader says against this tree; JSON is YAML.
fn refusals(path: &Path, tree: &Value) -> Vec<String> {
    let path = path.with_extension("yaml");
    let found = App::new().with_builtins().diagnose(&path, tree.to_string().into_bytes()).unwrap();
    let refused = found.into_iter().filter(|fault| fault.severity != Severity::Warning);
    // What the script of an example makes is not there yet.
    refused.map(|fault| fault.message).filter(|message| !message.contains("target/maintenance")).collect()
}

/// Every place of a tree, the tables and the leaves.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    if let Value::Object(table) = value {
        for (key, inner) in table {
            places(inner, &format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }
    }
}

#[test]
fn every_shipped_configuration_is_valid() {
    let validator = validator();
    let shipped = shipped();

    assert!(shipped.len() >= 2, "{shipped:?}");
    for (path, tree) in &shipped {
        let faults: Vec<String> =
            validator.iter_errors(tree).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", path.display());
        let refusals = refusals(path, tree);
        assert!(refusals.is_empty(), "{}: {refusals:?}", path.display());
    }
}

/// Holds what a deployment of somebody else takes, which only its engine knows.
const OPEN: &str = "/args/parameters";

/// A key that nobody knows, in every table; a value of another type, in every place.
#[test]
fn every_shipped_configuration_is_refused_after_any_one_mutation() {
    let validator = validator();
    let mut mutations = 0;
    for (path, tree) in shipped() {
        let mut all = Vec::new();
        places(&tree, "", &mut all);
        for place in all {
            let mut mutants = Vec::new();
            let mut mutant = tree.clone();
            if let Some(Value::Object(table)) = mutant.pointer_mut(&place).filter(|_| !place.ends_with(OPEN))
            {
                table.insert("zz_nobody_knows".to_owned(), json!(1));
                mutants.push(mutant);
            }
            let mut mutant = tree.clone();
            let is_free = place.is_empty() || place.contains(&format!("{OPEN}/"));
            if let Some(value) = mutant.pointer_mut(&place).filter(|_| !is_free) {
                *value = json!([{ "no": ["such", "type"] }]);
                mutants.push(mutant);
            }
            for mutant in mutants {
                mutations += 1;
                let verdicts = (validator.is_valid(&mutant), refusals(&path, &mutant).is_empty());
                assert_eq!(verdicts, (false, false), "(schema, loader) at `{place}` of {}", path.display());
            }
        }
    }
    assert!(mutations > 100, "{mutations}");
}
