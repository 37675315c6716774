//! `mallinfo`, `malloc_info` and the other calls that ask or advise.

use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};

use hakmem_alloc::{Stats, c, stats};
use hakmem_sys::report;
use libc::{EINVAL, FILE, mallinfo, mallinfo2};

/// Gives free memory back to the system, as much as there is: `_pad`, the part
/// of glibc's heap to keep, has no counterpart. Returns 1 when there was any.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(c::trim() != 0)
}

/// Accepts the values that glibc accepts for its parameters and changes
/// nothing: they describe parts of glibc's heap. Returns 1, or 0 for a value
/// out of the parameter's range.
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    /// The largest block glibc takes for its fast bins, in bytes.
    const FASTEST: c_int = 80 * size_of::<usize>() as c_int / 4;

    c_int::from(parameter != libc::M_MXFAST || (0..=FASTEST).contains(&value))
}

/// Bytes that are in use or free, and with the process in either case.
fn held_bytes(stats: &Stats) -> u64 {
    stats.committed_bytes + stats.dirty_bytes
}

/// The counters under the names of glibc's `mallinfo2`: what has no counterpart
/// is 0. As there, `arena` is the sum of `uordblks` and `fordblks`, of which `keepcost` is a part.
#[unsafe(export_name = "mallinfo2")]
pub extern "C" fn mallinfo2_now() -> mallinfo2 {
    let stats = stats();
    let bytes = |value: u64| value as usize;
    let held = held_bytes(&stats);
    mallinfo2 {
        arena: bytes(held),
        ordblks: 0,
        smblks: 0,
        hblks: bytes(stats.large_live),
        hblkhd: 0,
        usmblks: 0,
        fsmblks: 0,
        uordblks: bytes(stats.live_bytes),
        fordblks: bytes(held.saturating_sub(stats.live_bytes)),
        keepcost: bytes(stats.dirty_bytes),
    }
}

/// [`mallinfo2_now`] in `int`s; what does not fit is `INT_MAX`.
#[unsafe(export_name = "mallinfo")]
pub extern "C" fn mallinfo_now() -> mallinfo {
    let wide = mallinfo2_now();
    let narrow = |value: usize| c_int::try_from(value).unwrap_or(c_int::MAX);
    mallinfo {
        arena: narrow(wide.arena),
        ordblks: narrow(wide.ordblks),
        smblks: narrow(wide.smblks),
        hblks: narrow(wide.hblks),
        hblkhd: narrow(wide.hblkhd),
        usmblks: narrow(wide.usmblks),
        fsmblks: narrow(wide.fsmblks),
        uordblks: narrow(wide.uordblks),
        fordblks: narrow(wide.fordblks),
        keepcost: narrow(wide.keepcost),
    }
}

/// Prints the counters to standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    let stats = stats();
    let held_bytes = held_bytes(&stats);
    let Stats {
        live_bytes,
        mapped_bytes,
        dirty_bytes,
        heaps,
        superslabs,
        large_live,
        ..
    } = stats;
    report::line(format_args!(
        "{live_bytes} bytes live, {held_bytes} held ({dirty_bytes} of them free and not given back \
         yet), {mapped_bytes} mapped"
    ));
    report::line(format_args!(
        "{heaps} heaps, {superslabs} superslabs, {large_live} large blocks"
    ));
}

/// Writes the counters to `stream` as an XML document and returns 0, -1 when
/// that failed, or `EINVAL` when `options` is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut FILE) -> c_int {
    if options != 0 {
        return EINVAL;
    }
    let stats = stats();
    let held_bytes = held_bytes(&stats);
    let Stats {
        live_bytes,
        mapped_bytes,
        dirty_bytes,
        heaps,
        superslabs,
        large_live,
        ..
    } = stats;
    let written = writeln!(
        Stream(stream),
        "<malloc version=\"hakmem-{}\">\n\
         <system type=\"mapped\" size=\"{mapped_bytes}\"/>\n\
         <system type=\"current\" size=\"{held_bytes}\"/>\n\
         <total type=\"live\" size=\"{live_bytes}\"/>\n\
         <total type=\"dirty\" size=\"{dirty_bytes}\"/>\n\
         <count type=\"heaps\" count=\"{heaps}\"/>\n\
         <count type=\"superslabs\" count=\"{superslabs}\"/>\n\
         <count type=\"large\" count=\"{large_live}\"/>\n\
         </malloc>",
        env!("CARGO_PKG_VERSION"),
    );
    if written.is_ok() { 0 } else { -1 }
}

/// A C stream to write text to.
struct Stream(*mut FILE);

impl Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = text.as_ptr().cast::<c_void>();
        // SAFETY: `malloc_info`'s caller says the stream is open; the text is
        // valid for its length.
        let written = unsafe { libc::fwrite(start, 1, text.len(), self.0) };
        if written == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}
