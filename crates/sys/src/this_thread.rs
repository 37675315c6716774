//! Which thread this is.

/// What every [`id`] is a multiple of.
pub(crate) const ALIGN: usize = 8;

/// A number that no other thread of the process has as long as this one lives, not zero: where
/// the C library keeps what it knows of the thread. One instruction, no call. Who forks keeps it
/// in the child.
#[inline(always)]
pub fn id() -> usize {
    #[cfg(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(any(loom, miri))
    ))]
    {
        let id: usize;
        // SAFETY: reads the thread pointer. On x86-64 the word that it points to holds the same
        // address (System V ABI, "Thread-Local Storage").
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) id,
                options(pure, readonly, nostack, preserves_flags));
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!("mrs {}, tpidr_el0", out(reg) id,
                options(pure, nomem, nostack, preserves_flags));
        }
        id
    }
    #[cfg(not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(any(loom, miri))
    )))]
    {
        extern crate std;

        #[repr(align(8))]
        struct Here(#[expect(dead_code, reason = "a place is not nothing")] u8);
        const _: () = assert!(align_of::<Here>() >= ALIGN);

        #[cfg(not(loom))]
        std::thread_local! {
            static HERE: Here = const { Here(0) };
        }
        // All threads of a model are one to the system.
        #[cfg(loom)]
        loom::thread_local! {
            static HERE: std::boxed::Box<Here> = std::boxed::Box::new(Here(0));
        }
        HERE.with(|here| core::ptr::from_ref::<Here>(here).addr())
    }
}
