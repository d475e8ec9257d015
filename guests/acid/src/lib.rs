//! Does, path by path, what a guest should not do, so that tests can watch the host bear it.
//! `/` lists the paths; each is a function of its own in `misdeeds` or `streams`.

mod exchange;
mod misdeeds;
mod streams;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use exchange::Exchange;

const PATHS: &str = "\
/bad-header               tries header fields that are not allowed and says what the host made of each
/count                    how many calls this instance has served
/echo                     streams the body back, chunk by chunk
/env                      the environment, KEY=VALUE
/exit?code=1              leaves the process before there is a response
/fetch?url=               makes an outgoing call and passes the answer on; 502 and the error if it fails
/grow?mib=                allocates so much, or until there is no more
/headers                  what was received but the body
/log?bytes=1000           writes so many bytes of log lines to stdout
/loop                     spins, without a response
/loop-after-head          answers with a head and a chunk, then spins
/no-response              returns without a response
/short?declared=10&sent=3 declares a length and sends another
/sink                     reads the body and answers with its length
/sleep?ms=1000            waits in a host call, then answers
/sleep-after-head?ms=1000 answers with a head and a chunk, waits, then sends another
/slow?chunks=3&ms=100     sends chunks with a pause before each, and a trailer
/source?bytes=            streams so many bytes
/spin?ms=100              burns processor time, then answers
/status?code=200          answers with a status
/stderr, /stdout          writes the body to the log
/trap                     panics, with a message on stderr
/trap-after-head          answers with a head and a chunk, then panics
";

struct Acid;

wasip2::http::proxy::export!(Acid);

impl Guest for Acid {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let call = Exchange::new(request, response_out);
        match call.path() {
            "/" => call.answer(200, PATHS),
            "/bad-header" => misdeeds::bad_header(call),
            "/count" => misdeeds::count(call),
            "/echo" => streams::echo(call),
            "/env" => misdeeds::env(call),
            "/exit" => misdeeds::exit(&call),
            "/fetch" => streams::fetch(call),
            "/grow" => misdeeds::grow(call),
            "/headers" => misdeeds::headers(call),
            "/log" => misdeeds::log(call),
            "/loop" => misdeeds::spin_forever(),
            "/loop-after-head" => misdeeds::loop_after_head(call),
            "/no-response" => {}
            "/short" => streams::short(call),
            "/sink" => streams::sink(call),
            "/sleep" => misdeeds::sleep(call),
            "/sleep-after-head" => misdeeds::sleep_after_head(call),
            "/slow" | "/trailers-slow" => streams::slow(call),
            "/source" => streams::source(call),
            "/spin" => misdeeds::spin(call),
            "/status" => misdeeds::status(call),
            "/stderr" => streams::log_body(call, &mut std::io::stderr()),
            "/stdout" => streams::log_body(call, &mut std::io::stdout()),
            "/trap" => panic!("asked to trap"),
            "/trap-after-head" => misdeeds::trap_after_head(call),
            path => {
                let complaint = format!("no such path: {path}\n\n{PATHS}");
                call.answer(404, &complaint);
            }
        }
    }
}
