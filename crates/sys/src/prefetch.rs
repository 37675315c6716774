//! A hint that memory will be used soon.

/// Has the processor bring the line of this address into its first-level cache, if it can, and
/// does not wait for it. Any address will do. Does nothing where stable Rust has no such
/// instruction (aarch64).
#[inline(always)]
pub fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the instruction reads nothing that a program could see, and does not fault.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
