//! Args are read when a task is checked; what is wrong with them is said then.

use serde_json::{Value, json};

use crate::stage::{Stage, descriptor, exec, exists, output};

fn faults(args: &Value) -> Vec<scheduler_core::ArgsError> {
    descriptor().build(args).err().unwrap_or_default()
}

#[tokio::test]
async fn arguments_are_never_a_shell() {
    let stage = Stage::new();
    let touched = stage.path("touched");
    let words = [
        format!("; touch {}", touched.display()),
        format!("$(touch {})", touched.display()),
        format!("`touch {}`", touched.display()),
        "$HOME *".to_owned(),
        String::new(),
        "a\nb\t\"'\\".to_owned(),
        "-n".to_owned(),
    ];
    let arguments: Vec<&str> = std::iter::once("%s|").chain(words.iter().map(String::as_str)).collect();

    let output = output(&json!({"program": "/usr/bin/printf", "args": arguments})).await;

    let printed: String = words.iter().flat_map(|word| [word, "|"]).collect();
    assert_eq!(output["stdout"], printed);
    assert!(!exists(&touched));
}

#[tokio::test]
async fn a_script_finds_its_arguments_as_they_stand() {
    let args = json!({"program": "echo \"$0|$1|$2\"", "shell": true, "args": ["a b", "$HOME; x"]});
    assert_eq!(output(&args).await["stdout"], "sh|a b|$HOME; x\n");
}

#[test]
fn a_missing_program_is_an_error_before_anything_runs() {
    let found = exec(&json!({"program": "surely_no_such_program", "env": {"PATH": "/nowhere:/bin"}})).check();

    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "args.program: program `surely_no_such_program` is not in PATH, which is /nowhere:/bin \
         (give the full path)"
    );
}

#[test]
fn a_check_looks_from_the_folder_in_which_the_program_runs() {
    let stage = Stage::new();
    let cases = [
        (json!({"program": "./x", "cwd": stage.folder()}), vec!["/program"]),
        (json!({"program": "./x", "cwd": "/nowhere"}), vec!["/cwd"]),
        (json!({"program": "surely_no_such_program", "cwd": "/nowhere"}), vec!["/cwd", "/program"]),
        (json!({"program": "true", "cwd": "/etc/passwd"}), vec!["/cwd"]),
        (json!({"program": "anything; at all", "shell": true}), vec![]),
        (json!({"program": "true", "cwd": "src"}), vec![]),
    ];

    for (args, pointers) in cases {
        let found = exec(&args).check();
        let places: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, pointers, "{args}: {found:?}");
    }
}

#[test]
fn every_fault_in_the_args_is_told_at_once() {
    let args = json!({
        "program": " ", "args": ["fine", "a\0b"], "cwd": "", "max_output": 99_999_999,
        "env": {"A=B": "x", "C": "\0", "SCHEDULER_RUN_ID": "x", "a/b~": "fine"},
        "pass_env": ["PATH", "", "TRACEPARENT"],
        "exit_codes": {"abort": [1], "snooze": [1]},
    });

    let found = faults(&args);

    let mut places: Vec<&str> = found.iter().map(|fault| fault.pointer.as_str()).collect();
    places.sort_unstable();
    let expected = [
        "/args/1",
        "/cwd",
        "/env/A=B",
        "/env/C",
        "/env/SCHEDULER_RUN_ID",
        "/exit_codes/abort/0",
        "/max_output",
        "/pass_env/1",
        "/pass_env/2",
        "/program",
    ];
    assert_eq!(places, expected, "{found:?}");
}

#[test]
fn an_arg_of_the_wrong_type_is_named_with_what_belongs_there() {
    let cases = [
        (json!({}), "", "missing field `program`"),
        (json!({"program": "true", "arg": []}), "/arg", "unknown field `arg`"),
        (json!({"program": "true", "args": "-l"}), "/args", "expected a sequence"),
        (json!({"program": "true", "grace": "5min"}), "/grace", "`min` in `5min` is no unit of time"),
        (json!({"program": "true", "grace": 5}), "/grace", "invalid type: integer `5`, expected a string"),
        (json!({"program": "true", "env": {"PORT": 80}}), "/env/PORT", "expected a string, or a secret"),
        (json!({"program": "true", "exit_codes": {"abort": [900]}}), "/exit_codes/abort/0", "900"),
        (
            json!({"program": "true", "exit_codes": {"never": []}}),
            "/exit_codes/never",
            "unknown field `never`",
        ),
    ];

    for (args, pointer, part) in cases {
        let found = faults(&args);
        assert_eq!(found[0].pointer, pointer, "{args}: {found:?}");
        assert!(found[0].message.contains(part), "{args}: {found:?}");
    }
}

#[test]
fn the_schema_names_every_arg() {
    let descriptor = descriptor();
    let schema = descriptor.args_schema();

    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], json!(["program"]));
    let names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 10, "{names:?}");
    for (name, property) in schema["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{name}: {property}");
    }
    assert!(!descriptor.is_adhoc());
}

#[test]
fn a_secret_that_cannot_be_read_is_found_when_the_task_is_checked() {
    let exec = descriptor();
    let args = json!({"program": "true", "env": {"A": {"env": "SURELY_NOT_SET"}, "B": "x"}});

    let found = exec.build(&args).unwrap().check();

    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pointer, "/env/A");
}
