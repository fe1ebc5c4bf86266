//! How a backend is made from its section of a configuration.

use std::sync::Arc;

use scheduler_core::{ArgsError, Backend, BackendKind, BackendSettings, Result, Tier};

use crate::config::EngineKind;
use crate::engine::WorkflowEngine;
use crate::{Auth, PrefectEngine, PrefectSettings, WorkflowBackend, WorkflowConfig};

/// The kind `workflow`, for a [`Registry`](scheduler_core::Registry).
pub fn kind() -> BackendKind {
    let build = |settings: &BackendSettings| {
        let mut config = WorkflowConfig::from_value(&settings.config)?;
        if config.config_file.is_none() {
            config.config_file = settings.config_file.as_ref().map(|file| file.display().to_string());
        }
        let engine = engine(&config).map_err(|error| vec![ArgsError::new("/url", error.to_string())])?;
        let backend = WorkflowBackend::new(settings.name.clone(), config, engine);
        Ok(Arc::new(backend.in_folder(settings.data_dir.clone())) as Arc<dyn Backend>)
    };
    BackendKind::new("workflow", Tier::Workflow, "on a workflow engine: Prefect 3", build)
        .with_schema(WorkflowConfig::schema())
}

/// The engine that a configuration names; nothing is sent to it.
///
/// # Errors
/// Those of making it.
pub fn engine(config: &WorkflowConfig) -> Result<Arc<dyn WorkflowEngine>> {
    match config.engine {
        EngineKind::Prefect => {
            let mut settings = PrefectSettings::new(&config.url);
            settings.ui_url.clone_from(&config.ui_url);
            settings.ca_file.clone_from(&config.ca_file);
            settings.timeout = config.timeout;
            settings.connect_timeout = settings.connect_timeout.min(config.timeout);
            settings.auth = match (&config.username, &config.password, &config.api_key) {
                (Some(user), Some(password), _) => {
                    Auth::Basic { user: user.clone(), password: password.clone() }
                }
                (_, _, Some(key)) => Auth::Bearer(key.clone()),
                _ => Auth::None,
            };
            Ok(Arc::new(PrefectEngine::new(settings)?))
        }
    }
}
