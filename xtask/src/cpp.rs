//! A C++ compiler, which libFuzzer is built with. A fresh Debian has none, so root installs it.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::command_line::CommandLine;

/// Makes sure that there is a compiler.
///
/// # Errors
/// There is none and this process may not install one, or installing fails.
pub(crate) fn ensure_compiler() -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if answers(&compiler) {
        return Ok(());
    }
    // Whoever chose a compiler wants that one, not another.
    let may_install = compiler == "c++" && is_root() && answers("apt-get");
    if !may_install {
        bail!("there is no C++ compiler `{compiler}`, which libFuzzer needs; install g++, or set CXX");
    }

    println!("    there is no C++ compiler; installing g++");
    let apt = |words| CommandLine::new("apt-get", words).with_variable("DEBIAN_FRONTEND", "noninteractive");
    apt("update -qq").run()?;
    apt("install -qq --yes --no-install-recommends g++").run()
}

fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    let status = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
