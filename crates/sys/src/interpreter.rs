//! The system's calls for memory as Miri can follow them: what it does not know is done by what
//! it does.
//!
//! The signatures are libc's. Nothing here is compiled into a program.

use core::ffi::{c_int, c_ulong, c_void};

/// More than this is refused: Miri puts real memory behind all that is mapped. It has room for
/// the smallest range of an arena.
const MOST: usize = 128 << 20;

/// Refuses with this error.
fn refuse(error: c_int) -> c_int {
    crate::errno::set(error);
    -1
}

/// The size of pages, and nothing else.
pub(crate) unsafe fn getauxval(what: c_ulong) -> c_ulong {
    if what == libc::AT_PAGESZ { 4096 } else { 0 }
}

/// Maps memory that can be read and written, whatever the protection.
pub(crate) unsafe fn mmap(
    address: *mut c_void,
    length: usize,
    _protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    if flags & libc::MAP_FIXED_NOREPLACE != 0 || length > MOST {
        let why = if length > MOST {
            libc::ENOMEM
        } else {
            libc::EINVAL
        };
        refuse(why);
        return libc::MAP_FAILED;
    }
    if flags & libc::MAP_FIXED != 0 {
        // SAFETY: the range is the caller's to replace.
        unsafe { address.cast::<u8>().write_bytes(0, length) };
        return address;
    }
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: nothing is replaced.
    unsafe { libc::mmap(address, length, protection, flags, file, offset) }
}

/// All that is mapped can be read and written already.
pub(crate) unsafe fn mprotect(_: *mut c_void, _: usize, _: c_int) -> c_int {
    0
}

/// Does what changes what is read, and knows no other advice.
pub(crate) unsafe fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int {
    if advice != libc::MADV_DONTNEED {
        return refuse(libc::EINVAL);
    }
    // SAFETY: the range is the caller's to have cleared.
    unsafe { address.cast::<u8>().write_bytes(0, length) };
    0
}

pub(crate) use libc::{mremap, munmap};
