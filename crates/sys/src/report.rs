//! Messages to standard error that never allocate.

use crate::this_thread;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

const CAPACITY: usize = 512;

/// A line on the stack; what does not fit is cut off.
struct Line {
    bytes: [u8; CAPACITY],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = CAPACITY - 1 - self.used;
        let take = text.len().min(room);
        self.bytes[self.used..self.used + take].copy_from_slice(&text.as_bytes()[..take]);
        self.used += take;
        Ok(())
    }
}

/// Writes one line, `hakmem: ` and `message`, to standard error.
///
/// Text past 511 bytes is cut off. Failure to write is ignored: there is
/// nobody left to tell.
#[cold]
pub fn line(message: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; CAPACITY],
        used: 0,
    };
    // `Line` never fails, and a failing `Display` only shortens the text.
    let _ = line.write_str("hakmem: ");
    let _ = line.write_fmt(message);
    line.bytes[line.used] = b'\n';
    crate::errno::preserved(|| {
        // SAFETY: the buffer holds `used + 1` initialised bytes.
        unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.used + 1) };
    });
}

/// The thread that was the first to call [`fatal`], or zero.
static DYING: AtomicUsize = AtomicUsize::new(0);

/// Whether the calling thread was the first to call [`fatal`]. It waits for no lock any more, so
/// that a handler of `SIGABRT` that allocates does not wait for one that its own thread
/// holds. The others go on as always until the process ends.
pub fn is_dying_here() -> bool {
    DYING.load(Ordering::Relaxed) == this_thread::id()
}

/// Writes one line as [`line()`] does, then aborts the process.
///
/// For misuse that cannot be answered in any other way: a pointer that was
/// never allocated, a block freed twice.
#[cold]
pub fn fatal(message: fmt::Arguments<'_>) -> ! {
    line(message);
    let (nobody, me) = (0, this_thread::id());
    let _ = DYING.compare_exchange(nobody, me, Ordering::Relaxed, Ordering::Relaxed);
    // SAFETY: `abort` is always safe to call; it does not return.
    unsafe { libc::abort() }
}
