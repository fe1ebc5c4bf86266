//! What a run logged.

use scheduler_core::{Result, Timestamp};
use serde_json::json;

use crate::engine::{EngineLogLine, EngineRunId};
use crate::prefect::PrefectEngine;
use crate::prefect_http::Call;
use crate::prefect_runs::{PAGE, id_of_run};
use crate::prefect_wire::LogLine;

impl PrefectEngine {
    pub(crate) async fn read_logs(
        &self,
        run: &EngineRunId,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<EngineLogLine>> {
        let id = id_of_run(run)?;
        let mut lines: Vec<EngineLogLine> = Vec::new();
        while lines.len() < limit {
            let wanted = (limit - lines.len()).min(PAGE);
            let body = json!({
                "logs": { "flow_run_id": { "any_": [id] } },
                "limit": wanted,
                "offset": offset + lines.len(),
                "sort": "TIMESTAMP_ASC",
            });
            let page: Vec<LogLine> =
                self.client.call(&Call::post(&["logs", "filter"], body)).await?.read()?;
            let count = page.len();
            lines.extend(page.into_iter().map(line_of));
            if count < wanted {
                break;
            }
        }
        if lines.is_empty() && offset == 0 {
            // Prefect has no lines of a run that it does not know either.
            self.read_run(run).await?;
        }
        Ok(lines)
    }
}

fn line_of(line: LogLine) -> EngineLogLine {
    let level = match line.level.unwrap_or(20) {
        ..20 => "debug",
        20..30 => "info",
        30..40 => "warning",
        40..50 => "error",
        50.. => "critical",
    };
    EngineLogLine {
        at: line.timestamp.unwrap_or(Timestamp::MIN),
        level: level.to_owned(),
        message: line.message.unwrap_or_default(),
    }
}
