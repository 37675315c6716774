//! The environment that a program was started with, read without its own `getenv`.

use crate::vm;
use core::ffi::{CStr, c_char};

/// Shows `look` the name and the value of each variable whose name begins with `prefix`, in their order: of
/// none in a program that runs with more rights than whoever started it, and wrote its environment.
///
/// What it is shown cannot be kept, because a later change of the environment may free it:
///
/// ```compile_fail
/// let mut kept = None;
/// unsafe { hakmem_sys::environment::visit(b"PATH", |name, value| kept = Some(value)) };
/// ```
///
/// # Safety
///
/// Nobody changes the environment meanwhile: no other thread, and not `look`.
pub unsafe fn visit(prefix: &[u8], mut look: impl FnMut(&[u8], &[u8])) {
    unsafe extern "C" {
        // Not `environ`, which a program may have for itself. (Miri has no other.)
        #[cfg_attr(all(target_os = "linux", not(miri)), link_name = "__environ")]
        static mut environ: *const *const c_char;
    }
    if vm::auxiliary(libc::AT_SECURE) != 0 {
        return;
    }
    // Not by `getenv`: a program may have one of its own, which allocates.
    // SAFETY: an array of C strings, null at its end, or null itself before the C library has set it.
    // All of it stays where it is as long as nobody changes it.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let setting = CStr::from_ptr(*entry).to_bytes();
            entry = entry.add(1);
            if !setting.starts_with(prefix) {
                continue;
            }
            if let Some(end) = setting.iter().position(|&byte| byte == b'=') {
                look(&setting[..end], &setting[end + 1..]);
            }
        }
    }
}
