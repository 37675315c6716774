//! A helper thread of the allocator's own, and what it needs.

use crate::{errno, fork, futex, image};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of stack of a helper thread, beside the [thread-local variables](image::thread_local_bytes) that the
/// C library puts there.
const STACK_BYTES: usize = 128 * 1024;

/// A multiple of the size of all pages there are.
const PAGES_BYTES: usize = 64 << 10;

/// The signals that the thread had blocked which started a helper last, as the system counts them.
static BLOCKED_BEFORE: AtomicU64 = AtomicU64::new(0);

/// How long a helper sleeps at most that cannot be woken.
const UNWOKEN_MS: u32 = 250;

/// What a helper thread runs. Returns whether the thread may be the last of the process then.
pub type Run = extern "C" fn() -> bool;

/// A thread's function, as the system calls it.
type Start = extern "C" fn(*mut c_void) -> *mut c_void;

/// Starts a thread that runs `run` and takes no signals. Returns whether it could be started.
///
/// The system allocates for it, so the caller must hold none of its own locks. A library that may
/// be unloaded meanwhile has to see to it that [it is not](crate::image::stay_loaded).
pub fn spawn(run: Run) -> bool {
    errno::preserved(|| {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let argument = run as *mut c_void;
        // SAFETY: each object is initialised by the first call it is given to;
        // the thread inherits the blocked signals, and the caller's mask is put
        // back.
        unsafe {
            if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
                return false;
            }
            // If that is too little, as the libraries have much of these, too, the default stays.
            let bytes = (STACK_BYTES + image::thread_local_bytes()).next_multiple_of(PAGES_BYTES);
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), bytes);
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            // The first word of a set has a bit for each signal there is.
            let blocked = before.as_ptr().cast::<u64>().read_unaligned();
            BLOCKED_BEFORE.store(blocked, Ordering::Relaxed);
            let started =
                create(attributes.as_ptr(), help, argument) || create(ptr::null(), help, argument);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
            started
        }
    })
}

/// Starts a thread, which has to detach itself unless it is joined.
///
/// # Safety
///
/// The attributes are null or initialised.
unsafe fn create(
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> bool {
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: passed on; the thread's number is written, and not used.
    unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, start, argument) == 0 }
}

/// A helper thread.
///
/// On the last thread of a process the C library calls `exit`, and with it what the program has
/// registered: that is to find a stack and signals as on the program's own threads. So a helper that may be
/// the last leaves that to another thread, which has these, and does nothing but to wait for the
/// helper's end. (Where the system refuses that one, the helper will do.)
extern "C" fn help(run: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` passes such a function.
    let run = unsafe { core::mem::transmute::<*mut c_void, Run>(run) };
    let may_be_last = run();
    // SAFETY: reads the caller's identity. Nobody else detaches this thread, nor joins it, but for
    // the one that is started here for that.
    unsafe {
        let this = libc::pthread_self();
        let argument = ptr::without_provenance_mut(this as usize);
        if !may_be_last || !create(ptr::null(), be_the_last, argument) {
            libc::pthread_detach(this);
        }
    }
    ptr::null_mut()
}

/// Ends as one of the program's threads, after the helper.
extern "C" fn be_the_last(helper: *mut c_void) -> *mut c_void {
    // SAFETY: zero bytes are a valid set, whose first word has a bit for each signal there is. The
    // helper is not detached, and joined once.
    unsafe {
        // Before another is started, perhaps.
        let before = BLOCKED_BEFORE.load(Ordering::Relaxed);
        let mut blocked: libc::sigset_t = core::mem::zeroed();
        (&raw mut blocked).cast::<u64>().write_unaligned(before);
        libc::pthread_join(helper.addr() as libc::pthread_t, ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, ptr::null_mut());
        libc::pthread_detach(libc::pthread_self());
    }
    ptr::null_mut()
}

/// Sleeps as long as the word has this value, until somebody [wakes](wake) who sleeps on it, or for so
/// many milliseconds.
pub fn sleep_on(word: &AtomicU32, value: u32, milliseconds: u32) {
    let at_most = libc::timespec {
        tv_sec: (milliseconds / 1000).into(),
        tv_nsec: (milliseconds % 1000 * 1_000_000).into(),
    };
    // SAFETY: the word outlives the call.
    if !unsafe { futex::wait(word.as_ptr(), value, &at_most) } {
        // A sandbox denies it, perhaps: nobody can wake it then.
        sleep_ms(milliseconds.min(UNWOKEN_MS));
    }
}

/// Wakes who sleeps on the word, which has another value by now.
pub fn wake(word: &AtomicU32) {
    futex::wake_one(word.as_ptr());
}

/// Whether the process's first thread, with which most end, has surely not ended: a few system calls. In
/// the child of a fork it is the one that forked.
pub fn is_first_thread_there() -> bool {
    futex::is_there(fork::process().cast_unsigned())
}

/// Sleeps.
pub fn sleep_ms(milliseconds: u32) {
    sleep(milliseconds / 1000, milliseconds % 1000 * 1_000_000);
}

/// Sleeps for less than a second.
pub(crate) fn sleep_us(microseconds: u32) {
    sleep(0, microseconds * 1000);
}

fn sleep(seconds: u32, nanoseconds: u32) {
    let time = libc::timespec {
        tv_sec: i64::from(seconds),
        tv_nsec: i64::from(nanoseconds),
    };
    let rest = ptr::null_mut::<libc::timespec>();
    // SAFETY: `time` is valid; being woken early does no harm.
    unsafe {
        if cfg!(miri) {
            libc::nanosleep(&raw const time, rest);
        } else {
            // As the C library calls it. Its function is a place where a thread is cancelled, and who
            // sleeps here may hold locks.
            let clock = libc::CLOCK_REALTIME;
            libc::syscall(libc::SYS_clock_nanosleep, clock, 0, &raw const time, rest);
        }
    }
}
