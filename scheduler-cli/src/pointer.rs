//! JSON pointers (RFC 6901), the one way a place in the configuration is named inside the program.

/// The pointer to `key` below `parent`.
pub(crate) fn child(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The pointer to what holds this value; `None` at the top.
pub(crate) fn parent(pointer: &str) -> Option<&str> {
    pointer.rsplit_once('/').map(|(parent, _)| parent)
}

/// The pointer to the value at this path of keys.
pub(crate) fn from_path<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    keys.into_iter().fold(String::new(), |pointer, key| child(&pointer, key))
}

/// The keys from the top down.
pub(crate) fn keys(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~")).collect()
}

/// How messages name the place: "`retry.max_attempts` in task `backup`".
pub(crate) fn subject(pointer: &str) -> String {
    let keys = keys(pointer);
    let (named, rest) = match keys.as_slice() {
        [section, name, rest @ ..] if section == "tasks" => (Some(format!("task `{name}`")), rest),
        [section, name, rest @ ..] if section == "backends" => (Some(format!("backend `{name}`")), rest),
        [section, name, rest @ ..] if section == "jobs" => (Some(format!("job `{name}`")), rest),
        rest => (None, rest),
    };
    let mut path = String::new();
    for key in rest {
        if key.bytes().all(|byte| byte.is_ascii_digit()) && !key.is_empty() {
            path.push_str(&format!("[{key}]"));
        } else {
            path.push_str(if path.is_empty() { "" } else { "." });
            path.push_str(key);
        }
    }
    match named {
        Some(named) if rest.is_empty() => named,
        Some(named) => format!("`{path}` in {named}"),
        None if keys.is_empty() => "the configuration".to_owned(),
        None => format!("`{path}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_task_and_the_path_below_it() {
        let cases = [
            ("", "the configuration"),
            ("/scheduler/timezone", "`scheduler.timezone`"),
            ("/tasks", "`tasks`"),
            ("/jobs/exec/timeout", "`timeout` in job `exec`"),
            ("/tasks/backup", "task `backup`"),
            ("/tasks/backup/retry/max_attempts", "`retry.max_attempts` in task `backup`"),
            ("/backends/queue/url", "`url` in backend `queue`"),
            ("/tasks/a/args/args/0", "`args.args[0]` in task `a`"),
            ("/tasks/a/a~1b~0c", "`a/b~c` in task `a`"),
        ];

        for (pointer, expected) in cases {
            assert_eq!(subject(pointer), expected);
        }
    }

    #[test]
    fn keys_with_slashes_and_tildes_survive() {
        let pointer = from_path(["a/b", "~1", ""]);

        assert_eq!(keys(&pointer), ["a/b", "~1", ""]);
        assert_eq!(parent(&pointer), Some("/a~1b/~01"));
        assert_eq!(parent(""), None);
    }
}
