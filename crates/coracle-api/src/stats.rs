//! How functions do of late, as the API shows it: the busiest first, and no more than were asked for.
//! `coracle top` asks every second; `coracle show` asks for one function.

use std::fmt;
use std::str::FromStr;

use coracle_model::{FunctionName, NamespaceName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How the functions do that a token reaches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatsView {
    /// Seconds that "of late" means here: rates and latencies are of so long before now.
    pub window_s: f64,
    /// Seconds since the server started.
    pub uptime_s: u64,
    /// Functions that are deployed, of those that were asked about.
    pub functions: usize,
    /// Of all of them together.
    pub totals: StatsTotals,
    /// The inside of the server, which only an admin sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerStats>,
    /// The first of them, in the order that was asked for.
    pub items: Vec<FunctionActivity>,
}

/// Of several functions together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct StatsTotals {
    /// Calls that ended, a second.
    pub calls_per_s: f64,
    /// Those of them that the function or the platform failed.
    pub errors_per_s: f64,
    /// Calls that are running.
    pub in_flight: u64,
    /// Calls that wait to run.
    pub waiting: u64,
}

/// The inside of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStats {
    /// Instances that exist now.
    pub instances: u64,
    /// Those of them that wait for a call.
    pub instances_idle: usize,
    /// The most there may be.
    pub instances_max: u32,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Bytes of compiled code that are mapped.
    pub code_bytes: u64,
    /// The bound on them.
    pub code_bytes_max: u64,
    /// Memory of the server in RAM, in bytes; 0 where the system does not tell.
    pub resident_bytes: u64,
}

/// How one function does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FunctionActivity {
    /// Its name.
    #[schema(value_type = String)]
    pub name: FunctionName,
    /// Its namespace.
    #[schema(value_type = String)]
    pub namespace: NamespaceName,
    /// The revision that calls run now.
    pub revision: u32,
    /// Calls that ended, a second, of late.
    pub calls_per_s: f64,
    /// Those of them that the function or the platform failed.
    pub errors_per_s: f64,
    /// Those of them that were not run: a limit, a right.
    pub refused_per_s: f64,
    /// Half of the calls of late took no longer, in milliseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 of 100 calls of late took no longer, in milliseconds; absent without calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Calls that are running; each has an instance.
    pub in_flight: u64,
    /// Calls that wait to run.
    pub waiting: u64,
    /// Instances that wait for a call.
    pub instances_idle: usize,
    /// Memory in bytes: of WebAssembly the most that the instance of the last call used, of a program what the largest of its instances
    /// uses now; 0 where that is not known.
    pub memory_bytes: u64,
    /// Calls that ended since the server started.
    pub calls: u64,
    /// Those of them that the function or the platform failed.
    pub errors: u64,
}

/// Which functions to show, and which of them first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// Those of one namespace; absent is all that the token reaches, or `default` if a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub namespace: Option<NamespaceName>,
    /// One function alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub function: Option<FunctionName>,
    /// Those with this text in their name; totals are of all none the less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// What comes first: the most of it, or for `name` the first of the alphabet. `calls` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<StatsSort>,
    /// How many at most: 1 to 1000, 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What functions are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatsSort {
    /// Calls a second.
    #[default]
    Calls,
    /// The latency that half of the calls stay within.
    P50,
    /// The latency that 99 of 100 calls stay within.
    P99,
    /// Errors a second.
    Errors,
    /// Calls that are running.
    Running,
    /// Calls that wait.
    Waiting,
    /// Memory of an instance.
    Memory,
    /// Namespace and name.
    Name,
}

impl StatsSort {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 8] = [
        Self::Calls,
        Self::P50,
        Self::P99,
        Self::Errors,
        Self::Running,
        Self::Waiting,
        Self::Memory,
        Self::Name,
    ];

    /// As it is written in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Errors => "errors",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Memory => "memory",
            Self::Name => "name",
        }
    }
}

impl fmt::Display for StatsSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StatsSort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|sort| sort.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|sort| sort.as_str()).collect();
            format!("sort by one of {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sorted_by_reads_as_it_is_written() {
        for sort in StatsSort::ALL {
            assert_eq!(sort.as_str().parse(), Ok(sort));
            assert_eq!(serde_json::to_value(sort).unwrap(), sort.as_str());
        }
        assert_eq!(
            "speed".parse::<StatsSort>().unwrap_err(),
            "sort by one of calls, p50, p99, errors, running, waiting, memory, name"
        );
    }
}
