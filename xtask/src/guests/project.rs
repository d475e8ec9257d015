//! A guest as its user builds it: by the command in its `coracle.toml`, on a copy of its folder.
//! The copy is made where the last project of the language was built, so that what it downloaded is there already.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::tools::Tools;
use super::{read, sources};

/// Settings of npm and pip that make them say what matters.
const QUIET: [(&str, &str); 4] = [
    ("NPM_CONFIG_AUDIT", "false"),
    ("NPM_CONFIG_FUND", "false"),
    ("NPM_CONFIG_UPDATE_NOTIFIER", "false"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
];

/// Builds the project in a folder, and returns what its manifest calls its code.
pub(super) fn build(folder: &Path, tools: &Tools, workshop: &Path) -> Result<Vec<u8>, String> {
    let manifest = fs::read_to_string(folder.join("coracle.toml"))
        .map_err(|error| format!("read {}/coracle.toml: {error}", folder.display()))?;
    let setting =
        |key| setting(&manifest, key).ok_or_else(|| format!("its coracle.toml has no line `{key} = \"…\"`"));
    let (command, code) = (setting("build")?, setting("code")?);

    tidy(workshop)
        .and_then(|()| copy(folder, workshop))
        .map_err(|error| format!("copy {} to {}: {error}", folder.display(), workshop.display()))?;
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(workshop)
        .env("PATH", &tools.path)
        .env_remove("VIRTUAL_ENV")
        .envs(QUIET)
        .output()
        .map_err(|error| format!("run sh: {error}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(format!("`{command}` ended with {}\n{}", output.status, String::from_utf8_lossy(&said)));
    }
    read(&workshop.join(code))
}

/// Removes what the last project left, but for what it downloaded.
fn tidy(workshop: &Path) -> std::io::Result<()> {
    fs::create_dir_all(workshop)?;
    for entry in fs::read_dir(workshop)? {
        let path = entry?.path();
        let is_code = path.extension().is_some_and(|kind| kind == "wasm");
        if sources::is_leftover(&path) && !is_code {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    Ok(())
}

fn copy(folder: &Path, workshop: &Path) -> std::io::Result<()> {
    for file in sources::in_folder(folder).map_err(std::io::Error::other)? {
        let copy = workshop.join(file.strip_prefix(folder).unwrap_or(&file));
        copy.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::copy(&file, &copy)?;
    }
    Ok(())
}

/// A setting of a manifest of ours, each of which stands on a line: `key = "value"`.
fn setting<'a>(manifest: &'a str, key: &str) -> Option<&'a str> {
    manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::list::{GUESTS, Recipe};
    use crate::surroundings::root;

    #[test]
    fn a_setting_is_the_text_after_its_key() {
        let manifest = "[function.x]\nbuild = \"make -C a\"\ncode = \"x.wasm\"\nbuilder = \"no\"\n";
        assert_eq!(setting(manifest, "build"), Some("make -C a"));
        assert_eq!(setting(manifest, "code"), Some("x.wasm"));
        assert_eq!(setting(manifest, "route"), None);
    }

    #[test]
    fn every_project_says_how_it_is_built() {
        for guest in &GUESTS {
            if let Recipe::Project { folder, .. } = guest.recipe {
                let manifest = fs::read_to_string(root().join(folder).join("coracle.toml")).unwrap();
                assert!(setting(&manifest, "build").is_some(), "{folder}");
                assert_eq!(setting(&manifest, "code"), Some(format!("{}.wasm", guest.name).as_str()));
            }
        }
    }
}
