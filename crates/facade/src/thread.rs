//! The calling thread's heap: from its first call to its last.
//!
//! A thread starts on a closed front, `NEW`. Its first call takes the slow path,
//! which attaches a heap and arms the exit hook. (Under the C library's `malloc`, a thread whose first
//! calls are frees is on a third one, `FREED`, for some of them.) When the hook has run, the
//! thread is on another closed front, `GONE`, and whatever it still does goes
//! through the fallback heap, which belongs to no thread and is used under its
//! lock, without bins.
//!
//! A thread whose first call comes after the hook's last turn goes without it, and
//! the next thread with its number finds the heap ([`registry::acquire`]).

use crate::front::Front;
use crate::heap::{self, Heap};
use crate::registry::{self, NO_THREAD};
use crate::upkeep::{self, Caller};
use crate::{fork, purger};
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;
use hakmem_superslab::OwnedSlabs;
use hakmem_sys::set_once::SetOnce;
use hakmem_sys::this_thread;
use hakmem_sys::thread_exit::ExitHook;
use hakmem_thread_cache::ThreadCache;

/// Where threads start.
static NEW: Front = Front::CLOSED;
/// Where threads are that have freed, and never allocated.
static FREED: Front = Front::CLOSED;
/// Where threads are after their exit hook.
static GONE: Front = Front::CLOSED;

hakmem_sys::thread_slot! {
    /// The calling thread's front.
    pub(crate) mod slot: *mut Front = &NEW
}

// SAFETY: it is armed with what `thread_exits` asks for.
static EXIT: ExitHook = unsafe { ExitHook::new(thread_exits) };
static FALLBACK: SetOnce<Heap> = SetOnce::new();

/// In this round of a thread's destructors its heap goes; in earlier ones,
/// destructors of others may still be using it.
const LAST_ROUND: u32 = 2;

/// So many frees give a thread a heap that has allocated nothing.
const FREES_WITHOUT_HEAP: usize = 8;

/// The heap of the calling thread.
#[derive(Clone, Copy)]
pub(crate) enum Current {
    /// Its own.
    Own(*mut Heap),
    /// It has none (any more, or for lack of memory); this one serves everybody under its lock.
    Fallback(*mut Heap),
    /// There is none at all, nor memory for one.
    None,
}

/// The heap of the calling thread, attached now if this is its first call.
#[inline]
pub(crate) fn heap() -> Current {
    let front = slot::get();
    // SAFETY: the slot always points to a front.
    if unsafe { Front::is_heap(front) } {
        Current::Own(front.cast())
    } else if ptr::eq(front, &raw const GONE) {
        fallback()
    } else {
        attach()
    }
}

/// The same, if the thread has one of its own, and nothing waits for its next alloc.
#[inline(always)]
pub(crate) fn open_heap() -> Option<*mut Heap> {
    let front = slot::get();
    // SAFETY: the slot always points to a front, which a heap begins with.
    let is_open = unsafe { Front::is_heap(front) && !ThreadCache::are_allocs_closed(front.cast()) };
    is_open.then(|| front.cast())
}

/// Whether the calling thread, which has no heap, is to free without one: its first few blocks.
///
/// The C library frees what was a thread's on that thread, after the last destructors. For some
/// threads that is the first call of all, and a heap that they got there would never come back.
pub(crate) fn frees_without_heap() -> bool {
    let front = slot::get();
    // Counted where the heap will be, which is no such small number. What stands there when a
    // thread is new may be from another one, whose stack it has.
    let frees = if ptr::eq(front, &raw const NEW) {
        1
    } else if ptr::eq(front, &raw const FREED) {
        EXIT.value().addr() + 1
    } else {
        return false;
    };
    let counts = frees < FREES_WITHOUT_HEAP && EXIT.has_key();
    if !counts || !EXIT.arm(ptr::without_provenance_mut(frees)) {
        return false;
    }
    let now = slot::get();
    if !ptr::eq(now, front) {
        // The system has allocated, and so the thread has got one after all.
        EXIT.arm(now.cast());
        return false;
    }
    true
}

/// Does some work of the calling thread, which has no heap, as if its heap were gone.
pub(crate) fn without_heap(work: impl FnOnce()) {
    slot::set((&raw const GONE).cast_mut());
    work();
    slot::set((&raw const FREED).cast_mut());
}

/// The slabs of that heap; they have a lock of their own. `None` if there is no memory
/// for a heap.
pub(crate) fn slabs() -> Option<&'static OwnedSlabs> {
    match heap() {
        // SAFETY: heaps are valid for ever.
        Current::Own(heap) | Current::Fallback(heap) => Some(unsafe { &(*heap).slabs }),
        Current::None => None,
    }
}

/// The system may allocate meanwhile, and may fail to, which is nothing to a call that is no `malloc`.
#[cold]
fn attach() -> Current {
    hakmem_sys::errno::preserved(attach_now)
}

fn attach_now() -> Current {
    let heap = registry::acquire(this_thread::id());
    if heap.is_null() {
        return borrowed();
    }
    // From here on the thread can allocate, and the calls below may.
    slot::set(heap.cast());
    if !EXIT.arm(heap.cast()) {
        // Without the hook the heap would be lost with the thread: do without.
        slot::set((&raw const GONE).cast_mut());
        detach(heap);
        return fallback();
    }
    fork::register_once();
    Current::Own(heap)
}

/// Whether the calling thread has a heap, and this is it.
pub(crate) fn is_own(heap: *mut Heap) -> bool {
    ptr::eq(slot::get(), heap.cast())
}

/// Makes the calling thread's next alloc take the slow path, if the thread has a heap.
pub(crate) fn close_allocs() {
    if let Current::Own(heap) = heap() {
        // SAFETY: the heap is the calling thread's.
        unsafe {
            if !ThreadCache::are_allocs_closed(heap.cast()) {
                ThreadCache::close_allocs(heap.cast());
            }
        }
    }
}

/// The heap of the threads that have none, if there is one yet; else null.
pub(crate) fn fallback_heap() -> *mut Heap {
    FALLBACK.get()
}

/// Makes the calling thread, which has no heap, never get one.
pub(crate) fn renounce() {
    slot::set((&raw const GONE).cast_mut());
}

#[cold]
fn fallback() -> Current {
    let mut heap = FALLBACK.get();
    if heap.is_null() {
        let made = registry::acquire(NO_THREAD);
        if made.is_null() {
            return borrowed();
        }
        // It is used without bins: what a thread has left in them would stay there.
        // SAFETY: acquired above and known to nobody.
        unsafe { Heap::drain(made) };
        heap = match FALLBACK.set(made) {
            Ok(()) => made,
            Err(theirs) => {
                // SAFETY: acquired above and not used.
                unsafe { registry::release(made) };
                theirs
            }
        };
    }
    Current::Fallback(heap)
}

/// Any heap, under its lock, where there is no memory for one: what the thread frees would be lost else.
#[cold]
fn borrowed() -> Current {
    heap::all().next().map_or(Current::None, Current::Fallback)
}

/// Runs when a thread ends, once for each round of destructors.
unsafe extern "C" fn thread_exits(heap: *mut c_void) {
    if heap.addr() < FREES_WITHOUT_HEAP {
        return;
    }
    let heap: *mut Heap = heap.cast();
    // SAFETY: the hook was armed with the thread's heap.
    let round = unsafe { &(*heap).exit_rounds }.fetch_add(1, Ordering::Relaxed) + 1;
    if round < LAST_ROUND && EXIT.arm(heap.cast()) {
        return;
    }
    // As long as the thread has a heap: without one, this would make one.
    // The purge thread has ticks of its own, and ends without.
    if !purger::is_running() {
        upkeep::tick(upkeep::REAPS_AT_ONCE);
    }
    slot::set((&raw const GONE).cast_mut());
    detach(heap);
    purger::note_thread_has_gone();
    if registry::is_any_attached() {
        // What it had freed may have been too little for a look. (With nobody left the process ends.)
        purger::runs(Caller::Program);
    }
}

/// Makes the calling thread's heap available.
fn detach(heap: *mut Heap) {
    // SAFETY: the calling thread is the heap's only user and uses it no more.
    unsafe {
        let cache = &raw mut (*heap).front.cache;
        if ThreadCache::are_allocs_closed(cache) {
            ThreadCache::open_allocs(cache);
        }
        registry::release(heap);
    }
}
