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
    use core::ffi::{c_char, c_void};
    use core::mem::MaybeUninit;
    use core::ptr;

    /// The beginning of the loader's `struct link_map`.
    #[repr(C)]
    struct LinkMap {
        offset: usize,
        /// Empty for the program itself.
        name: *const c_char,
        dynamic: *const Dynamic,
    }

    /// An entry of the dynamic section, whose last has a tag of zero.
    #[repr(C)]
    struct Dynamic {
        tag: usize,
        value: usize,
    }

    /// Has `dladdr1` say which library it is.
    const RTLD_DL_LINKMAP: libc::c_int = 2;
    /// The tag of the flags that a library is linked with, and the one that means `nodelete`.
    const DT_FLAGS_1: usize = 0x6fff_fffb;
    const DF_1_NODELETE: usize = 0x8;

    pub fn pin() {
        let mut symbol = MaybeUninit::<libc::Dl_info>::uninit();
        let mut map: *const LinkMap = ptr::null();
        // SAFETY: any address may be asked about, and this one is in the library; both places
        // can be written to. What is found stays as it is while code of the library runs.
        unsafe {
            let here: *const c_void = pin as fn() as *const c_void;
            let map_place = (&raw mut map).cast();
            if libc::dladdr1(here, symbol.as_mut_ptr(), map_place, RTLD_DL_LINKMAP) == 0
                || map.is_null()
                || (*map).name.is_null()
                || *(*map).name == 0
                || is_linked_nodelete((*map).dynamic)
            {
                return;
            }
            // The handle is kept, and so is what it stands for.
            let mode = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen((*map).name, mode);
        }
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
