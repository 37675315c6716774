//! The thread slot: one pointer per thread, read in two instructions.

// Which of the two it is, is asked here: who uses the macro may not know of loom.

/// Makes a module `$name` with `get` and `set` for a pointer to `$ty` that
/// every thread has for itself and that starts as the address of the static
/// `$initial`.
///
/// On x86-64 and aarch64 Linux it is a symbol in `.tdata` read through its
/// initial-exec offset: two instructions, no call, no "is it initialised" test,
/// and only eight bytes of static TLS, so `dlopen` works. The symbol is hidden
/// and carries the name of the crate that uses the macro, its version, and `$name`: a
/// crate may have several slots, and two versions of it can live in one process.
/// Elsewhere, under Miri and under loom it is a `thread_local!` with a constant
/// initialiser.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(loom, miri))
))]
#[macro_export]
macro_rules! thread_slot {
    ($(#[$meta:meta])* $vis:vis mod $name:ident: *mut $ty:ty = &$initial:path) => {
        $(#[$meta])*
        $vis mod $name {
            use super::*;

            ::core::arch::global_asm!(
                ".pushsection .tdata.hakmem_thread_slot,\"awT\",@progbits",
                $crate::__thread_slot_symbol!(".globl ", $name, ""),
                $crate::__thread_slot_symbol!(".hidden ", $name, ""),
                $crate::__thread_slot_symbol!(".type ", $name, ",@object"),
                $crate::__thread_slot_symbol!(".size ", $name, ",8"),
                ".balign 8",
                $crate::__thread_slot_symbol!("", $name, ":"),
                ".quad {initial}",
                ".popsection",
                initial = sym $initial,
            );

            /// The calling thread's pointer.
            #[inline(always)]
            pub fn get() -> *mut $ty {
                let value: *mut $ty;
                #[cfg(target_arch = "x86_64")]
                // SAFETY: reads eight bytes of the calling thread's static TLS,
                // which exist for every thread of a program this is linked into.
                unsafe {
                    ::core::arch::asm!(
                        $crate::__thread_slot_symbol!("mov {0}, qword ptr [rip + ", $name, "@GOTTPOFF]"),
                        "mov {0}, qword ptr fs:[{0}]",
                        out(reg) value,
                        options(pure, readonly, nostack, preserves_flags)
                    );
                }
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as for x86-64.
                unsafe {
                    ::core::arch::asm!(
                        "mrs {0}, tpidr_el0",
                        $crate::__thread_slot_symbol!("adrp {1}, :gottprel:", $name, ""),
                        $crate::__thread_slot_symbol!("ldr {1}, [{1}, :gottprel_lo12:", $name, "]"),
                        "ldr {0}, [{0}, {1}]",
                        out(reg) value,
                        out(reg) _,
                        options(pure, readonly, nostack, preserves_flags)
                    );
                }
                value
            }

            /// Sets the calling thread's pointer.
            #[inline]
            pub fn set(value: *mut $ty) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: writes eight bytes of the calling thread's static TLS
                // that nothing else uses.
                unsafe {
                    ::core::arch::asm!(
                        $crate::__thread_slot_symbol!("mov {0}, qword ptr [rip + ", $name, "@GOTTPOFF]"),
                        "mov qword ptr fs:[{0}], {1}",
                        out(reg) _,
                        in(reg) value,
                        options(nostack, preserves_flags)
                    );
                }
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as for x86-64.
                unsafe {
                    ::core::arch::asm!(
                        "mrs {0}, tpidr_el0",
                        $crate::__thread_slot_symbol!("adrp {1}, :gottprel:", $name, ""),
                        $crate::__thread_slot_symbol!("ldr {1}, [{1}, :gottprel_lo12:", $name, "]"),
                        "str {2}, [{0}, {1}]",
                        out(reg) _,
                        out(reg) _,
                        in(reg) value,
                        options(nostack, preserves_flags)
                    );
                }
            }
        }
    };
}

/// The symbol of a slot, between two pieces of assembler.
#[doc(hidden)]
#[macro_export]
macro_rules! __thread_slot_symbol {
    ($before:literal, $name:ident, $after:literal) => {
        ::core::concat!(
            $before,
            "hakmem_thread_slot_",
            ::core::env!("CARGO_CRATE_NAME"),
            "_",
            // As a whole it may have characters that a symbol may not.
            ::core::env!("CARGO_PKG_VERSION_MAJOR"),
            ".",
            ::core::env!("CARGO_PKG_VERSION_MINOR"),
            ".",
            ::core::env!("CARGO_PKG_VERSION_PATCH"),
            "_",
            ::core::stringify!($name),
            $after
        )
    };
}

/// Makes a module `$name` with `get` and `set` for a pointer to `$ty` that every thread has
/// for itself and that starts as the address of the static `$initial`: a `thread_local!`
/// with a constant initialiser.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(loom, miri))
)))]
#[macro_export]
macro_rules! thread_slot {
    ($(#[$meta:meta])* $vis:vis mod $name:ident: *mut $ty:ty = &$initial:path) => {
        $(#[$meta])*
        $vis mod $name {
            use super::*;

            extern crate std;

            std::thread_local! {
                static SLOT: ::core::cell::Cell<*mut $ty> =
                    const { ::core::cell::Cell::new((&raw const $initial).cast_mut().cast()) };
            }

            /// The calling thread's pointer.
            #[inline(always)]
            pub fn get() -> *mut $ty {
                SLOT.with(::core::cell::Cell::get)
            }

            /// Sets the calling thread's pointer.
            #[inline]
            pub fn set(value: *mut $ty) {
                SLOT.with(|slot| slot.set(value));
            }
        }
    };
}
