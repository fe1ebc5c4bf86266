//! The first five minutes: a configuration that is written, checked, explained, run and looked at; and what a
//! wrong word on the command line is answered with.

use crate::bench::{Answer, Bench};

fn empty() -> Bench {
    let bench = Bench::new("");
    std::fs::remove_file(bench.path("scheduler.toml")).unwrap();
    bench
}

#[test]
fn what_init_writes_is_sound_explained_and_runs() {
    let bench = empty();

    let init = bench.run(&["init"]);
    let check = bench.run(&["check", "--strict"]);
    let explain = bench.run(&["explain", "hello"]);
    let run = bench.run(&["run", "--for", "6s", "--log", "text"]);
    let history = bench.run(&["history", "hello", "-o", "json"]).json();

    assert_eq!(init.code, 0, "{init:?}");
    assert!(init.stdout.contains("next: scheduler check, then scheduler run"), "{init:?}");
    assert_eq!((check.code, check.stderr.as_str()), (0, ""), "{check:?}");
    assert!(explain.stdout.starts_with("hello -> local"), "{explain:?}");
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(history["runs"][0]["output"]["stdout"], "hello from the scheduler\n", "{history}");
}

#[test]
fn the_schema_beside_the_first_configuration_is_named_in_it_and_takes_it() {
    let bench = empty();
    bench.run(&["init"]);

    let text = std::fs::read_to_string(bench.path("scheduler.toml")).unwrap();
    let named = text.lines().next().unwrap().strip_prefix("#:schema ./").unwrap();
    let schema = std::fs::read_to_string(bench.path(named)).unwrap();
    let printed = bench.run(&["config", "schema"]);

    assert_eq!(schema, printed.stdout);
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let document =
        scheduler_cli::layers::Document::load(&bench.path("scheduler.toml"), [], &[], &[]).unwrap();
    assert!(validator.is_valid(document.value("").unwrap()));
}

#[test]
fn init_replaces_nobodys_file_unless_told_to() {
    let bench = Bench::new("# mine\n");

    let refused = bench.run(&["init"]);
    let kept = std::fs::read_to_string(bench.path("scheduler.toml")).unwrap();
    let forced = bench.run(&["init", "--force"]);
    let again = bench.run(&["init", "--config", "other.toml"]);

    assert_eq!((refused.code, kept.as_str()), (5, "# mine\n"), "{refused:?}");
    assert!(refused.stderr.contains("init/exists") && refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!((forced.code, again.code), (0, 0), "{forced:?} {again:?}");
    assert!(again.stdout.contains("scheduler check --config other.toml"), "{again:?}");
    let foreign = empty();
    foreign.write("scheduler.schema.json", "{\"title\": \"mine\"}");
    assert_eq!(foreign.run(&["init"]).code, 5);
    assert_eq!(foreign.files(), ["scheduler.schema.json"]);
}

#[test]
fn init_says_where_it_cannot_write() {
    let bench = empty();

    let yaml = bench.run(&["init", "--config", "scheduler.yaml"]);
    let nowhere = bench.run(&["init", "--config", "no/such/folder/s.toml"]);

    assert_eq!(yaml.code, 2, "{yaml:?}");
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(yaml.stderr.contains("init/not_toml"), "{yaml:?}");
    assert!(nowhere.stderr.contains("init/unwritable") && nowhere.stderr.contains("no/such/folder/s.toml"));
    assert!(bench.files().is_empty());
}

#[test]
fn a_shell_gets_its_completions() {
    let bench = empty();

    for (shell, text) in [
        ("bash", "_scheduler()"),
        ("zsh", "#compdef scheduler"),
        ("fish", "complete -c scheduler"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let answer = bench.run(&["completions", shell]);
        assert_eq!(answer.code, 0, "{answer:?}");
        assert!(answer.stdout.contains(text) && answer.stdout.contains("explain"), "{shell}");
    }
}

#[test]
fn a_wrong_command_is_answered_with_the_next_step() {
    let bench = Bench::new("[tasks.hello]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1s\"\n");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["chek"], 2, "check"),
        (&["explain"], 2, "<TASK>"),
        (&["explain", "helo"], 4, "did you mean `hello`?"),
        (&["config"], 2, "show"),
        (&["config", "shema"], 2, "schema"),
        (&["completions", "tcsh"], 2, "possible values: bash"),
        (&["run", "--for", "banana"], 2, "banana"),
        (&["run", "--config", "gone.toml"], 2, "--config FILE"),
        (&["list", "-o", "yaml"], 2, "possible values: table"),
        (&[], 2, "Usage: scheduler"),
    ];

    for (arguments, code, text) in cases {
        let answer: Answer = bench.run(arguments);
        assert_eq!(answer.code, *code, "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains(text), "{arguments:?}: {answer:?}");
    }
}
