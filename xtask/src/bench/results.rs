//! `bench/RESULTS.md`: a section for each chore that measures, replaced when it is run again.
//! Both chores record here, once everything was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::surroundings::{output_of, root, say};

/// Where the results of whole runs are kept.
const RESULTS: &str = "bench/RESULTS.md";

/// The figures of one chore.
pub(super) struct Section<'a> {
    pub(super) title: &'a str,
    /// What comes after `cargo xtask bench`.
    pub(super) command: &'a str,
    /// How it was measured, one sentence a line.
    pub(super) how: &'a str,
    pub(super) table: &'a str,
}

/// Writes a section in place of the one that has its title.
pub(super) fn record(section: &Section<'_>) -> Result<(), String> {
    let file = root().join(RESULTS);
    let page = fs::read_to_string(&file).unwrap_or_else(|_| "# Results\n".to_owned());
    let page = with_section(&page, section.title, &text(section)?);
    fs::write(&file, page).map_err(|error| format!("write {RESULTS}: {error}"))?;
    say(&format!("written to {RESULTS}"));
    Ok(())
}

/// The page with this text under this title: where a section of that title stands, or at the end.
fn with_section(page: &str, title: &str, text: &str) -> String {
    let heading = format!("## {title}\n");
    let section = format!("{heading}\n{}\n", text.trim_end());
    let begin = match page.find(&heading) {
        Some(begin) if begin == 0 || page[..begin].ends_with('\n') => begin,
        _ => return format!("{}\n\n{section}", page.trim_end()),
    };
    let behind = &page[begin + heading.len()..];
    let rest = behind.find("\n## ").map_or("", |end| &behind[end..]);
    format!("{}{section}{rest}", &page[..begin])
}

fn text(section: &Section<'_>) -> Result<String, String> {
    let git = |args: &[&str]| output_of(Command::new("git").current_dir(root()).args(args));
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = if git(&["status", "--porcelain"])?.is_empty() {
        ""
    } else {
        ", with changes that are not committed"
    };
    let date = output_of(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Ok(format!(
        "Made by `cargo xtask bench {}` on {}, at commit {}{changed}.\n\
         Machine: {}, {cores} core(s) visible to the load, Linux {}.\n\
         {}\n\n\
         {}",
        section.command,
        date.trim(),
        commit.trim(),
        processor(Path::new("/proc/cpuinfo")),
        kernel.trim(),
        section.how,
        section.table,
    ))
}

fn processor(info: &Path) -> String {
    let text = fs::read_to_string(info).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("a processor without a name", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_replaces_its_own_and_no_other() {
        let page = with_section("# Results\n", "Calls", "one\n");
        assert_eq!(page, "# Results\n\n## Calls\n\none\n");
        let page = with_section(&page, "Density", "two\n\n");
        assert_eq!(page, "# Results\n\n## Calls\n\none\n\n## Density\n\ntwo\n");
        let page = with_section(&page, "Calls", "three");
        assert_eq!(page, "# Results\n\n## Calls\n\nthree\n\n## Density\n\ntwo\n");
        let page = with_section(&page, "Density", "four");
        assert_eq!(page, "# Results\n\n## Calls\n\nthree\n\n## Density\n\nfour\n");
    }
}
