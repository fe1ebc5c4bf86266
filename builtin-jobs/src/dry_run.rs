//! A run that only tells what it would do: `scheduler trigger TASK --param dry_run=true`.

use scheduler_core::{Error, JobError, RunContext};
use serde_json::Value;

/// The parameter by which a run is asked to change nothing.
const DRY_RUN: &str = "dry_run";

/// Whether this run was asked to change nothing. A parameter cannot take back what the args say.
///
/// # Errors
/// A value that is neither true nor false: it may have been meant as either.
pub(crate) fn is_asked_for(ctx: &RunContext) -> Result<bool, JobError> {
    match ctx.params().get(DRY_RUN) {
        None => Ok(false),
        Some(Value::Bool(is_dry)) => Ok(*is_dry),
        Some(other) => {
            let message = format!("the parameter `{DRY_RUN}` is `{other}`, which is neither true nor false");
            Err(JobError::abort(Error::invalid("job/bad_dry_run", message)))
        }
    }
}
