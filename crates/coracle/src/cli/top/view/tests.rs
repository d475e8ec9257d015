//! The screen of `coracle top` as text, at the sizes that people have.
//! Drawn on ratatui's own test backend, so that what is compared is what a terminal would get.

use coracle_api::{
    CallView, FunctionActivity, LogLine, LogStream, ServerStats, StatsSort, StatsTotals, StatsView,
};
use coracle_model::FunctionRef;
use expect_test::{Expect, expect};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::{Answer, Model, Opened, Told};
use super::*;

/// Functions that were never called.
pub(in super::super) fn stats(names: &[&str]) -> StatsView {
    let silent = |name: &&str| {
        let FunctionRef { name, namespace } = FunctionRef::parse(name).unwrap();
        FunctionActivity {
            name,
            namespace,
            revision: 1,
            calls_per_s: 0.0,
            errors_per_s: 0.0,
            refused_per_s: 0.0,
            p50_ms: None,
            p99_ms: None,
            in_flight: 0,
            waiting: 0,
            instances_idle: 0,
            memory_bytes: 0,
            calls: 0,
            errors: 0,
        }
    };
    StatsView {
        window_s: 5.0,
        uptime_s: 200,
        functions: names.len(),
        totals: StatsTotals::default(),
        server: None,
        items: names.iter().map(silent).collect(),
    }
}

fn busy() -> StatsView {
    let mut stats = stats(&["resize", "hello", "checkout-and-payment.shop", "quiet"]);
    stats.functions = 10_000;
    stats.totals = StatsTotals { calls_per_s: 1_380.4, errors_per_s: 2.4, in_flight: 14, waiting: 3 };
    stats.server = Some(ServerStats {
        instances: 22,
        instances_idle: 8,
        instances_max: 1_000,
        connections: 40,
        code_bytes: 12 << 20,
        code_bytes_max: 512 << 20,
        resident_bytes: 96 << 20,
    });
    let numbers =
        [(1_234.0, 0.32, 1.2, 0.0, 12, 3), (144.0, 0.04, 0.09, 0.0, 1, 0), (2.4, 840.0, 2_300.0, 2.4, 1, 0)];
    for (item, (calls, p50, p99, errors, running, waiting)) in stats.items.iter_mut().zip(numbers) {
        item.calls_per_s = calls;
        (item.p50_ms, item.p99_ms) = (Some(p50), Some(p99));
        item.errors_per_s = errors;
        (item.in_flight, item.waiting) = (running, waiting);
        item.instances_idle = 4;
        item.memory_bytes = 1_310_720;
        item.calls = 5_000;
    }
    stats
}

fn model(stats: StatsView) -> Model {
    let mut model = Model::new("http://127.0.0.1:8080", StatsSort::Calls, stats.clone());
    for rate in [100.0, 400.0, 900.0, 1_380.0] {
        let totals = StatsTotals { calls_per_s: rate, ..stats.totals };
        let stats = StatsView { totals, ..stats.clone() };
        let url = model.url.clone();
        model.told(Told::Stats(Box::new(Answer { url, stats, opened: None })));
    }
    model
}

fn terminal(model: &Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(model, Theme { colours: true }, frame.area(), frame.buffer_mut())).unwrap();
    terminal
}

fn check(model: &Model, width: u16, height: u16, expected: Expect) {
    let terminal = terminal(model, width, height);
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    expected.assert_eq(&((0..height).map(row).collect::<Vec<_>>().join("\n") + "\n"));
}

#[test]
fn a_wide_screen_shows_all() {
    check(
        &model(busy()),
        120,
        12,
        expect![[r#"
            1,380 calls/s  2.4 errors/s  █▂▃▆█                                                          http://127.0.0.1:8080  up 3m
            functions 10,000  running 14  waiting 3  instances 22 (8 idle)  memory 96.0 MiB  code 12.0 MiB of 512.0 MiB

            FUNCTION                  CALLS/S▾                       P50      P99  ERR/S   RUN  WAIT  IDLE    MEMORY
            resize                       1,234 ████████████████  0.32 ms  1.20 ms      0    12     3     4   1.2 MiB
            hello                          144 █▉                0.04 ms  0.09 ms      0     1     0     4   1.2 MiB
            checkout-and-payment.shop      2.4 ▏                  840 ms    2.3 s    2.4     1     0     4   1.2 MiB
            quiet                            0                         -        -      0     0     0     0         -
            … 9,996 more; / finds one by its name


            q leave  ↑↓ select  enter open  / filter  ←→ or underlined letter: sort
        "#]],
    );
}

#[test]
fn a_usual_screen_leaves_out_the_bar() {
    check(
        &model(busy()),
        80,
        10,
        expect![[r#"
            1,380 calls/s  2.4 errors/s  █▂▃▆█                  http://127.0.0.1:8080  up 3m
            functions 10,000  running 14  waiting 3  instances 22 (8 idle)  memory 96.0 MiB

            FUNCTION           CALLS/S▾      P50      P99  ERR/S   RUN  WAIT  IDLE    MEMORY
            resize                1,234  0.32 ms  1.20 ms      0    12     3     4   1.2 MiB
            hello                   144  0.04 ms  0.09 ms      0     1     0     4   1.2 MiB
            checkout-and-paym…      2.4   840 ms    2.3 s    2.4     1     0     4   1.2 MiB
            quiet                     0        -        -      0     0     0     0         -
            … 9,996 more; / finds one by its name
            q leave  ↑↓ select  enter open  / filter  ←→ or underlined letter: sort
        "#]],
    );
}

#[test]
fn a_tiny_screen_keeps_names_and_rates() {
    check(
        &model(busy()),
        20,
        5,
        expect![[r#"
        1,380 calls/s  2.4 e
        FUNCTION    CALLS/S▾
        resize         1,234
        hello            144
        q leave  ↑↓ select
    "#]],
    );
    let lost = {
        let mut model = model(busy());
        model.told(Told::Lost("connection refused".into()));
        model
    };
    check(
        &lost,
        20,
        5,
        expect![[r#"
        no answer, trying ag
        FUNCTION    CALLS/S▾
        resize         1,234
        hello            144
        q leave  ↑↓ select
    "#]],
    );
    check(
        &lost,
        80,
        10,
        expect![[r#"
            1,380 calls/s  2.4 errors/s  █▂▃▆█                  http://127.0.0.1:8080  up 3m
            functions 10,000  running 14  waiting 3  instances 22 (8 idle)  memory 96.0 MiB
            no answer, trying again: connection refused
            FUNCTION           CALLS/S▾      P50      P99  ERR/S   RUN  WAIT  IDLE    MEMORY
            resize                1,234  0.32 ms  1.20 ms      0    12     3     4   1.2 MiB
            hello                   144  0.04 ms  0.09 ms      0     1     0     4   1.2 MiB
            checkout-and-paym…      2.4   840 ms    2.3 s    2.4     1     0     4   1.2 MiB
            quiet                     0        -        -      0     0     0     0         -
            … 9,996 more; / finds one by its name
            q leave  ↑↓ select  enter open  / filter  ←→ or underlined letter: sort
        "#]],
    );
}

#[test]
fn no_size_is_too_small_to_draw_on() {
    let mut model = model(busy());
    model.told(Told::Lost("connection refused".into()));
    for (width, height) in [(1, 1), (2, 3), (0, 0), (200, 1), (1, 200), (9, 9)] {
        terminal(&model, width, height);
        model.opened = Some(opened());
        terminal(&model, width, height);
        model.opened = None;
    }
}

#[test]
fn rows_that_find_no_room_are_counted_and_the_selected_one_is_in_sight() {
    let names: Vec<_> = (0..30).map(|number| format!("f{number}")).collect();
    let mut model = model(stats(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    check(
        &model,
        60,
        8,
        expect![[r#"
        1,380 calls/s
        FUNCTION   CALLS/S▾      P50      P99  ERR/S   RUN  WAIT
        f0                0        -        -      0     0     0
        f1                0        -        -      0     0     0
        f2                0        -        -      0     0     0
        f3                0        -        -      0     0     0
        … 26 more; / finds one by its name
        q leave  ↑↓ select  enter open  / filter  ←→ or underlined l
    "#]],
    );
    model.selected = Some(FunctionRef::parse("f20").unwrap());
    check(
        &model,
        60,
        8,
        expect![[r#"
        1,380 calls/s
        FUNCTION   CALLS/S▾      P50      P99  ERR/S   RUN  WAIT
        f17               0        -        -      0     0     0
        f18               0        -        -      0     0     0
        f19               0        -        -      0     0     0
        f20               0        -        -      0     0     0
        … 26 more; / finds one by its name
        q leave  ↑↓ select  enter open  / filter  ←→ or underlined l
    "#]],
    );
    let terminal = terminal(&model, 60, 8);
    let buffer = terminal.backend().buffer();
    let reversed = (0..8).filter(|y| buffer[(30, *y)].modifier.contains(Modifier::REVERSED)).count();
    assert_eq!(reversed, 1);
}

#[test]
fn no_functions_at_all_say_what_to_do() {
    let mut empty = model(stats(&[]));
    check(
        &empty,
        60,
        10,
        expect![[r#"
        1,380 calls/s                   http://127.0.0.1:8080  up 3m
        functions 0  running 0  waiting 0

        no functions yet
        deploy one: coracle deploy FILE --name NAME




        q leave  ↑↓ select  enter open  / filter  ←→ or underlined l
    "#]],
    );
    empty.filter = "zzz".into();
    empty.typing = true;
    check(
        &empty,
        60,
        10,
        expect![[r#"
        1,380 calls/s                   http://127.0.0.1:8080  up 3m
        functions 0  running 0  waiting 0

        no function has that in its name
        esc clears the filter




        /zzz▏  enter keeps it, esc clears it
    "#]],
    );
}

#[test]
fn without_colours_nothing_has_one() {
    let mut terminal = Terminal::new(TestBackend::new(100, 12)).unwrap();
    let model = model(busy());
    terminal.draw(|frame| draw(&model, Theme { colours: false }, frame.area(), frame.buffer_mut())).unwrap();
    assert!(
        terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
}

fn opened() -> Opened {
    let call = |path: &str, status, outcome: &str, cold| CallView {
        id: "900988e0bc94052a8cec9d86e4b5562d".into(),
        function: FunctionRef::parse("resize").unwrap(),
        revision: 3,
        method: "GET".into(),
        path: path.into(),
        status,
        started: "2026-01-31T12:00:00.25Z".parse().unwrap(),
        waited_us: 0,
        start_us: 20,
        run_us: 300,
        total_us: 320,
        cold,
        bytes_in: 0,
        bytes_out: 0,
        memory_bytes: 0,
        outcome: outcome.into(),
        message: None,
        hint: None,
    };
    let line = |text: &str| LogLine {
        time: "2026-01-31T12:00:00.5Z".parse().unwrap(),
        function: FunctionRef::parse("resize").unwrap(),
        revision: 3,
        instance: 7,
        call: None,
        stream: LogStream::Stdout,
        text: text.into(),
    };
    Opened {
        function: FunctionRef::parse("resize").unwrap(),
        activity: busy().items.first().cloned(),
        calls: vec![call("/a", 200, "ok", true), call("/\u{1b}[2J", 502, "guest-trapped", false)],
        lines: vec![line("first"), line("it cannot \u{1b}[31msteer")],
    }
}

#[test]
fn a_function_is_looked_at_closely() {
    let mut model = model(busy());
    model.opened = Some(opened());
    check(
        &model,
        80,
        16,
        expect![[r#"
        1,380 calls/s  2.4 errors/s  █▂▃▆█                  http://127.0.0.1:8080  up 3m
        functions 10,000  running 14  waiting 3  instances 22 (8 idle)  memory 96.0 MiB

        resize  1,234 calls/s  p50 0.32 ms  p99 1.20 ms  12 running  3 waiting  4 idle

        LAST CALLS
        12:00:00.250   0.32 ms  200  GET /a  cold
        12:00:00.250   0.32 ms  502 guest-trapped  GET /�[2J

        LOG
        12:00:00.500  first
        12:00:00.500  it cannot �[31msteer



        q leave  esc back
    "#]],
    );
    check(
        &model,
        20,
        5,
        expect![[r#"
        1,380 calls/s  2.4 e
        resize  1,234 calls/

        LAST CALLS
        q leave  esc back
    "#]],
    );
    model.opened = Some(Opened { activity: None, calls: Vec::new(), lines: Vec::new(), ..opened() });
    check(
        &model,
        60,
        12,
        expect![[r#"
            1,380 calls/s  2.4 errors/s     http://127.0.0.1:8080  up 3m
            functions 10,000  running 14  waiting 3

            resize  is not there any more

            LAST CALLS
            none since the server started

            LOG
            no lines

            q leave  esc back
        "#]],
    );
}
