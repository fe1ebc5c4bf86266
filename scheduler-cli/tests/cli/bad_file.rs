//! Files that are no configuration: each is answered with its code and place, in bounded memory, and nothing starts.

use std::fmt::Write as _;

use crate::bench::{Answer, Bench};

/// The marking task would leave `marker` at once.
const MARKING: &str = "[tasks.marking]\njob = \"exec\"\nargs.program = \"touch\"\nargs.args = [\"marker\"]\n\
                       timeout = \"1s\"\ntrigger = { every = \"100ms\" }\n";

/// More address space than any answer here needs; a bomb would take more.
const MEMORY: &str = "2097152";

/// `run` on a file of these bytes, in bounded memory.
fn run(bench: &Bench, name: &str, bytes: &[u8]) -> Answer {
    std::fs::write(bench.path(name), bytes).unwrap();
    let limited = format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"");
    let plain = bench.command(&[]);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &limited]).arg(plain.get_program());
    command.args(["run", "--for", "1s", "--log", "text", "--config", name]);
    command.current_dir(bench.path("")).stdin(std::process::Stdio::null());
    for (variable, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    Answer::of(command)
}

fn refused(name: &str, bytes: &[u8], expected: &[&str]) {
    let bench = Bench::new("");
    let answer = run(&bench, name, bytes);
    assert_eq!(answer.code, 2, "{name}: {answer:?}");
    for text in expected {
        assert!(answer.stderr.contains(text), "{name}: no {text:?} in {answer:?}");
    }
    let is_printable = |c: char| c == '\n' || !c.is_control();
    assert!(answer.stderr.chars().all(is_printable), "{name}: {answer:?}");
    assert!(answer.stderr.len() < 200_000, "{name}: {} bytes of talk", answer.stderr.len());
    assert!(!bench.path("marker").exists() && !bench.path("data").exists(), "{name}: something has started");
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let bench = Bench::new("");
    for name in ["bom.toml", "bom.yaml"] {
        let content = if name == "bom.toml" {
            MARKING
        } else {
            "tasks:\n  a:\n    job: exec\n    timeout: 1s\n    args: {program: 'true'}\n"
        };
        let answer = run(&bench, name, &[b"\xef\xbb\xbf", content.as_bytes()].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
    }
    assert!(bench.path("marker").exists());
}

#[test]
fn an_empty_file_is_a_configuration_without_tasks_and_says_so() {
    let bench = Bench::new("");

    let check = bench.run(&["check"]);

    assert_eq!(check.code, 0, "{check:?}");
    assert!(
        check.stderr.contains("warning[config/no_tasks]") && check.stderr.contains("scheduler init"),
        "{check:?}"
    );
}

#[test]
fn what_is_no_text_is_refused_where_that_begins() {
    let broken = [MARKING.as_bytes(), b"# caf\xe9\n"].concat();
    refused("latin.toml", &broken, &["config/not_utf8", "latin.toml:7:6"]);
    refused("latin.yaml", b"tasks:\n  \xff: 1\n", &["config/not_utf8", "latin.yaml:2:3"]);
    refused("zeros.toml", &[0; 4096], &["config/syntax", "zeros.toml:1:1"]);
    refused("zeros.yaml", &[0; 4096], &["zeros.yaml:1:1"]);
    refused("utf16.toml", &b"[\0t\0a\0s\0k\0s\0]\0"[..], &["config/syntax", "utf16.toml:1:"]);
}

#[test]
fn ten_megabytes_are_refused_unread() {
    let large = [MARKING.as_bytes(), &vec![b'#'; 10 * 1024 * 1024]].concat();
    refused("large.toml", &large, &["config/file_too_large", "large.toml", "4 MiB", "`include`"]);
    refused("large.yaml", &large, &["config/file_too_large"]);
}

#[test]
fn a_file_that_includes_itself_is_refused_by_name() {
    refused(
        "self.toml",
        format!("include = [\"./self.toml\"]\n{MARKING}").as_bytes(),
        &["config/include_cycle", "self.toml:1:12", "self.toml → "],
    );
    refused(
        "device.toml",
        b"include = [\"/dev/zero\"]\n",
        &["config/unreadable", "device.toml:1:12", "no regular file"],
    );
}

#[test]
fn what_nests_too_deeply_is_refused_where_it_does() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    refused(
        "lists.toml",
        format!("{MARKING}x = {}", deep("[", "]")).as_bytes(),
        &["config/too_deep", "lists.toml:7:"],
    );
    refused(
        "tables.toml",
        format!("{MARKING}x = {}", deep("{a=", "}")).as_bytes(),
        &["config/too_deep", "tables.toml:7:"],
    );
    refused(
        "dots.toml",
        format!("{MARKING}{} = 1", ["a"; 100_000].join(".")).as_bytes(),
        &["config/too_deep", "dots.toml:7:"],
    );
    refused("lists.yaml", format!("x: {}", deep("[", "]")).as_bytes(), &["lists.yaml:1:"]);
    let mut indented = String::new();
    for level in 0..2_000 {
        let _ = writeln!(indented, "{}a:", " ".repeat(level));
    }
    refused("indent.yaml", indented.as_bytes(), &["config/too_deep", "indent.yaml:"]);
}

#[test]
fn a_bomb_of_aliases_is_refused_at_its_fuse() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{inner}]");
    }
    refused("bomb.yaml", bomb.as_bytes(), &["config/yaml_alias", "bomb.yaml:1:", "write the value out"]);
}

#[test]
fn control_characters_are_named_and_never_printed() {
    let cases = [
        ("[tasks.\"a\\u001b[2J\"]\njob = \"exec\"\n", "config/bad_name"),
        ("[tasks.\"a\\nb\"]\njob = \"exec\"\n", "config/bad_name"),
        ("[tasks.a]\njob = \"ex\\u0007ec\"\n", "job/unknown"),
        ("[tasks.a]\njob = \"exec\"\noverlap = \"sk\\u009bip\"\n", "config/unknown_word"),
        ("[tasks.a]\njob = \"exec\"\nargs.program = \"tr\\u0000ue\"\n", "task/bad_args"),
        (
            "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger.cron = \"0\\u001b]0;x\\u0007 * * * *\"\n",
            "cron/bad_expression",
        ),
        (
            "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntrigger.at = \"2026\\u001b\"\n",
            "time/bad_timestamp",
        ),
        ("[scheduler]\ntimezone = \"UTC\\u202e\"\n", "cron/unknown_zone"),
        ("[scheduler]\n\"name\\u001bspace\" = 1\n", "config/unknown_key"),
        ("[scheduler]\nnamespace = \"a\u{1b}b\"\n", "config/syntax"),
    ];
    for (content, code) in cases {
        refused("control.toml", format!("{MARKING}{content}").as_bytes(), &[code, "control.toml:"]);
    }
}

#[test]
fn numbers_beyond_their_range_are_refused_with_the_range() {
    let cases = [
        ("priority = 99999999999999999999\n", "config/bad_number"),
        ("priority = 1e400\n", "config/bad_number"),
        ("priority = inf\n", "config/bad_number"),
        ("priority = -1\n", "config/out_of_range"),
        ("retry.max_attempts = 4294967296\n", "config/out_of_range"),
        ("retry.initial = \"99999999999999999999s\"\n", "config/bad_duration"),
        ("retry.max = \"101y\"\n", "config/bad_duration"),
        ("misfire = { policy = \"all\", max = -5 }\n", "config/out_of_range"),
        ("args.max_output = -1\n", "task/bad_args"),
        ("args.exit_codes.abort = [256]\n", "task/bad_args"),
    ];
    for (line, code) in cases {
        let config =
            format!("{MARKING}[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ntimeout = \"1s\"\n{line}");
        refused("numbers.toml", config.as_bytes(), &[code, "numbers.toml:11:"]);
    }
}
