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
        let (text, bytes) = (line.bytes.as_ptr(), line.used + 1);
        // SAFETY: the buffer holds so many initialised bytes.
        unsafe {
            if cfg!(miri) {
                libc::write(2, text.cast(), bytes);
            } else {
                // In the C library's function the thread could be cancelled.
                libc::syscall(libc::SYS_write, 2, text, bytes);
            }
        }
    });
}

/// The thread that was the first to call [`fatal`], or zero.
static DYING: AtomicUsize = AtomicUsize::new(0);

/// Whether the calling thread was the first to call [`fatal`]. It waits for no lock any more, so
/// that a handler of `SIGABRT` that allocates does not wait for one that its own thread
/// holds. The others go on as always until the process ends.
#[inline]
pub(crate) fn is_dying_here() -> bool {
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

/// Why an address cannot be freed, though it is where blocks of a class are, or were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFree {
    /// The memory is not the allocator's.
    NotOurs,
    /// There are no blocks there any more.
    Gone,
    /// So many bytes into a block of so many.
    Interior {
        /// Bytes before the address.
        inside: usize,
        /// Bytes of the block.
        size: usize,
    },
    /// Where no block lies, among those of so many bytes.
    NoBlock {
        /// Bytes of the blocks around it.
        size: usize,
    },
    /// A block of so many bytes, which is free already.
    AlreadyFree {
        /// Bytes of the block.
        size: usize,
    },
}

/// [`fatal`], with what an attempt to free this address came to.
#[cold]
pub fn bad_free(address: usize, why: BadFree) -> ! {
    match why {
        BadFree::NotOurs => fatal(format_args!(
            "free({address:#x}): not memory of this allocator"
        )),
        BadFree::Gone => fatal(format_args!(
            "free({address:#x}): the memory around it has been freed already (double free)"
        )),
        BadFree::Interior { inside, size } => fatal(format_args!(
            "free({address:#x}): not the start of a block, but {inside} bytes into one of {size} bytes"
        )),
        BadFree::NoBlock { size } => fatal(format_args!(
            "free({address:#x}): never allocated (beside blocks of {size} bytes)"
        )),
        BadFree::AlreadyFree { size } => fatal(format_args!(
            "free({address:#x}): double free of a block of {size} bytes"
        )),
    }
}
