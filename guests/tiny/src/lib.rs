//! Answers every call with `ok`: as little as a guest can do, for benchmarks.
//! Called by `cargo xtask bench wasm`; what a call costs beside this guest is ours.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::mem;
use core::panic::PanicInfo;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Tiny;

wasip2::http::proxy::export!(Tiny);

impl Guest for Tiny {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        // The host takes back what is left when the instance ends: one call less.
        mem::forget(request);

        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { trap() };
        let Ok(stream) = body.write() else { trap() };
        // A host with room for three bytes takes them at once: no wait, no flush.
        match stream.check_write() {
            Ok(3..) => {}
            _ => trap(),
        }
        let Ok(()) = stream.write(b"ok\n") else { trap() };
        drop(stream);
        let Ok(()) = OutgoingBody::finish(body, None) else { trap() };

        // Set last, with the body complete: the host can send all of it in one write.
        ResponseOutparam::set(response_out, Ok(response));
    }
}

/// Nothing here allocates; the bindings want an allocator all the same.
struct NoHeap;

#[global_allocator]
static HEAP: NoHeap = NoHeap;

// SAFETY: an allocator that never returns hands out no memory.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        trap()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    trap()
}

fn trap() -> ! {
    core::arch::wasm32::unreachable()
}
