//! Pointers that are not hakmem's.
//!
//! They may come from the allocator that this library stands in front of: a
//! block from before it was loaded, or from a library that does not see it. So
//! they are passed to the function of the same name in the next library of the
//! search order, which is found when this one starts, or at its first use. A pointer that no allocator
//! can have returned, because it points into the calling thread's stack or into
//! a loaded program or library, or where there is no memory, is refused with a message instead.

use core::ffi::{CStr, c_char, c_void};
use core::marker::PhantomData;
use core::mem::{MaybeUninit, transmute};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use hakmem_alloc::c::Foreign;
use hakmem_sys::{errno, report, vm};

/// The function a program called, as messages call it.
pub trait Called {
    /// Its name, without parentheses.
    const NAME: &'static str;
}

macro_rules! called {
    ($($name:ident $text:literal)*) => {$(
        #[doc = concat!("`", $text, "`.")]
        pub enum $name {}

        impl Called for $name {
            const NAME: &'static str = $text;
        }
    )*};
}

called! {
    Free "free"
    Realloc "realloc"
    UsableSize "malloc_usable_size"
    OperatorDelete "operator delete"
}

/// Passes what is not hakmem's on to the next allocator, for calls of `C`.
pub struct Chain<C: Called>(PhantomData<C>);

impl<C: Called> Foreign for Chain<C> {
    #[cold]
    unsafe fn free(ptr: *mut u8) {
        // SAFETY: the caller's contract is `free`'s.
        unsafe { pass_free(C::NAME, ptr) }
    }

    #[cold]
    unsafe fn realloc(ptr: *mut u8, size: usize) -> *mut u8 {
        // SAFETY: the caller's contract is `realloc`'s.
        unsafe { pass_realloc(C::NAME, ptr, size) }
    }

    #[cold]
    unsafe fn usable_size(ptr: *mut u8) -> usize {
        // SAFETY: the caller's contract is `malloc_usable_size`'s.
        unsafe { pass_usable_size(C::NAME, ptr) }
    }
}

/// Looks the functions up that blocks are passed to, before they are needed: the loader's lock may
/// be held then by somebody who waits for whoever needs them.
pub fn look_up() {
    let nexts = [&FREE, &REALLOC, &USABLE_SIZE, &FIND_IMAGE];
    let found = nexts.map(|next| next.find().is_some());
    if found.contains(&false) {
        // What is not there is no error that the program is to find.
        // SAFETY: the text that it returns is not used.
        unsafe { libc::dlerror() };
    }
}

static FREE: Next = Next::new(c"free");
static REALLOC: Next = Next::new(c"realloc");
static USABLE_SIZE: Next = Next::new(c"malloc_usable_size");
/// Of glibc from 2.35 on. Found by its name, because a library that refers to it, be it as weak as can
/// be, is not loaded where there is an older one.
static FIND_IMAGE: Next = Next::new(c"_dl_find_object");

#[inline(never)]
unsafe fn pass_free(called: &str, ptr: *mut u8) {
    let next = next_for(&FREE, called, ptr);
    errno::preserved(|| {
        // SAFETY: `next` is a `free`, and the program says `ptr` may be freed.
        unsafe { transmute::<*mut c_void, unsafe extern "C" fn(*mut u8)>(next)(ptr) }
    });
}

#[inline(never)]
unsafe fn pass_realloc(called: &str, ptr: *mut u8, size: usize) -> *mut u8 {
    type Realloc = unsafe extern "C" fn(*mut u8, usize) -> *mut u8;
    let next = next_for(&REALLOC, called, ptr);
    // SAFETY: `next` is a `realloc`, and the program says `ptr` may be given to it.
    unsafe { transmute::<*mut c_void, Realloc>(next)(ptr, size) }
}

#[inline(never)]
unsafe fn pass_usable_size(called: &str, ptr: *mut u8) -> usize {
    type UsableSize = unsafe extern "C" fn(*mut u8) -> usize;
    let next = next_for(&USABLE_SIZE, called, ptr);
    // SAFETY: `next` is a `malloc_usable_size`, and the program says `ptr` is a block.
    unsafe { transmute::<*mut c_void, UsableSize>(next)(ptr) }
}

/// The next allocator's function for `ptr`, after checking that `ptr` can be a
/// block of some allocator at all. Leaves `errno` alone.
fn next_for(next: &'static Next, called: &str, ptr: *mut u8) -> *mut c_void {
    errno::preserved(|| {
        refuse_what_was_never_allocated(called, ptr);
        next.find().unwrap_or_else(|| {
            report::fatal(format_args!(
                "{called}({ptr:p}): not a block of hakmem, and no other allocator is loaded that \
                 could have returned it"
            ))
        })
    })
}

/// A function of the libraries that come after this one in the search order.
pub struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    /// The function `name`, not looked up yet.
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(null_mut()),
        }
    }

    /// Its address, looked up at the first call. The loader may allocate
    /// meanwhile; that is an ordinary call to this library.
    #[cold]
    pub fn find(&self) -> Option<*mut c_void> {
        if let Some(known) = self.known() {
            return Some(known);
        }
        // SAFETY: the name is a C string. The loader takes the library that
        // calls as the one to search behind, so this call must stay in this
        // one; storing the result keeps it from becoming a tail call.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        (!found.is_null()).then_some(found)
    }

    /// Its address, if it has been found.
    fn known(&self) -> Option<*mut c_void> {
        // Relaxed: the address is all there is; what it points at was mapped
        // by the loader before `dlsym` returned it to whichever thread stored it.
        let known = self.found.load(Ordering::Relaxed);
        (!known.is_null()).then_some(known)
    }

    /// As [`find`](Self::find), and where that finds nothing, in the first of
    /// `libraries` that is loaded: one opened by `dlopen` for itself is not in
    /// the search order.
    #[cold]
    pub fn find_also_in(&self, libraries: &[&CStr]) -> Option<*mut c_void> {
        self.find().or_else(|| {
            libraries.iter().find_map(|library| {
                let mode = libc::RTLD_LAZY | libc::RTLD_NOLOAD;
                // SAFETY: the name is a C string. The handle is kept, and with
                // it the library, as its function's address is kept.
                let handle = unsafe { libc::dlopen(library.as_ptr(), mode) };
                if handle.is_null() {
                    return None;
                }
                // SAFETY: the handle was just opened; the name is a C string.
                let found = unsafe { libc::dlsym(handle, self.name.as_ptr()) };
                self.found.store(found, Ordering::Relaxed);
                (!found.is_null()).then_some(found)
            })
        })
    }
}

/// Ends the process with a message when `ptr` is on the calling thread's stack
/// or in the image of a loaded program or library, or nothing is there.
fn refuse_what_was_never_allocated(called: &str, ptr: *mut u8) {
    let here = (&raw const ptr).addr();
    if !vm::is_readable(ptr.addr()) && vm::is_readable(here) {
        report::fatal(format_args!(
            "{called}({ptr:p}): there is no memory; freed before, or never allocated"
        ));
    }
    let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
    // `dladdr` takes the loader's lock, which is held while a constructor runs that may be waiting
    // for this thread.
    if may_be_in_an_image(ptr)
        // SAFETY: `found` is writable; any address may be asked about.
        && unsafe { libc::dladdr(ptr.cast(), found.as_mut_ptr()) } != 0
    {
        // SAFETY: `dladdr` found the object and filled it in.
        let found = unsafe { found.assume_init() };
        // SAFETY: both are null or names kept by the loader.
        let (file, symbol) = unsafe { (text(found.dli_fname), text(found.dli_sname)) };
        if symbol.is_empty() {
            report::fatal(format_args!(
                "{called}({ptr:p}): pointer into the image of {file}; it was not allocated"
            ));
        }
        report::fatal(format_args!(
            "{called}({ptr:p}): pointer to {symbol} in the image of {file}; it was not allocated"
        ));
    }
    if is_on_this_stack(ptr.addr()) {
        report::fatal(format_args!(
            "{called}({ptr:p}): pointer into the stack of the calling thread; it was not allocated"
        ));
    }
}

/// Whether a pointer may point into a loaded program or library. Waits for nobody, where the C library
/// can say so; elsewhere any may.
fn may_be_in_an_image(ptr: *mut u8) -> bool {
    /// What the C library tells of an image: `struct dl_find_object` has some twelve words.
    type Found = MaybeUninit<[usize; 32]>;

    FIND_IMAGE.known().is_none_or(|find| {
        let mut found = Found::uninit();
        // SAFETY: the function is of this type, may be asked about any address, and writes no more.
        unsafe {
            let find = transmute::<
                *mut c_void,
                unsafe extern "C" fn(*mut u8, *mut Found) -> core::ffi::c_int,
            >(find);
            find(ptr, &raw mut found) == 0
        }
    })
}

/// The C string as text, empty when null or not UTF-8.
unsafe fn text<'a>(string: *const c_char) -> &'a str {
    if string.is_null() {
        return "";
    }
    // SAFETY: not null, and the caller says it is a C string.
    unsafe { CStr::from_ptr(string) }.to_str().unwrap_or("")
}

/// Whether `address` is on the calling thread's stack, or was until a function
/// returned a moment ago.
fn is_on_this_stack(address: usize) -> bool {
    // SAFETY: both calls only read the caller's identity.
    if unsafe { libc::getpid() == libc::gettid() } {
        is_on_main_stack(address)
    } else {
        stack().is_some_and(|(lowest, length)| address.wrapping_sub(lowest) < length)
    }
}

/// [`is_on_this_stack`] for the main thread, whose arguments and environment
/// count as its stack.
fn is_on_main_stack(address: usize) -> bool {
    /// How far below the current frame a frame may have been that just ended.
    const ENDED_FRAMES: usize = 64 << 10;
    /// The most that arguments and environment can take (Linux: three quarters of 8 MiB).
    const ARGUMENTS: usize = 6 << 20;

    // Finding the lower end means reading `/proc/self/maps`. The upper one is
    // at hand, the kernel puts the program's name there: most pointers are not
    // between it and here, and need no closer look.
    let here = (&raw const address).addr();
    // SAFETY: reads the auxiliary vector.
    let top = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    (here.saturating_sub(ENDED_FRAMES)..top).contains(&address)
        && stack().is_some_and(|(lowest, length)| {
            // In the child of a thread's fork this is the main thread, and on that thread's stack,
            // far below the program's name and what else may lie there.
            let is_topmost = top.saturating_sub(lowest + length) <= ARGUMENTS;
            address >= lowest && (is_topmost || address - lowest < length)
        })
}

/// The calling thread's stack as libc knows it: lowest address and length.
fn stack() -> Option<(usize, usize)> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: `attributes` is writable; a call that returns 0 has initialised it.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut lowest, mut length) = (null_mut::<c_void>(), 0);
    // SAFETY: initialised above, and destroyed once.
    unsafe {
        libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut length);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
    }
    Some((lowest.addr(), length))
}
