//! Which tier, and why.

use crate::bench::Bench;

#[test]
fn classify_answers_with_the_tier_and_all_its_reasons() {
    let bench = Bench::new("");

    let answer = bench.run(&[
        "classify",
        "--frequency",
        "high",
        "--visibility",
        "internal",
        "--complexity",
        "simple",
        "--durability",
        "ephemeral",
        "--infrastructure",
        "local",
        "-o",
        "json",
    ]);

    let json = answer.json();
    assert!(answer.stdout.starts_with(r#"{"schema_version":1,"tier":"local","rule":"R4","reasons":["#));
    let excluded: Vec<&str> =
        json["rejected"].as_array().unwrap().iter().map(|tier| tier["tier"].as_str().unwrap()).collect();
    assert_eq!((answer.code, excluded), (0, vec!["queue", "workflow"]));
    assert!(json["warnings"].is_array() && json["flips"].is_array(), "{json}");
}

#[test]
fn over_all_72_combinations_38_are_workflow_27_queue_and_7_local() {
    let bench = Bench::new("");
    let words: [(&str, &[&str]); 5] = [
        ("--frequency", &["high", "medium", "low"]),
        ("--visibility", &["internal", "user_facing"]),
        ("--complexity", &["simple", "dag", "complex"]),
        ("--durability", &["ephemeral", "persistent"]),
        ("--infrastructure", &["local", "distributed"]),
    ];
    let mut calls: Vec<Vec<&str>> = vec![vec!["classify", "-o", "json"]];
    for (flag, values) in words {
        let longer = |call: &Vec<&'static str>| {
            values.iter().map(|value| [call.as_slice(), &[flag, value]].concat()).collect::<Vec<_>>()
        };
        calls = calls.iter().flat_map(longer).collect();
    }

    let tiers: Vec<String> =
        calls.iter().map(|call| bench.run(call).json()["tier"].as_str().unwrap().to_owned()).collect();

    let count = |tier: &str| tiers.iter().filter(|found| *found == tier).count();
    assert_eq!((tiers.len(), count("workflow"), count("queue"), count("local")), (72, 38, 27, 7));
}

#[test]
fn an_unknown_word_is_answered_with_the_allowed_ones() {
    let bench = Bench::new("");

    let text = bench.run(&["classify", "--visibility", "user-facing"]);
    let json = bench.run(&["classify", "--frequency", "often", "-o", "json"]);

    assert_eq!((text.code, json.code), (2, 2));
    assert!(text.stderr.contains("internal, user_facing"), "{text:?}");
    let message = json.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("high, medium, low"), "{message}");
}

#[test]
fn explain_reads_like_an_answer() {
    let bench = Bench::new(
        "[tasks.backup]\njob = \"exec\"\nargs.program = \"true\"\ntier = \"local\"\ntimeout = \"1h\"\n\
         characteristics = { durability = \"persistent\" }\nretry = { max_attempts = 3 }\n",
    );

    let answer = bench.run(&["explain", "backup"]);

    let expected = "\
backup -> local (backend local)  rule R3
  because        tier = \"local\" is set (the classifier says queue)
  classifier     queue by R3: durability = persistent: a run must survive a restart, and a queue keeps it
  not workflow   visibility = internal, complexity = simple: nobody follows it and it has one step
  would change   durability = ephemeral -> local
  would change   visibility = user_facing -> workflow
  override       tier = \"local\", \"queue\" or \"workflow\" on the task
  facts          frequency = low (default)
                 visibility = internal (default)
                 complexity = simple (default)
                 durability = persistent (stated)
                 infrastructure = local (default)
  schedule       when asked
  next           when asked
  job            exec
  attempts       3 on local, exponential backoff from 10s to 10m with jitter
  timeout        1h
  overlap        skip (default)
  misfire        latest (default)
  priority       5 (default)
  on_unavailable error (default)
  warning        a persistent task on the local tier: a run that is under way when the process ends is lost
";
    assert!(answer.stdout.starts_with(expected), "{}", answer.stdout);
    assert_eq!(answer.code, 0);
}

#[test]
fn explain_says_why_a_task_belongs_where_nothing_can_run_it() {
    let bench = Bench::new(
        "[tasks.a]\njob = \"exec\"\nargs.program = \"true\"\ncharacteristics.visibility = \"user_facing\"\n",
    );

    let answer = bench.run(&["explain", "a"]);

    assert_eq!(answer.code, 2);
    assert!(answer.stdout.contains("a -> workflow (no backend runs it)  rule R1"), "{answer:?}");
    assert!(answer.stderr.contains("placement/no_backend"), "{answer:?}");
}
