//! The program or library that this code is part of.

use core::sync::atomic::{AtomicUsize, Ordering};

static THREAD_LOCAL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the thread-local variables of the program and its libraries, as many of these as had been loaded
/// when [`stay_loaded`] was called: for such the C library (glibc) takes a part of each thread's stack.
/// Zero where that does not look at them.
pub fn thread_local_bytes() -> usize {
    THREAD_LOCAL_BYTES.load(Ordering::Relaxed)
}

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
    use core::sync::atomic::Ordering;

    /// What is found out of all that is loaded.
    struct Found {
        /// What this code is part of, if that can be unloaded.
        name: *const c_char,
        thread_local_bytes: usize,
    }

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
        let mut found = Found {
            name: ptr::null(),
            thread_local_bytes: 0,
        };
        // `dladdr` would tell the name, too, but looks for a symbol first, and so brings the
        // program's symbol table into memory.
        // SAFETY: the function is called with the loader's records, and the place of what is found.
        // The name stays as it is while code of the library runs; the handle is kept, and so is
        // what it stands for.
        unsafe {
            libc::dl_iterate_phdr(Some(look), (&raw mut found).cast());
            if !found.name.is_null() {
                let mode = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(found.name, mode);
            }
        }
        super::THREAD_LOCAL_BYTES.store(found.thread_local_bytes, Ordering::Relaxed);
    }

    /// Looks at one of what is loaded.
    ///
    /// # Safety
    ///
    /// Called by the loader with a record of its own, and with the place of what is found.
    unsafe extern "C" fn look(
        image: *mut libc::dl_phdr_info,
        _size: usize,
        found: *mut c_void,
    ) -> c_int {
        let found = found.cast::<Found>();
        // SAFETY: the loader's record of something loaded: its base, its name, and its program
        // headers, which say where its parts are.
        unsafe {
            let base = (*image).dlpi_addr as usize;
            let headers =
                core::slice::from_raw_parts((*image).dlpi_phdr, usize::from((*image).dlpi_phnum));
            let thread_local = headers
                .iter()
                .filter(|header| header.p_type == libc::PT_TLS)
                .map(|header| (header.p_memsz + header.p_align) as usize);
            (*found).thread_local_bytes += thread_local.sum::<usize>();
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
                (*found).name = (*image).dlpi_name;
            }
        }
        0
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
