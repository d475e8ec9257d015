//! How many tests passed and failed, read from what the test runners print.
//! `cargo xtask test` streams their output through here and adds up what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

/// Tests that were run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Both together.
    pub(crate) fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// What one line of a runner says: the summary of cargo-nextest, or of a libtest binary.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let line = without_colours(line);
        // Indented, it is what cargo-nextest shows of a test that failed, and counts itself.
        let is_libtest = line.starts_with("test result:");
        let line = line.trim();
        let is_nextest = line.starts_with("Summary [");
        if !is_nextest && !is_libtest {
            return None;
        }
        // `12 tests run: 10 passed (1 slow), 1 failed, 1 timed out, 3 skipped`, or
        // `test result: FAILED. 10 passed; 2 failed; 0 ignored; …`.
        let mut tally = Self::default();
        let counts = if is_nextest { line.split_once(": ")?.1 } else { line.split_once(". ")?.1 };
        for count in counts.split([',', ';']) {
            let mut words = count.split_whitespace();
            let Some(number) = words.next().and_then(|number| number.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => tally.passed += number,
                Some("failed" | "timed" | "exec") => tally.failed += number,
                _ => {}
            }
        }
        Some(tally)
    }
}

/// Runs a test runner, passes its output on as it comes, and counts; also says whether it succeeded.
pub(crate) fn run(command: &mut Command) -> Result<(Tally, bool), String> {
    run_into(command, std::io::stdout(), std::io::stderr())
}

fn run_into(command: &mut Command, out: impl Write, err: impl Write + Send) -> Result<(Tally, bool), String> {
    let program = command.get_program().to_owned();
    let failed = |error| format!("run {}: {error}", program.display());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tally = thread::scope(|scope| {
        let errors = scope.spawn(move || stderr.map(|pipe| pass_on(pipe, err)).unwrap_or_default());
        let results = stdout.map(|pipe| pass_on(pipe, out)).unwrap_or_default();
        // A thread that panicked has counted nothing; the exit code still tells.
        results.add(errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(failed)?;
    Ok((tally, status.success()))
}

fn pass_on(pipe: impl Read, mut to: impl Write) -> Tally {
    let mut tally = Tally::default();
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
        // Whoever reads us may be gone; the tests are worth finishing all the same.
        let _ = to.write_all(&line);
        if let Some(counted) = Tally::of_line(&String::from_utf8_lossy(&line)) {
            tally = tally.add(counted);
        }
        line.clear();
    }
    tally
}

fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, passed: u64, failed: u64) {
        assert_eq!(Tally::of_line(line), Some(Tally { passed, failed }), "{line}");
    }

    #[test]
    fn summaries_of_both_runners_are_counted() {
        check("     Summary [   0.120s] 12 tests run: 12 passed, 3 skipped", 12, 0);
        check(
            "     Summary [  31.5s] 9/12 tests run: 6 passed (2 slow), 1 failed, 2 timed out, 0 skipped",
            6,
            3,
        );
        check(
            "\u{1b}[31;1m     Summary\u{1b}[0m [   1.0s] \u{1b}[1m2\u{1b}[0m tests run: 1 passed, 1 exec failed",
            1,
            1,
        );
        check(
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            5,
            0,
        );
        check("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 4, 2);
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Tally::of_line("test a_call_is_counted ... ok"), None);
        assert_eq!(Tally::of_line("running 3 tests"), None);
        assert_eq!(Tally::of_line("12 passed, 0 failed"), None);
        assert_eq!(Tally::of_line("    test result: FAILED. 0 passed; 1 failed; 0 ignored"), None);
    }

    #[test]
    fn a_runner_is_passed_on_and_its_exit_code_kept() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; \
                      echo '   Summary [ 1s] 3 tests run: 2 passed, 1 failed, 0 skipped' >&2; exit 100";
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ran = run_into(Command::new("sh").args(["-c", script]), &mut out, &mut err);
        assert_eq!(ran, Ok((Tally { passed: 4, failed: 1 }, false)));
        assert!(out.starts_with(b"test result: ok.") && err.ends_with(b"0 skipped\n"));
    }
}
