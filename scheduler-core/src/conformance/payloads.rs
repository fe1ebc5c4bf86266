//! What a run carries in and out: parameters and output, whatever they hold.

use serde_json::{Map, Value, json};

use super::act::Part;
use super::fault::{Outcome, broken, ensure_eq};
use super::stage::Stage;

/// A value that is easily spoiled: long, in many scripts, and with numbers at their ends.
fn fragile() -> Map<String, Value> {
    let fragile = json!({
        "long": "0123456789abcdef".repeat(8 * 1_024),
        "scripts": "Grüße, 世界, 🦀, \u{202e}עברית, e\u{301}, \"\\\n\t\u{0}",
        "numbers": [u64::MAX, i64::MIN, 0.1, 1e-300, -0.5, 0],
        "nested": {"": [[], {}, null, true], "a.b/c~d": {"x": [{"y": "z"}]}},
    });
    match fragile {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Says where two values part, without printing a hundred kilobytes.
fn ensure_unchanged(what: &str, seen: &Map<String, Value>) -> Outcome {
    let fragile = fragile();
    for (key, value) in &fragile {
        match seen.get(key) {
            Some(other) if other == value => {}
            Some(other) => {
                let excerpt = |value: &Value| value.to_string().chars().take(80).collect::<String>();
                let lengths = (value.to_string().len(), other.to_string().len());
                return broken(format!(
                    "{what}: `{key}` of {} bytes came back as {} bytes: {} became {}",
                    lengths.0,
                    lengths.1,
                    excerpt(value),
                    excerpt(other)
                ));
            }
            None => return broken(format!("{what}: `{key}` is gone")),
        }
    }
    ensure_eq(&format!("{what}: how many keys"), seen.len(), fragile.len())
}

pub(super) async fn parameters_reach_the_job_unchanged(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Return(Value::Null), |_| ()).await?;
    let mut request = stage.request(&task, stage.now());
    request.params = fragile();
    let id = request.run_id;

    stage.ask_enqueue(request).await?;

    let run = stage.ended(id).await?;
    let seen = stage.begun(id, 1).await?;
    ensure_unchanged("the parameters that the job was given", &seen[0].params)?;
    ensure_unchanged("the parameters of the run that is shown", &run.params)
}

pub(super) async fn the_output_of_a_job_is_kept_unchanged(stage: &mut Stage) -> Outcome {
    stage.start().await?;
    let task = stage.task("returns", Part::Return(Value::Object(fragile())), |_| ()).await?;

    let run = stage.enqueue(&task).await?;

    match stage.ended(run).await?.output {
        Value::Object(output) => ensure_unchanged("the output of the run", &output),
        other => broken(format!(
            "the output of the run is {}",
            other.to_string().chars().take(80).collect::<String>()
        )),
    }
}
