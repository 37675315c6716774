//! The program or library that this code is part of.

/// Keeps the library that this code is part of where it is for as long as the process lives: a
/// `dlclose` of it succeeds and changes nothing. For code whose address the system was given, to
/// be called at the end of a thread for example. A program, and a library linked `nodelete`,
/// need no keeping, nor do the libraries of C libraries that never unload any (musl).
///
/// It enters the loader, which may allocate: the caller's heap must already be usable, and the
/// caller must hold none of its locks.
pub fn stay_loaded() {
    #[cfg(all(
        target_os = "linux",
        target_env = "gnu",
        not(any(miri, loom, target_feature = "crt-static"))
    ))]
    crate::errno::preserved(loader::pin);
}

#[cfg(all(
    target_os = "linux",
    target_env = "gnu",
    not(any(miri, loom, target_feature = "crt-static"))
))]
mod loader {
    use core::ffi::{c_char, c_int, c_void};
    use core::ptr;

    /// An entry of a dynamic section, whose last has a tag of zero.
    #[repr(C)]
    struct Dynamic {
        tag: usize,
        value: usize,
    }

    /// The tag of the flags that a library is linked with, and the one that means `nodelete`.
    const DT_FLAGS_1: usize = 0x6fff_fffb;
    const DF_1_NODELETE: usize = 0x8;

    pub fn pin() {
        let mut name: *const c_char = ptr::null();
        // `dladdr` would tell the name, too, but looks for a symbol first, and so brings the
        // program's symbol table into memory.
        // SAFETY: the function is called with the loader's records, and the place of the name.
        // The name stays as it is while code of the library runs; the handle is kept, and so is
        // what it stands for.
        unsafe {
            libc::dl_iterate_phdr(Some(find), (&raw mut name).cast());
            if !name.is_null() {
                let mode = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(name, mode);
            }
        }
    }

    /// Ends the search at what this code is part of, and says its name if that can be unloaded.
    ///
    /// # Safety
    ///
    /// Called by the loader with a record of its own, and with the place of the name.
    unsafe extern "C" fn find(
        image: *mut libc::dl_phdr_info,
        _size: usize,
        name: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader's record of something loaded: its base, its name, and its program
        // headers, which say where its parts are.
        unsafe {
            let base = (*image).dlpi_addr as usize;
            let headers =
                core::slice::from_raw_parts((*image).dlpi_phdr, usize::from((*image).dlpi_phnum));
            let here = pin as fn() as usize;
            let is_here = headers.iter().any(|header| {
                let start = base + header.p_vaddr as usize;
                header.p_type == libc::PT_LOAD
                    && (start..start + header.p_memsz as usize).contains(&here)
            });
            if !is_here {
                return 0;
            }
            let dynamic = headers
                .iter()
                .find(|header| header.p_type == libc::PT_DYNAMIC)
                .map_or(ptr::null(), |header| {
                    ptr::with_exposed_provenance(base + header.p_vaddr as usize)
                });
            // The program itself has no name.
            let is_program = (*image).dlpi_name.is_null() || *(*image).dlpi_name == 0;
            if !is_program && !is_linked_nodelete(dynamic) {
                name.cast::<*const c_char>().write((*image).dlpi_name);
            }
        }
        1
    }

    /// # Safety
    ///
    /// Null or the address of a dynamic section.
    unsafe fn is_linked_nodelete(mut entry: *const Dynamic) -> bool {
        // SAFETY: the section has an entry with a tag of zero, and none behind it is read.
        unsafe {
            while !entry.is_null() && (*entry).tag != 0 {
                if (*entry).tag == DT_FLAGS_1 {
                    return (*entry).value & DF_1_NODELETE != 0;
                }
                entry = entry.add(1);
            }
        }
        false
    }
}
