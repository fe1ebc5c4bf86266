//! A C++ compiler, which libFuzzer is built with. A fresh Debian has none, so root installs it.

use anyhow::{Result, bail};

use crate::tool::{self, Tool};

/// Makes sure that there is a compiler.
///
/// # Errors
/// There is none and this process may not install one, or installing fails.
pub(crate) fn ensure_compiler() -> Result<()> {
    let Ok(chosen) = std::env::var("CXX") else {
        return tool::ensure(&Tool { program: "c++", package: "g++", purpose: "builds libFuzzer" });
    };
    // Whoever chose a compiler wants that one, not another.
    if !tool::answers(&chosen) {
        bail!("there is no C++ compiler `{chosen}`, which libFuzzer needs; correct CXX or unset it");
    }
    Ok(())
}
