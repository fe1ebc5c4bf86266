//! Who wants something that others are kept from by: a name to ask, where a pause or a drain is looked at.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// Where shells and logins say who somebody is.
const NAMES: [&str; 2] = ["USER", "LOGNAME"];

/// Who wants it.
#[derive(Debug, Args)]
pub(crate) struct Asker {
    /// Who wants it; the user of this shell unless given, or the user's number and the host where no name is known.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    by: Option<String>,
}

impl Asker {
    /// The name.
    pub(crate) fn name(&self) -> Option<String> {
        let of_shell =
            || NAMES.iter().filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
        self.by.clone().or_else(of_shell).or_else(nameless)
    }
}

/// Who has no name, as in most containers: the name of a container's host is the container's.
#[cfg(unix)]
fn nameless() -> Option<String> {
    let (user, system) = (rustix::process::getuid(), rustix::system::uname());
    Some(format!("user {} on {}", user.as_raw(), system.nodename().to_string_lossy()))
}

#[cfg(not(unix))]
fn nameless() -> Option<String> {
    None
}
