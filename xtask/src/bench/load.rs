//! Load by wrk, on a core of its own: how long calls take, and how many fit into a second.
//! The parts run it against one URL, or against many paths of a server that a file lists.

use std::path::Path;
use std::process::Command;

use super::server::LOAD_CORE;
use crate::surroundings::output_of;

/// What a round of load showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) p50_us: f64,
    pub(crate) calls_per_second: f64,
}

/// Calls a URL from so many connections for so many seconds.
pub(crate) fn run(url: &str, connections: u32, seconds: u32) -> Result<Load, String> {
    parse(&output_of(wrk(connections, seconds).arg(url))?)
}

/// Calls the paths that a file lists, one a line, in their order; the script is `paths.lua`, as a file.
pub(crate) fn run_paths(
    url: &str,
    script: &Path,
    paths: &Path,
    connections: u32,
    seconds: u32,
) -> Result<Load, String> {
    let mut command = wrk(connections, seconds);
    parse(&output_of(command.arg("-s").arg(script).arg(url).arg("--").arg(paths))?)
}

/// Calls a URL as a script says.
pub(crate) fn run_script(url: &str, script: &Path, connections: u32, seconds: u32) -> Result<Load, String> {
    parse(&output_of(wrk(connections, seconds).arg("-s").arg(script).arg(url))?)
}

fn wrk(connections: u32, seconds: u32) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CORE, "wrk", "-t1", "--latency", "--timeout", "10s"]);
    command.args([format!("-c{connections}"), format!("-d{seconds}s")]);
    command
}

fn parse(report: &str) -> Result<Load, String> {
    let line = |start: &str| report.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    if let Some(errors) = line("Socket errors:").or_else(|| line("Non-2xx or 3xx responses:")) {
        return Err(format!("wrk saw calls that failed: {errors}"));
    }
    let p50_us = line("50%").and_then(microseconds).ok_or("wrk printed no p50")?;
    let calls_per_second =
        line("Requests/sec:").and_then(|number| number.parse().ok()).ok_or("wrk printed no throughput")?;
    Ok(Load { p50_us, calls_per_second })
}

fn microseconds(text: &str) -> Option<f64> {
    // Longest unit first: `us` and `ms` end with `s`.
    [("us", 1.0), ("ms", 1e3), ("s", 1e6)]
        .iter()
        .find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Running 3s test @ http://127.0.0.1:41234/function/tiny
  1 threads and 1 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    23.10us    9.12us   1.20ms   97.61%
    Req/Sec    41.20k     1.02k   42.80k    70.97%
  Latency Distribution
     50%   22.00us
     75%   24.00us
     90%   26.00us
     99%   41.00us
  127054 requests in 3.10s, 14.42MB read
Requests/sec:  40985.12
Transfer/sec:      4.65MB
";

    #[test]
    fn the_report_of_wrk_is_read() {
        assert_eq!(parse(REPORT), Ok(Load { p50_us: 22.0, calls_per_second: 40_985.12 }));
        let slow = REPORT.replace("50%   22.00us", "50%    1.50ms");
        assert_eq!(parse(&slow).map(|load| load.p50_us), Ok(1_500.0));
    }

    #[test]
    fn failed_calls_are_no_result() {
        let failed = format!("{REPORT}  Non-2xx or 3xx responses: 12\n");
        assert_eq!(parse(&failed), Err("wrk saw calls that failed: 12".to_owned()));
        assert!(parse("unable to connect").is_err());
    }
}
