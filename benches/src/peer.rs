//! The global allocator of this build, chosen by a cargo feature.

use cfg_if::cfg_if;

cfg_if! {
    if #[cfg(feature = "hakmem")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "hakmem";
        type Chosen = hakmem_alloc::Hakmem;
        const CHOSEN: Chosen = hakmem_alloc::Hakmem::new();
    } else if #[cfg(feature = "mimalloc2")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "mimalloc2";
        type Chosen = mimalloc::MiMalloc;
        const CHOSEN: Chosen = mimalloc::MiMalloc;
    } else if #[cfg(feature = "mimalloc3")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "mimalloc3";
        type Chosen = mimalloc::MiMalloc;
        const CHOSEN: Chosen = mimalloc::MiMalloc;
    } else if #[cfg(feature = "jemalloc")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "jemalloc";
        type Chosen = tikv_jemallocator::Jemalloc;
        const CHOSEN: Chosen = tikv_jemallocator::Jemalloc;
    } else if #[cfg(feature = "snmalloc")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "snmalloc";
        type Chosen = snmalloc_rs::SnMalloc;
        const CHOSEN: Chosen = snmalloc_rs::SnMalloc;
    } else if #[cfg(feature = "rpmalloc")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "rpmalloc";
        type Chosen = rpmalloc::RpMalloc;
        const CHOSEN: Chosen = rpmalloc::RpMalloc;
    } else if #[cfg(feature = "tcmalloc")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "tcmalloc";
        type Chosen = tcmalloc_better::TCMalloc;
        const CHOSEN: Chosen = tcmalloc_better::TCMalloc;
    } else if #[cfg(feature = "stoolap")] {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "stoolap";
        type Chosen = stoolap_jemalloc::Jemalloc;
        const CHOSEN: Chosen = stoolap_jemalloc::Jemalloc::new();
    } else {
        /// The peer's name, as `cargo xtask bench --peers` spells it.
        pub const NAME: &str = "system";
        type Chosen = std::alloc::System;
        const CHOSEN: Chosen = std::alloc::System;
    }
}

cfg_if! {
    if #[cfg(feature = "slow-free")] {
        #[global_allocator]
        static GLOBAL: slowed::Slowed<Chosen> = slowed::Slowed(CHOSEN);
    } else {
        #[global_allocator]
        static GLOBAL: Chosen = CHOSEN;
    }
}

/// The name, and that the allocator is slowed where it is.
pub fn name() -> String {
    format!(
        "{NAME}{}",
        if cfg!(feature = "slow-free") {
            "-slow"
        } else {
            ""
        }
    )
}

/// Peer, and where the library can be asked, its own version: `name version`.
pub fn describe() -> String {
    format!("{} {}", name(), version())
}

cfg_if! {
    if #[cfg(all(
        any(feature = "mimalloc2", feature = "mimalloc3"),
        not(feature = "hakmem")
    ))] {
        fn version() -> String {
            unsafe extern "C" {
                fn mi_version() -> core::ffi::c_int;
            }
            // SAFETY: part of mimalloc's public interface, linked with it; takes
            // nothing and returns a constant.
            let number = unsafe { mi_version() };
            // Three digits up to 2.2 and 3.1, five since: major, minor and patch in two each.
            if number >= 10_000 {
                format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
            } else {
                format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10)
            }
        }
    } else if #[cfg(all(target_env = "gnu", not(any(
        feature = "hakmem", feature = "jemalloc", feature = "snmalloc", feature = "rpmalloc",
        feature = "tcmalloc", feature = "stoolap"
    ))))] {
        fn version() -> String {
            // SAFETY: returns a pointer to a constant string that glibc owns.
            let text = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
            format!("glibc {}", text.to_string_lossy())
        }
    } else {
        fn version() -> String {
            String::new()
        }
    }
}

#[cfg(feature = "slow-free")]
mod slowed {
    use std::alloc::{GlobalAlloc, Layout};

    use crate::tick;

    /// An allocator made slower on purpose: every free spins for 20 ns.
    pub struct Slowed<A>(pub A);

    // SAFETY: every call is passed on unchanged; spinning does not allocate.
    unsafe impl<A: GlobalAlloc> GlobalAlloc for Slowed<A> {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's contract is the inner allocator's.
            unsafe { self.0.alloc(layout) }
        }
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            unsafe { self.0.alloc_zeroed(layout) }
        }
        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: as above.
            unsafe { self.0.realloc(ptr, layout, size) }
        }
        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            tick::spin_twenty_nanoseconds();
            // SAFETY: as above.
            unsafe { self.0.dealloc(ptr, layout) }
        }
    }
}
