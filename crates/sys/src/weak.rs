//! Symbols that the C library may or may not have.

/// The address of a symbol of the C library's, null where it has none of that name. Asking the loader
/// for it instead would enter the loader, which may wait, or be where the caller came from.
///
/// For Linux with glibc on x86-64 and aarch64, not under Miri or loom.
macro_rules! weak_address {
    ($name:literal) => {{
        let address: *const u8;
        // SAFETY: reads a word of the global offset table.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("mov {address}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                address = out(reg) address,
                options(nostack, preserves_flags, readonly, pure),
            );
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!(
                concat!(".weak ", $name),
                concat!("adrp {address}, :got:", $name),
                concat!("ldr {address}, [{address}, :got_lo12:", $name, "]"),
                address = out(reg) address,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        address
    }};
}

pub(crate) use weak_address;
