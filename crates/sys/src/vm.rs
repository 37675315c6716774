//! Address space and memory.
//!
//! Addresses are `usize` and lengths are bytes, multiples of the page size
//! except where said. Every call that the system refuses leaves `errno` as it
//! was and says why in its result.

#[cfg(miri)]
use crate::interpreter as system;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
#[cfg(not(miri))]
use libc as system;

/// Why the system did not map what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Something else is mapped there.
    Occupied,
    /// No memory, no address space, or a limit.
    OutOfMemory,
    /// This system cannot claim addresses this way (an old kernel, an emulator,
    /// an address outside what it offers).
    Unsupported,
}

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
/// Accounted for, as the C library's own allocator does it: a request beyond what
/// the machine has is refused, not granted and killed for later.
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// The size of a page in bytes.
pub fn page_size() -> usize {
    static CACHED: AtomicUsize = AtomicUsize::new(0);
    let cached = CACHED.load(Ordering::Relaxed);
    if cached != 0 {
        return cached;
    }
    let size = match auxiliary(libc::AT_PAGESZ) {
        0 => 4096,
        size => size,
    };
    CACHED.store(size, Ordering::Relaxed);
    size
}

/// A word of what the kernel told the program at its start, zero where it said nothing.
pub(crate) fn auxiliary(what: libc::c_ulong) -> usize {
    // SAFETY: this only reads the vector that the kernel passed.
    unsafe { system::getauxval(what) as usize }
}

/// A number that differs from run to run of a program as the places do where the system puts its
/// stack, its code and the system's own: a seed that costs no system call.
///
/// It is made of all three at once, so that a few bits of it tell nothing of any one of them; and not
/// of the random bytes at `AT_RANDOM`, which are the C library's secrets.
pub fn start_entropy() -> u64 {
    // The odd constant nearest to 2^64 divided by the golden ratio, which spreads all bits upwards.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    /// Not in `libc` for all targets.
    const AT_SYSINFO_EHDR: libc::c_ulong = 33;
    let places = [libc::AT_RANDOM, libc::AT_ENTRY, AT_SYSINFO_EHDR];
    let mix = |mixed: u64, place| (mixed ^ auxiliary(place) as u64).wrapping_mul(SPREAD);
    // One that is not there would be an error.
    let mixed = crate::errno::preserved(|| places.into_iter().fold(0, mix));
    mixed ^ mixed >> 32
}

/// Bytes of a signal set to the kernel.
const KERNEL_SIGSET_BYTES: usize = 8;

/// Makes the system read this word, as the signal set of a change that it then
/// refuses, there being none of that kind. Returns whether it came that far: an
/// unreadable word is refused for its address.
fn is_refused_for_its_arguments_only(word: usize) -> bool {
    const NO_SUCH_CHANGE: libc::c_long = -1;
    let saved = crate::errno::get();
    // SAFETY: the kernel reads eight bytes, if it can, and changes nothing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NO_SUCH_CHANGE,
            word,
            ptr::null_mut::<libc::c_void>(),
            KERNEL_SIGSET_BYTES,
        )
    };
    let error = crate::errno::get();
    crate::errno::set(saved);
    answer == -1 && error == libc::EINVAL
}

/// Whether the memory at `address` can be read: one system call.
///
/// It tells a page without access from one with, which `mincore` does not, needs
/// no file descriptor, as writing to a pipe does, and is allowed in sandboxes
/// that forbid `process_vm_readv`: changing the signal mask is something every
/// thread does. (The idea is Abseil's, `absl/debugging/internal/
/// address_is_readable.cc`.) Where the system turns out not to look at the memory
/// (some emulators), the answer is always `false`.
///
/// The answer is true of one moment: another thread may unmap the page right
/// after it.
pub fn is_readable(address: usize) -> bool {
    const UNKNOWN: u8 = 0;
    const LOOKS: u8 = 1;
    const BLIND: u8 = 2;
    static SYSTEM: AtomicU8 = AtomicU8::new(UNKNOWN);
    let mut system = SYSTEM.load(Ordering::Relaxed);
    if system == UNKNOWN {
        // No program can read the last word of the address space.
        system = if cfg!(miri) || is_refused_for_its_arguments_only(usize::MAX & !7) {
            BLIND
        } else {
            LOOKS
        };
        SYSTEM.store(system, Ordering::Relaxed);
    }
    // The null address would mean "no signal set"; its neighbour shares its page.
    system == LOOKS && is_refused_for_its_arguments_only((address & !7).max(8))
}

#[cfg(feature = "fault-injection")]
pub mod fault {
    //! Makes mapping calls fail on purpose (tests only).

    use core::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    static COUNTDOWN: AtomicI64 = AtomicI64::new(i64::MAX);
    static KEEPS_MAPPINGS: AtomicBool = AtomicBool::new(false);

    /// Lets the next `calls` mapping calls through and makes all later ones
    /// fail with out-of-memory.
    pub fn fail_after(calls: i64) {
        COUNTDOWN.store(calls, Ordering::SeqCst);
    }

    /// Makes all calls fail that unmap.
    pub fn keep_mappings() {
        KEEPS_MAPPINGS.store(true, Ordering::SeqCst);
    }

    /// Lets every call through again.
    pub fn off() {
        fail_after(i64::MAX);
        KEEPS_MAPPINGS.store(false, Ordering::SeqCst);
    }

    pub(super) fn keeps_mappings() -> bool {
        KEEPS_MAPPINGS.load(Ordering::SeqCst)
    }

    pub(super) fn strikes() -> bool {
        COUNTDOWN.load(Ordering::SeqCst) != i64::MAX
            && COUNTDOWN.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

#[inline]
fn injected_failure() -> bool {
    #[cfg(feature = "fault-injection")]
    return fault::strikes();
    #[cfg(not(feature = "fault-injection"))]
    false
}

/// # Safety
///
/// With `MAP_FIXED` in `flags`, the range must be the caller's to replace.
unsafe fn mmap(address: usize, length: usize, protection: i32, flags: i32) -> Result<usize, i32> {
    if injected_failure() {
        return Err(libc::ENOMEM);
    }
    let saved = crate::errno::get();
    // SAFETY: an anonymous mapping; that `MAP_FIXED` replaces only what the
    // caller may replace is this function's own contract.
    let mapped = unsafe {
        system::mmap(
            ptr::with_exposed_provenance_mut(address),
            length,
            protection,
            flags,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        let error = crate::errno::get();
        crate::errno::set(saved);
        Err(error)
    } else {
        Ok(mapped.expose_provenance())
    }
}

/// Maps fresh zeroed read-write memory at exactly `[address, address + length)`
/// if nothing is there.
///
/// # Errors
///
/// [`MapError::Occupied`] where a part of the range is in use,
/// [`MapError::Unsupported`] where the system ignores or refuses the address,
/// else [`MapError::OutOfMemory`].
pub fn map_at(address: usize, length: usize) -> Result<(), MapError> {
    // SAFETY: `MAP_FIXED_NOREPLACE` never replaces a mapping; without it, and where the kernel does not
    // know the flag, the address is a hint.
    let map = |flags| unsafe { mmap(address, length, READ_WRITE, PRIVATE | flags) };
    let mapped = map(libc::MAP_FIXED_NOREPLACE);
    let is_refused = matches!(mapped, Err(libc::EINVAL | libc::EPERM | libc::ENOSYS));
    // A sandbox may not know the flag. Where the system has put it elsewhere then, something is there.
    match if is_refused { map(0) } else { mapped } {
        Ok(mapped) if mapped == address => Ok(()),
        Ok(mapped) => {
            // SAFETY: the mapping was made just now and nobody else knows it.
            unsafe { unmap(mapped, length) };
            Err(if is_refused {
                MapError::Occupied
            } else {
                MapError::Unsupported
            })
        }
        Err(libc::EEXIST) => Err(MapError::Occupied),
        Err(libc::EINVAL | libc::EPERM | libc::ENOSYS) => Err(MapError::Unsupported),
        Err(_) => Err(MapError::OutOfMemory),
    }
}

/// Whether the system makes no mapping any more, wherever it be, because the process has more than it
/// may have. One system call: it is asked for a page at `address`, where something is mapped, and says
/// which of the two is in the way.
pub fn has_too_many_mappings(address: usize) -> bool {
    if cfg!(miri) {
        return false;
    }
    let flags = PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: `MAP_FIXED_NOREPLACE` never replaces a mapping.
    match unsafe { mmap(address, page_size(), libc::PROT_NONE, flags) } {
        // A kernel that does not know the flag looks for another place, for which there may be none.
        Ok(mapped) => {
            // SAFETY: the mapping was made just now and nobody else knows it.
            unsafe { unmap(mapped, page_size()) };
            false
        }
        Err(libc::ENOMEM) => is_linux_since(4, 17),
        Err(_) => false,
    }
}

/// Maps fresh zeroed read-write memory wherever the system likes.
pub fn map(length: usize) -> Option<usize> {
    // SAFETY: without `MAP_FIXED` nothing is replaced.
    unsafe { mmap(0, length, READ_WRITE, PRIVATE) }.ok()
}

/// Whether the process may have only so many addresses (`ulimit -v`).
pub fn has_address_limit() -> bool {
    if cfg!(miri) {
        return false;
    }
    let mut limit = core::mem::MaybeUninit::<libc::rlimit>::zeroed();
    let outcome = crate::errno::preserved(|| {
        // SAFETY: a valid place for the limit.
        unsafe { libc::getrlimit(libc::RLIMIT_AS, limit.as_mut_ptr()) }
    });
    // SAFETY: zeros are a valid limit, and the system may have written another over them.
    outcome == 0 && unsafe { limit.assume_init() }.rlim_cur != libc::RLIM_INFINITY
}

/// Sets address space aside without memory behind it: no access, no commit
/// charge.
pub fn reserve(length: usize) -> Option<usize> {
    // SAFETY: without `MAP_FIXED` nothing is replaced.
    unsafe { mmap(0, length, libc::PROT_NONE, PRIVATE | libc::MAP_NORESERVE) }.ok()
}

/// Makes a part of a reserved range readable and writable.
///
/// # Errors
///
/// [`MapError::OutOfMemory`] where the system refuses.
///
/// # Safety
///
/// The range is part of one that [`reserve`] returned to the caller.
pub unsafe fn commit(address: usize, length: usize) -> Result<(), MapError> {
    if injected_failure() {
        return Err(MapError::OutOfMemory);
    }
    let saved = crate::errno::get();
    // SAFETY: the range belongs to the caller.
    if unsafe {
        system::mprotect(
            ptr::with_exposed_provenance_mut(address),
            length,
            READ_WRITE,
        )
    } == 0
    {
        Ok(())
    } else {
        crate::errno::set(saved);
        Err(MapError::OutOfMemory)
    }
}

/// Drops the memory of a range and keeps its address space set aside, as after
/// [`reserve`]. Returns whether the system did it.
///
/// # Safety
///
/// The range belongs to the caller and nothing in it is used any more.
pub unsafe fn decommit(address: usize, length: usize) -> bool {
    // SAFETY: the caller gives the range up, so it may be replaced.
    unsafe {
        mmap(
            address,
            length,
            libc::PROT_NONE,
            PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED,
        )
    }
    .is_ok()
}

/// Drops the memory of a committed range, which then reads as zero. Returns
/// whether the system did it.
///
/// # Safety
///
/// The range belongs to the caller and its contents are not needed.
pub unsafe fn purge(address: usize, length: usize) -> bool {
    // SAFETY: the caller gives the contents up.
    unsafe { advise(address, length, libc::MADV_DONTNEED) }.is_ok()
}

/// Has the system put memory behind a range now, in one call, where it would otherwise do
/// so page by page as they are touched. Returns whether it did; if not (before Linux 5.14,
/// or for want of memory), nothing has changed.
///
/// # Safety
///
/// The range is committed and belongs to the caller.
pub unsafe fn populate(address: usize, length: usize) -> bool {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if REFUSED.load(Ordering::Relaxed) {
        return false;
    }
    // SAFETY: this writes to no page; it only sees to it that each is there.
    let outcome = unsafe { advise(address, length, libc::MADV_POPULATE_WRITE) };
    if let Err(libc::EINVAL | libc::EPERM | libc::ENOSYS) = outcome {
        // The system does not know the call, and will not learn it; or a sandbox forbids it.
        REFUSED.store(true, Ordering::Relaxed);
    }
    outcome.is_ok()
}

/// Bytes of a huge page: what the page tables of a system with 4 KiB pages can name at once.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// For whom the system makes huge pages: its setting of transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePageSetting {
    /// Nobody (`never`), or it has none.
    Never,
    /// Who asks (`madvise`).
    OnRequest,
    /// Everybody who does not object (`always`).
    Always,
}

/// The system's setting. Three system calls, one of which reads a file of the system's; not by the C
/// library's functions, which other preloaded libraries may have put theirs in place of.
pub fn huge_page_setting() -> HugePageSetting {
    const SETTING: &core::ffi::CStr = c"/sys/kernel/mm/transparent_hugepage/enabled";
    if cfg!(miri) {
        return HugePageSetting::Never;
    }
    let mut text = [0_u8; 64];
    let read = crate::errno::preserved(|| {
        // SAFETY: the path is a C string; what is read fits the buffer.
        unsafe {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC;
            let file = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, SETTING.as_ptr(), flags);
            if file < 0 {
                return 0;
            }
            let read = libc::syscall(libc::SYS_read, file, text.as_mut_ptr(), text.len());
            libc::syscall(libc::SYS_close, file);
            read
        }
    });
    let text = text
        .get(..usize::try_from(read).unwrap_or(0))
        .unwrap_or(&[]);
    let is_chosen = |choice: &[u8]| text.windows(choice.len()).any(|word| word == choice);
    if is_chosen(b"[always]") {
        HugePageSetting::Always
    } else if is_chosen(b"[madvise]") {
        HugePageSetting::OnRequest
    } else {
        HugePageSetting::Never
    }
}

/// Whether huge pages have [`HUGE_PAGE_BYTES`], and a write after a fork does not copy all of
/// one, as it does before Linux 5.8. One system call.
pub fn has_usable_huge_pages() -> bool {
    page_size() == 4096 && is_linux_since(5, 8)
}

/// Whether the system is Linux of this version or a later one.
fn is_linux_since(major: u32, minor: u32) -> bool {
    let mut names = core::mem::MaybeUninit::<libc::utsname>::zeroed();
    let outcome = crate::errno::preserved(|| {
        // SAFETY: a valid place for the names.
        unsafe { libc::syscall(libc::SYS_uname, names.as_mut_ptr()) }
    });
    // SAFETY: zeros are valid names, and the system has written strings over them.
    let release = unsafe { names.assume_init() }.release;
    outcome == 0 && version_of(release.iter().map(|byte| byte.to_ne_bytes()[0])) >= (major, minor)
}

/// The first two numbers of a release, such as `6.1.0-13-amd64`.
fn version_of(release: impl Iterator<Item = u8>) -> (u32, u32) {
    let mut numbers = [0_u32; 2];
    let mut place = 0;
    for byte in release {
        match byte {
            b'0'..=b'9' => {
                numbers[place] = numbers[place]
                    .saturating_mul(10)
                    .saturating_add(u32::from(byte - b'0'));
            }
            b'.' if place == 0 => place = 1,
            _ => break,
        }
    }
    (numbers[0], numbers[1])
}

/// Lets the system put huge pages behind this range when it is touched, or forbids it, also
/// for what the system does by itself later. Huge pages that are there stay. Returns whether
/// it did: not if the system knows no huge pages, or some of the range is not mapped.
///
/// # Safety
///
/// The range is committed and belongs to the caller.
pub unsafe fn let_be_huge(address: usize, length: usize, allowed: bool) -> bool {
    let advice = if allowed {
        libc::MADV_HUGEPAGE
    } else {
        libc::MADV_NOHUGEPAGE
    };
    // SAFETY: this changes no contents.
    unsafe { advise(address, length, advice) }.is_ok()
}

/// `madvise`, with its error as the result.
///
/// # Safety
///
/// What the advice does to the range is the caller's to decide.
unsafe fn advise(address: usize, length: usize, advice: i32) -> Result<(), i32> {
    let saved = crate::errno::get();
    let start = ptr::with_exposed_provenance_mut(address);
    // SAFETY: passed on.
    let outcome = unsafe { system::madvise(start, length, advice) };
    let why = crate::errno::get();
    crate::errno::set(saved);
    if outcome == 0 { Ok(()) } else { Err(why) }
}

/// Gives a mapping, or a part of one, back to the system. Returns whether that was done: not if
/// it would leave the process with too many mappings.
///
/// # Safety
///
/// The range belongs to the caller and nothing in it is used any more.
pub unsafe fn unmap(address: usize, length: usize) -> bool {
    #[cfg(feature = "fault-injection")]
    if fault::keeps_mappings() {
        return false;
    }
    crate::errno::preserved(|| {
        // SAFETY: the caller gives the range up.
        unsafe { system::munmap(ptr::with_exposed_provenance_mut(address), length) == 0 }
    })
}

/// Moves the pages of `[from, from + length)`, without copying, to a new mapping of `new` bytes,
/// at least as many, wherever the system likes. What is left at `from` stays mapped and reads as
/// zero. Returns where they are now, or `None` with everything as it was: if there is no memory,
/// before Linux 5.7, where the range is not one mapping to the kernel, and where it is locked in
/// memory: what is left would not be, nor what lies beside it in the same mapping.
///
/// # Safety
///
/// The range is mapped readable and writable, and the caller its only user.
pub unsafe fn move_out(from: usize, length: usize, new: usize) -> Option<usize> {
    debug_assert!(new >= length);
    if injected_failure() {
        return None;
    }
    // SAFETY: the range is the caller's.
    if unsafe { is_locked(from, length) } || are_new_mappings_locked()? {
        return None;
    }
    if new > length {
        // Room for all of it is what the two steps below need together. Once the pages have
        // moved, the way back is to copy them, and those that were never touched with them.
        // SAFETY: the mapping is nobody else's.
        unsafe { unmap(map(new)?, new) };
    }
    let start = ptr::with_exposed_provenance_mut::<libc::c_void>(from);
    let saved = crate::errno::get();
    // Not to a place of our choice: a kernel that then refuses has unmapped what was there.
    // SAFETY: the range is the caller's; the new place is one where nothing is.
    let moved = unsafe {
        system::mremap(
            start,
            length,
            length,
            libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP,
            ptr::null_mut::<libc::c_void>(),
        )
    };
    if moved == libc::MAP_FAILED {
        crate::errno::set(saved);
        return None;
    }
    let moved_to = moved.expose_provenance();
    if new == length {
        return Some(moved_to);
    }
    // SAFETY: the mapping was made just now.
    let grown = unsafe { resize(moved_to, length, new) };
    if grown.is_none() {
        // SAFETY: both are mapped, and nobody else uses them.
        unsafe {
            ptr::copy_nonoverlapping(moved.cast::<u8>(), start.cast::<u8>(), length);
            if !unmap(moved_to, length) {
                // Addresses are lost, and no memory.
                purge(moved_to, length);
            }
        }
    }
    grown
}

/// Whether a range of the caller's, one mapping to the kernel, is locked in memory.
///
/// # Safety
///
/// The range is mapped, and the caller's.
unsafe fn is_locked(address: usize, length: usize) -> bool {
    // A whole huge page where there may be one, so that it need not be split.
    let huge = address.next_multiple_of(HUGE_PAGE_BYTES);
    let (address, length) = if huge + HUGE_PAGE_BYTES <= address + length {
        (huge, HUGE_PAGE_BYTES)
    } else {
        (address, page_size())
    };
    // SAFETY: the advice concerns when the pages may be swapped out. Locked ones are refused.
    unsafe { advise(address, length, libc::MADV_COLD) == Err(libc::EINVAL) }
}

/// Whether what is mapped from now on is locked in memory (`MCL_FUTURE`), and so there as a whole
/// at once. `None` if there is no memory.
fn are_new_mappings_locked() -> Option<bool> {
    let page = map(page_size())?;
    // SAFETY: the mapping is nobody else's.
    unsafe {
        let is_locked = is_locked(page, page_size());
        unmap(page, page_size());
        Some(is_locked)
    }
}

/// Grows or shrinks a whole mapping made by [`map`] or [`move_out`], moving it where it cannot
/// stay. Returns its address, or `None` with the mapping unchanged.
///
/// # Safety
///
/// `[address, address + old)` is a mapping of the caller's; after success only
/// the returned address is valid.
pub unsafe fn resize(address: usize, old: usize, new: usize) -> Option<usize> {
    if new > old && injected_failure() {
        return None;
    }
    let saved = crate::errno::get();
    // SAFETY: the mapping is the caller's.
    let moved = unsafe {
        system::mremap(
            ptr::with_exposed_provenance_mut(address),
            old,
            new,
            libc::MREMAP_MAYMOVE,
        )
    };
    if moved == libc::MAP_FAILED {
        crate::errno::set(saved);
        None
    } else {
        Some(moved.expose_provenance())
    }
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn releases_are_compared_by_their_first_two_numbers() {
        for (release, version) in [
            ("6.1.0-13-amd64", (6, 1)),
            ("5.10.0", (5, 10)),
            ("5.8", (5, 8)),
            ("4.18.0-553.el8.x86_64", (4, 18)),
            ("7", (7, 0)),
            ("99999999999.1", (u32::MAX, 1)),
            ("", (0, 0)),
            ("unknown", (0, 0)),
        ] {
            assert_eq!(version_of(release.bytes()), version, "{release}");
        }
        assert!((5, 10) > (5, 8) && (4, 18) < (5, 8));
    }
}
