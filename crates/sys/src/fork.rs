//! Hooks around `fork`.

/// Registers functions to run before a fork, and after it in the parent and in
/// the child. Returns whether the system had room for them.
///
/// The system may allocate here, so the caller's heap must already be usable.
///
/// # Safety
///
/// From now on the functions may be called around every fork, on the thread that forks.
pub unsafe fn register(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) -> bool {
    // SAFETY: the functions live as long as the program.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) == 0 }
}

/// Which process this is: not that of the memory, in the child of a `vfork`. A system call.
pub fn process() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }
}

/// The address of a symbol of the C library, null where nothing defines it. Asking the loader for it
/// instead would enter the loader at a program's first allocation.
#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(miri, loom))
))]
macro_rules! weak {
    ($symbol:literal) => {{
        let address: *const u8;
        // SAFETY: reads an entry of the table that the loader has filled.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("mov {address}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                address = out(reg) address,
                options(nostack, preserves_flags, readonly, pure),
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("adrp {address}, :got:", $symbol),
                concat!("ldr {address}, [{address}, :got_lo12:", $symbol, "]"),
                address = out(reg) address,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        address
    }};
}

/// Elsewhere nothing is known of the C library's own.
#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(miri, loom))
)))]
macro_rules! weak {
    ($symbol:literal) => {
        core::ptr::null::<u8>()
    };
}

/// Calls a function without arguments of the C library, if there is one at the address.
///
/// # Safety
///
/// The address is null, or that of a function that may be called here.
unsafe fn call(function: *const u8) -> bool {
    if function.is_null() {
        return false;
    }
    // SAFETY: passed on.
    unsafe { core::mem::transmute::<*const u8, unsafe extern "C" fn()>(function)() };
    true
}

/// Takes the C library's lock of all streams, where it has one (glibc); to be called in the hook that
/// runs before a fork, ahead of locks that a stream may wait for while its holder has that one: who flushes all
/// streams calls a program's functions, which allocate. The C library takes it after all
/// hooks, and leaves it before those in the parent; a thread may take it again. Returns whether it did.
///
/// # Safety
///
/// The calling thread is about to fork, and [leaves](release_streams) it afterwards.
#[must_use = "in the parent it is to be left"]
pub unsafe fn hold_streams() -> bool {
    let lock = weak!("_IO_list_lock");
    // SAFETY: the C library has it for those who fork.
    unsafe { call(lock) }
}

/// Leaves what [`hold_streams`] has taken, in the parent.
///
/// # Safety
///
/// The calling thread has taken it, and returned from `fork` since.
pub unsafe fn release_streams() {
    let unlock = weak!("_IO_list_unlock");
    // SAFETY: passed on.
    unsafe { call(unlock) };
}

/// Makes that lock free in the child of a fork, whoever had it, as the C library does itself where it takes
/// the parent for one of several threads.
///
/// # Safety
///
/// The process is such a child, and has no other thread yet.
pub unsafe fn reset_streams() {
    let reset = weak!("_IO_list_resetlock");
    // SAFETY: passed on.
    unsafe { call(reset) };
}

/// Whether the calling thread is known to be the only one of the process: who forks then has
/// nobody to wait for, and may be a signal handler that has interrupted the holder of a lock.
/// glibc has said so since 2.32; elsewhere, and where another thread has ended, the answer may
/// be `false` though the thread is alone.
#[inline]
pub fn is_single_threaded() -> bool {
    single_threaded() == Some(true)
}

/// Whether the process has had more than one thread, as far as the C library says: glibc does not take it back when
/// the others have ended, nor in the child of a fork.
pub fn is_multi_threaded() -> bool {
    single_threaded() == Some(false)
}

fn single_threaded() -> Option<bool> {
    let flag = weak!("__libc_single_threaded");
    // SAFETY: the C library changes it when the first thread is created, which this thread does.
    (!flag.is_null()).then(|| unsafe { flag.read_volatile() } != 0)
}
