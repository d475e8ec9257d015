//! How functions do of late: rates, latencies and instances, the busiest first.
//! `coracle top` asks here every second, so an answer is bounded however many functions there are.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use coracle_api::{
    FunctionActivity, PAGE_ITEMS_MAX, ServerStats, StatsQuery, StatsSort, StatsTotals, StatsView,
};
use coracle_model::{FunctionRef, Scope};
use coracle_observe::calls::Filter;
use coracle_observe::metrics::{Class, FunctionMetrics, Recent, Window, resident_bytes};

use super::calls::filter_of;
use super::functions::limit_of;
use super::rim::{Answer, Asked, Who};
use super::server::{Started, mirror};
use super::{Admin, Shared};

pub(super) async fn read(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<StatsQuery>,
    started: Started,
) -> Answer<Json<StatsView>> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let limit = limit_of(query.limit)?;
    let filter = filter_of(&admin, &who, query.namespace, query.function)?;
    let uptime = started.uptime(&*admin.observe.clock);
    let window = Window::ending(admin.observe.clock.now(), uptime);
    let wanted =
        Wanted { admin: &admin, filter: &filter, contains: query.contains.as_deref().unwrap_or_default() };
    let (totals, active) = wanted.active(&window);
    let chosen = match query.sort.unwrap_or_default() {
        StatsSort::Name => wanted.by_name(active, limit),
        sort => wanted.busiest(active, sort, limit),
    };
    let functions = match &filter {
        Filter::All => admin.catalog.count(),
        Filter::Namespace(namespace) => admin.catalog.count_in(namespace),
        Filter::Function(function) => usize::from(admin.catalog.resolve(function).is_some()),
    };
    Ok(Json(StatsView {
        window_s: window.seconds(),
        uptime_s: uptime.as_secs(),
        functions,
        totals,
        server: who.may(Scope::Admin).then(|| inside(&admin)),
        items: chosen.into_iter().filter_map(|activity| activity.view(&admin, &window)).collect(),
    }))
}

/// Which functions a client wants to see.
struct Wanted<'a> {
    admin: &'a Admin,
    filter: &'a Filter,
    contains: &'a str,
}

/// One function at this moment.
#[derive(Debug, Clone)]
struct Activity {
    function: FunctionRef,
    recent: Recent,
    in_flight: u64,
    waiting: u64,
    memory_bytes: u64,
    calls: u64,
    errors: u64,
}

impl Wanted<'_> {
    /// Those that were ever called, and what all together do.
    fn active(&self, window: &Window) -> (StatsTotals, Vec<Activity>) {
        let (mut totals, mut active) = (StatsTotals::default(), Vec::new());
        self.admin.observe.metrics.for_each(|function, metrics| {
            if !self.filter.matches(function) {
                return;
            }
            let activity = Activity::of(function, metrics, window);
            totals.calls_per_s += window.per_second(activity.recent.calls);
            totals.errors_per_s += window.per_second(activity.recent.errors);
            totals.in_flight += activity.in_flight;
            totals.waiting += activity.waiting;
            if self.is_named(function) {
                active.push(activity);
            }
        });
        (totals, active)
    }

    /// The first by what they are sorted by; if there is room, those that were never called follow.
    fn busiest(&self, mut active: Vec<Activity>, sort: StatsSort, limit: usize) -> Vec<Activity> {
        if sort == StatsSort::Memory {
            active.iter_mut().for_each(|activity| activity.measure(self.admin));
        }
        active.sort_by(|a, b| sort_key(b, sort).cmp(&sort_key(a, sort)).then_with(|| by_name(a, b)));
        active.truncate(limit);
        if active.len() < limit {
            let known: HashSet<_> = active.iter().map(|activity| activity.function.clone()).collect();
            let room = limit - active.len();
            let silent = self.deployed(room, |function| !known.contains(function));
            active.extend(silent.into_iter().map(Activity::silent));
        }
        active
    }

    /// The first by name, called or not.
    fn by_name(&self, mut active: Vec<Activity>, limit: usize) -> Vec<Activity> {
        active.sort_by(by_name);
        let activity = |function: FunctionRef| {
            let found = active.binary_search_by(|activity| name_order(&activity.function, &function));
            found.map_or_else(|_| Activity::silent(function), |place| active[place].clone())
        };
        self.deployed(limit, |_| true).into_iter().map(activity).collect()
    }

    /// The first functions by name that are wanted.
    fn deployed(&self, limit: usize, also: impl Fn(&FunctionRef) -> bool) -> Vec<FunctionRef> {
        let wanted = |function: &FunctionRef| self.is_named(function) && also(function);
        let namespace = match self.filter {
            Filter::Function(only) => {
                let there = self.admin.catalog.resolve(only).is_some() && wanted(only);
                return there.then(|| only.clone()).into_iter().collect();
            }
            Filter::Namespace(namespace) => Some(namespace.clone()),
            Filter::All => None,
        };
        let filter = coracle_catalog::Filter { namespace, ..coracle_catalog::Filter::default() };
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < limit {
            // Page by page: the catalog's lock is held for one at a time.
            let page = self.admin.catalog.list(&filter, after.as_ref(), PAGE_ITEMS_MAX);
            let Some(last) = page.last() else { break };
            after = Some(last.function.clone());
            let named = page.into_iter().map(|function| function.function).filter(&wanted);
            found.extend(named.take(limit - found.len()));
        }
        found
    }

    fn is_named(&self, function: &FunctionRef) -> bool {
        function.name.as_str().contains(self.contains)
    }
}

impl Activity {
    fn of(function: &FunctionRef, metrics: &FunctionMetrics, window: &Window) -> Self {
        // Not `snapshot`: its percentiles since the start would be worked out for all functions, and shown for none.
        Self {
            function: function.clone(),
            recent: metrics.recent(window),
            in_flight: metrics.in_flight.get(),
            waiting: metrics.waiting.get(),
            memory_bytes: metrics.memory_bytes.get(),
            calls: Class::ALL.into_iter().map(|class| metrics.calls(class)).sum(),
            errors: metrics.calls(Class::Guest) + metrics.calls(Class::Host),
        }
    }

    /// A function that was never called.
    fn silent(function: FunctionRef) -> Self {
        let recent = Recent::default();
        Self { function, recent, in_flight: 0, waiting: 0, memory_bytes: 0, calls: 0, errors: 0 }
    }

    /// Looks how much memory a program takes: it costs a look at a file for each instance, so that only what is shown or sorted is measured.
    fn measure(&mut self, admin: &Admin) {
        if let Some(bytes) = admin.invoke.memory_of_largest(&self.function) {
            self.memory_bytes = bytes;
        }
    }

    /// As the API shows it; `None` when it was removed in the meantime.
    fn view(mut self, admin: &Admin, window: &Window) -> Option<FunctionActivity> {
        self.measure(admin);
        let revision = admin.catalog.resolve(&self.function)?.number;
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        let recent = self.recent;
        Some(FunctionActivity {
            revision,
            calls_per_s: window.per_second(recent.calls),
            errors_per_s: window.per_second(recent.errors),
            refused_per_s: window.per_second(recent.refused),
            p50_ms: recent.p50.map(ms),
            p99_ms: recent.p99.map(ms),
            in_flight: self.in_flight,
            waiting: self.waiting,
            instances_idle: admin.invoke.idle_instances_of(&self.function),
            memory_bytes: self.memory_bytes,
            calls: self.calls,
            errors: self.errors,
            name: self.function.name,
            namespace: self.function.namespace,
        })
    }
}

/// What is sorted by first; then come those that were called more since the start.
fn sort_key(activity: &Activity, sort: StatsSort) -> (u64, u64, u64) {
    let us = |took: Option<Duration>| {
        took.map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX).saturating_add(1))
    };
    let recent = &activity.recent;
    let first = match sort {
        StatsSort::Calls | StatsSort::Name => recent.calls,
        StatsSort::P50 => us(recent.p50),
        StatsSort::P99 => us(recent.p99),
        StatsSort::Errors => recent.errors,
        StatsSort::Running => activity.in_flight,
        StatsSort::Waiting => activity.waiting,
        StatsSort::Memory => activity.memory_bytes,
    };
    (first, recent.calls, activity.calls)
}

fn by_name(a: &Activity, b: &Activity) -> Ordering {
    name_order(&a.function, &b.function)
}

/// The order in which the catalog lists.
fn name_order(a: &FunctionRef, b: &FunctionRef) -> Ordering {
    (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
}

fn inside(admin: &Admin) -> ServerStats {
    let (metrics, runtime) = (admin.observe.metrics.server(), mirror(admin));
    ServerStats {
        instances: metrics.instances.get(),
        instances_idle: admin.invoke.idle_instances(),
        instances_max: runtime.instances_max,
        connections: metrics.connections.get(),
        code_bytes: runtime.mapped_bytes,
        code_bytes_max: runtime.mapped_bytes_max,
        resident_bytes: resident_bytes(),
    }
}
