//! What is wrong with the args of a check.
//!
//! Every kind of check takes some of the keys: what it lacks and what it has no use for are faults with a place.

use scheduler_core::ArgsError;

use crate::health_check_args::CheckArgs;
use crate::health_kind::Kind;
use crate::health_threshold::Threshold;

impl CheckArgs {
    /// Every fault that can be told of the keys alone.
    pub(crate) fn faults(&self) -> Vec<ArgsError> {
        let kind = self.kind.as_str();
        let (needed, known) = self.kind.keys();
        let given = self.given();
        let useless = given.iter().filter(|key| !needed.contains(key) && !known.contains(key)).map(|key| {
            let help = format!("`{kind}` takes `{}`", [needed, known].concat().join("`, `"));
            ArgsError::new(format!("/{key}"), format!("`{key}` is of no use for `{kind}`")).with_help(help)
        });
        let mut faults: Vec<ArgsError> = useless.collect();
        faults.extend(
            needed
                .iter()
                .filter(|key| !given.contains(key))
                .map(|key| ArgsError::new("", format!("a check of kind `{kind}` needs `{key}`"))),
        );
        if self.kind == Kind::Certificate && self.address.is_some() == self.file.is_some() {
            let fault = "a check of kind `certificate` needs one of `address` and `file`";
            faults.push(ArgsError::new("", fault));
        }
        if self.kind == Kind::Process {
            faults.extend(self.bad_processes());
        }
        if cfg!(not(target_os = "linux")) && self.kind.is_of_linux() {
            faults.push(ArgsError::new("/kind", format!("`{kind}` is known on Linux only")));
        }
        if known.contains(&"degraded") {
            faults.extend(self.bad_thresholds());
        }
        faults
    }

    fn bad_processes(&self) -> Vec<ArgsError> {
        let mut faults = Vec::new();
        if self.process.is_none() && self.command_line.is_none() && self.pid_file.is_none() {
            let fault = "a check of kind `process` needs `process`, `command_line` or `pid_file`";
            faults.push(ArgsError::new("", fault));
        }
        for (key, text) in [("process", &self.process), ("command_line", &self.command_line)] {
            if text.as_ref().is_some_and(|text| text.trim().is_empty() || text.contains('\0')) {
                faults.push(ArgsError::new(format!("/{key}"), "no process is called that"));
            }
        }
        for (key, count) in [("min", self.min), ("max", self.max)] {
            if self.pid_file.is_some() && count.is_some() {
                faults.push(ArgsError::new(format!("/{key}"), "a `pid_file` names one process"));
            }
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            faults.push(ArgsError::new("/max", format!("no number is at least {min} and at most {max}")));
        }
        if self.min == Some(0) && self.max.is_none() {
            let fault = ArgsError::new("/min", "any number of processes would be healthy");
            faults.push(fault.with_help("write `max = 0` if there must be none"));
        }
        faults
    }

    fn bad_thresholds(&self) -> Vec<ArgsError> {
        let shares = [("degraded", self.degraded), ("failed", self.failed)].into_iter();
        let has_whole = self.kind.has_whole();
        let shares = shares.filter(|(_, given)| !has_whole && matches!(given, Some(Threshold::Percent(_))));
        let mut faults: Vec<ArgsError> = shares
            .map(|(key, _)| {
                ArgsError::new(format!("/{key}"), "this is a share of nothing").with_help("write a number")
            })
            .collect();
        if faults.is_empty() && !self.thresholds().are_in_order(self.kind != Kind::Load) {
            let fault = ArgsError::new("/degraded", "failed would begin before degraded");
            faults.push(fault.with_help("set both `degraded` and `failed`"));
        }
        faults
    }

    /// The keys that are given and that not every kind takes.
    fn given(&self) -> Vec<&'static str> {
        let keys = [
            ("address", self.address.is_some()),
            ("url", self.url.is_some()),
            ("expect_status", self.expect_status.is_some()),
            ("program", self.program.is_some()),
            ("args", self.args.is_some()),
            ("process", self.process.is_some()),
            ("command_line", self.command_line.is_some()),
            ("pid_file", self.pid_file.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
            ("path", self.path.is_some()),
            ("file", self.file.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("role", self.role.is_some()),
            ("quick_check", self.quick_check.is_some()),
            ("backend", self.backend.is_some()),
            ("degraded", self.degraded.is_some()),
            ("failed", self.failed.is_some()),
        ];
        keys.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect()
    }
}
