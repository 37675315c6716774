//! The hook at a thread's end.
#![cfg(not(loom))]

use core::ffi::c_void;
use hakmem_sys::thread_exit::ExitHook;
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::thread;

/// What happens at a thread's end, in order.
type Log = Mutex<Vec<&'static str>>;

struct InThreadLocal(Arc<Log>);

impl Drop for InThreadLocal {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("thread_local");
    }
}

thread_local! {
    static VALUE: RefCell<Option<InThreadLocal>> = const { RefCell::new(None) };
}

unsafe extern "C" fn log_hook(log: *mut c_void) {
    // SAFETY: the test leaked an `Arc` for the hook.
    let log = unsafe { Arc::from_raw(log.cast_const().cast::<Log>()) };
    log.lock().unwrap().push("hook");
}

#[test]
fn the_hook_runs_once_after_the_destructors_of_thread_locals() {
    // SAFETY: it is armed with what came from an `Arc`.
    static HOOK: ExitHook = unsafe { ExitHook::new(log_hook) };
    let log = Arc::new(Log::default());
    for _ in 0..2 {
        let of_thread = log.clone();
        thread::spawn(move || {
            // Armed first, and yet it runs last.
            assert!(HOOK.arm(Arc::into_raw(of_thread.clone()).cast_mut().cast()));
            VALUE.set(Some(InThreadLocal(of_thread)));
        })
        .join()
        .unwrap();
    }
    let log = log.lock().unwrap();
    assert_eq!(*log, ["thread_local", "hook", "thread_local", "hook"]);
}

// SAFETY: it is armed with a counter that the test keeps until the thread has ended.
static ROUNDS: ExitHook = unsafe { ExitHook::new(three_rounds) };

unsafe extern "C" fn three_rounds(rounds: *mut c_void) {
    // SAFETY: the test keeps the counter until the thread has ended.
    let left = unsafe { &mut *rounds.cast::<i32>() };
    *left -= 1;
    if *left > 0 {
        assert!(ROUNDS.arm(rounds));
    }
}

#[test]
fn the_hook_can_ask_to_run_again() {
    let left = thread::spawn(|| {
        let left = Box::leak(Box::new(3));
        assert!(ROUNDS.arm((&raw mut *left).cast()));
        (&raw mut *left).expose_provenance()
    })
    .join()
    .unwrap();
    // SAFETY: leaked above; the thread has ended.
    let left = unsafe { Box::from_raw(core::ptr::with_exposed_provenance_mut::<i32>(left)) };
    assert_eq!(*left, 0);
}

unsafe extern "C" fn never(_: *mut c_void) {
    panic!("a thread that armed no hook has none");
}

#[test]
fn a_thread_that_arms_no_hook_has_none() {
    // SAFETY: it may be called with any value.
    static HOOK: ExitHook = unsafe { ExitHook::new(never) };
    thread::spawn(|| ()).join().unwrap();
    thread::spawn(|| assert!(HOOK.arm(core::ptr::null_mut())))
        .join()
        .unwrap();
}
