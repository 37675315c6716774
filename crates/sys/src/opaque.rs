//! Addresses that the compiler computes before it uses them.

/// The same pointer, in a register of its own: the compiler does not see how it came about, and
/// so cannot compute it in each access anew.
///
/// Some processors pass a value that was stored on to the next load without waiting for a cache,
/// but only where both name its place by one register and a constant.
#[cfg_attr(
    not(any(miri, loom)),
    expect(
        clippy::pointers_in_nomem_asm_block,
        reason = "what it points to is not looked at"
    )
)]
#[inline(always)]
pub fn opaque<T>(pointer: *const T) -> *const T {
    #[cfg(not(any(miri, loom)))]
    let pointer = {
        let mut same = pointer;
        // SAFETY: there is no instruction in it.
        unsafe {
            core::arch::asm!(
                "/* {0} */",
                inout(reg) same,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        same
    };
    pointer
}
