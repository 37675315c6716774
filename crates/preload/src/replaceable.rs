//! Functions that are defined by others, which a program may replace.

/// Defines functions that only call another with their first arguments: the program's, if it
/// has one. They jump to it through an entry of the global offset table that the loader fills
/// with the program's choice; `replaceable.list` tells the linker.
macro_rules! jump_to {
    ($($(#[$meta:meta])* $name:ident($($argument:ident),*) $(-> $result:ty)? => $base:ident;)*) => {$(
        $(#[$meta])*
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($argument: usize),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            ::core::arch::naked_asm!(
                concat!("jmp qword ptr [rip + ", stringify!($base), "@GOTPCREL]"),
            );
            #[cfg(target_arch = "aarch64")]
            ::core::arch::naked_asm!(
                concat!("adrp x16, :got:", stringify!($base)),
                concat!("ldr x16, [x16, :got_lo12:", stringify!($base), "]"),
                "br x16",
            );
        }
    )*};
}

/// As `jump_to!`, under the names that the program calls.
macro_rules! defined_by {
    ($(#[doc = $doc:literal] $name:ident($($argument:ident),*) $(-> $result:ty)? => $base:ident;)*) => {
        $crate::replaceable::jump_to! {$(
            #[doc = $doc]
            #[unsafe(no_mangle)]
            $name($($argument),*) $(-> $result)? => $base;
        )*}
    };
}

pub(crate) use {defined_by, jump_to};
