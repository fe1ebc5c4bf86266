//! The configuration of a row, as text.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use crate::faults::trial::{Store, Trial};
use crate::redis::Settings;

impl Trial<'_> {
    /// Writes the configuration: settings of the queue, as lines of TOML, and tasks.
    pub(crate) fn configure(&mut self, settings: &str, tasks: &[String]) -> Result<()> {
        if self.store == Store::Redis && self.server.is_none() {
            self.start_server(&Settings::default())?;
        }
        let url = match (&self.url, &self.server) {
            (Some(url), _) => url.clone(),
            (None, Some(server)) => server.url(),
            (None, None) => format!("sqlite:{}", self.file().display()),
        };
        let text = configuration(&url, settings, tasks);
        fs::write(self.path("scheduler.toml"), text).context("cannot write scheduler.toml")?;
        // A configuration with a password is for its owner only.
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path("scheduler.toml"), mode).context("cannot protect scheduler.toml")
    }

    /// A persistent task that notes its start, does its work, a shell script, and notes its end.
    pub(crate) fn task(&self, name: &str, work: &str, more: &str) -> String {
        let script = self.recorder.script(work);
        let retry = "retry = { max_attempts = 100, initial = \"100ms\", max = \"1s\", jitter = false }";
        let retry = if more.contains("retry =") { "" } else { retry };
        let timeout = if more.contains("timeout =") { "" } else { "timeout = \"10m\"" };
        format!(
            "[tasks.{name}]\njob = \"exec\"\ncharacteristics = {{ durability = \"persistent\" }}\n\
             overlap = \"allow\"\nmisfire = {{ policy = \"all\", max = 10000 }}\n{timeout}\n\
             {retry}\n{more}\n\
             [tasks.{name}.args]\nshell = true\nprogram = '''\n{script}'''\ngrace = \"500ms\"\n"
        )
    }

    /// As [`Self::task`], on the local tier.
    pub(crate) fn ephemeral(&self, name: &str, work: &str, more: &str) -> String {
        let task = self.task(name, work, more);
        task.replace("durability = \"persistent\"", "durability = \"ephemeral\"")
    }

    /// A persistent task with a job of [`Self::use_faulty_jobs`].
    pub(crate) fn job(&self, name: &str, job: &str, args: &str, more: &str) -> String {
        let record = self.recorder.path().display();
        let timeout = if more.contains("timeout =") { "" } else { "timeout = \"5m\"" };
        format!(
            "[tasks.{name}]\njob = \"{job}\"\ncharacteristics = {{ durability = \"persistent\" }}\n\
             overlap = \"allow\"\nmisfire = {{ policy = \"all\", max = 10000 }}\n{timeout}\n{more}\n\
             args = {{ record = \"{record}\", {args} }}\n"
        )
    }
}

fn configuration(url: &str, settings: &str, tasks: &[String]) -> String {
    let (general, queue) = settings.split_once("---").unwrap_or(("", settings));
    let history = if queue.contains("history_runs =") { "" } else { "history_runs = 200000" };
    format!(
        "[scheduler]\n{general}\n[backends.local]\n[backends.queue]\nurl = \"{url}\"\n{history}\n{queue}\n{}",
        tasks.concat()
    )
}
