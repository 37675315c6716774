//! A helper thread of the allocator's own, and what it needs.

use crate::vm;
use core::ffi::{CStr, c_void};
use core::mem::MaybeUninit;
use core::ptr;

/// Bytes of stack of a helper thread.
const STACK_BYTES: usize = 128 * 1024;

/// Starts a detached thread that runs `run` with a null argument and takes no
/// signals. Returns whether it could be started.
///
/// The system allocates for it, so the caller must hold none of its own locks. A library that may
/// be unloaded meanwhile has to see to it that [it is not](crate::image::stay_loaded).
pub fn spawn(run: extern "C" fn(*mut c_void) -> *mut c_void) -> bool {
    crate::errno::preserved(|| {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        // SAFETY: each object is initialised by the first call it is given to;
        // the thread inherits the blocked signals, and the caller's mask is put
        // back.
        unsafe {
            if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
                return false;
            }
            libc::pthread_attr_setdetachstate(
                attributes.as_mut_ptr(),
                libc::PTHREAD_CREATE_DETACHED,
            );
            // Programs with much static TLS need a larger stack; then the
            // default stays.
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK_BYTES);
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            let mut failed = libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                run,
                ptr::null_mut(),
            );
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            if failed != 0 {
                failed =
                    libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, ptr::null_mut());
                if failed == 0 {
                    libc::pthread_detach(thread.assume_init());
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
            failed == 0
        }
    })
}

/// Sleeps.
pub fn sleep_ms(milliseconds: u32) {
    let time = libc::timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    };
    // SAFETY: `time` is valid; being woken early does no harm.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// The value of an environment variable; none in a program that runs with more rights than
/// whoever started it, and wrote its environment.
pub fn environment(name: &CStr) -> Option<&'static [u8]> {
    if vm::auxiliary(libc::AT_SECURE) != 0 {
        return None;
    }
    // SAFETY: the name is a C string. The value stays where it is as long as the
    // program does not change its environment, which it must not do while other
    // threads read it.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            None
        } else {
            Some(CStr::from_ptr(value).to_bytes())
        }
    }
}
