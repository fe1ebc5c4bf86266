//! The page on jobs is true: its examples are accepted, and it names every arg.

#[cfg(test)]
mod tests {
    use serde_json::Value;

    const PAGE: &str = include_str!("../../../docs/jobs.md");

    #[test]
    fn every_example_on_the_page_is_accepted() {
        let mut shown = Vec::new();
        for example in PAGE.split("```toml").skip(1).filter_map(|rest| rest.split("```").next()) {
            let read: Value = toml::from_str(example).unwrap();
            for (task, settings) in read["tasks"].as_object().unwrap() {
                let jobs = builtin_jobs::all();
                let job = jobs.iter().find(|job| *job.name() == settings["job"].as_str().unwrap()).unwrap();
                let built =
                    job.build(&settings["args"]).unwrap_or_else(|faults| panic!("{task}: {faults:?}"));
                assert_eq!(built.check(), [], "{task}");
                shown.push(job.name().to_string());
            }
        }
        shown.sort_unstable();
        shown.dedup();
        let all: Vec<String> = builtin_jobs::all().iter().map(|job| job.name().to_string()).collect();
        assert_eq!(shown, all, "an example of each job");
    }

    #[test]
    fn every_arg_is_on_the_page() {
        for job in builtin_jobs::all() {
            let section =
                PAGE.split("\n## ").find(|section| section.starts_with(job.name().as_str())).unwrap();
            let schema = job.args_schema();
            let inner = [
                "ArchiveArgs",
                "CheckArgs",
                "RepositoryArgs",
                "RotationArgs",
                "RuleArgs",
                "SecretArgs",
                "SourceArgs",
                "TargetArgs",
            ]
            .iter()
            .flat_map(|inner| schema["$defs"][inner]["properties"].as_object().into_iter().flatten());
            for (arg, _) in schema["properties"].as_object().unwrap().iter().chain(inner) {
                assert!(section.contains(&format!("`{arg}`")), "{}: `{arg}`", job.name());
            }
        }
    }
}
