//! The parameters of a run, as its program sees them.

use scheduler_core::{Error, Result};
use serde_json::{Map, Value};

/// All of them, as a JSON object.
pub(crate) const PARAMS: &str = "SCHEDULER_PARAMS";
/// What each begins with whose name a variable can have.
pub(crate) const PARAM: &str = "SCHEDULER_PARAM_";

/// Linux takes no variable of more than 128 KiB.
const LARGEST: usize = 96 * 1024;

/// The variables for these parameters; none when there are none. What no variable can hold stands in
/// [`PARAMS`] only.
///
/// # Errors
/// `exec/params_too_large`.
pub(crate) fn variables(params: &Map<String, Value>) -> Result<Vec<(String, String)>> {
    if params.is_empty() {
        return Ok(Vec::new());
    }
    let all = Value::Object(params.clone()).to_string();
    if all.len() > LARGEST {
        let size = all.len();
        let message = format!(
            "the parameters of the run have {size} bytes, and a program gets at most {LARGEST}; \
             store them elsewhere and pass their place"
        );
        return Err(Error::invalid("exec/params_too_large", message));
    }
    let each = params.iter().filter(|(name, _)| is_plain(name)).filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (!text.contains('\0')).then(|| (format!("{PARAM}{}", name.to_ascii_uppercase()), text))
    });
    Ok(each.chain([(PARAMS.to_owned(), all)]).collect())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_gets_every_parameter_and_each_that_has_a_plain_name_by_itself() {
        let params =
            json!({"order": 4711, "who": "Ana B", "a-b": 1, "nul": "x\0", "list": [1, "日"], "PATH": "x"});
        let mut found = variables(params.as_object().unwrap()).unwrap();
        found.retain(|(name, _)| name != PARAMS);

        let expected = [
            ("SCHEDULER_PARAM_LIST", "[1,\"日\"]"),
            ("SCHEDULER_PARAM_ORDER", "4711"),
            ("SCHEDULER_PARAM_PATH", "x"),
            ("SCHEDULER_PARAM_WHO", "Ana B"),
        ];
        found.sort();
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let all = variables(params.as_object().unwrap()).unwrap().pop().unwrap();
        assert_eq!(all.0, PARAMS);
        assert_eq!(serde_json::from_str::<Value>(&all.1).unwrap(), params);
        assert!(variables(&Map::new()).unwrap().is_empty());
    }

    #[test]
    fn parameters_that_no_environment_holds_are_refused() {
        let params = json!({"x": "y".repeat(100_000)});
        let error = variables(params.as_object().unwrap()).unwrap_err();
        assert_eq!((error.code(), error.is_transient()), ("exec/params_too_large", false));
    }
}
