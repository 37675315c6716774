//! The clock, the counter, the environment and the helper thread.
#![cfg(not(loom))]

use hakmem_sys::clock::now_ms;
use hakmem_sys::counter::Counter;
use hakmem_sys::{environment, errno, helper};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn the_clock_goes_on_by_milliseconds() {
    let before = now_ms();
    helper::sleep_ms(60);
    let passed = now_ms().wrapping_sub(before);
    // The coarse clock may be a tick behind at both ends.
    assert!((40..10_000).contains(&passed), "{passed} ms");
}

#[test]
fn a_counter_adds_up_and_others_see_it() {
    let counter = Counter::new();
    counter.add(2);
    counter.add(40);
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(counter.get(), 42));
    });
}

static ANSWER: Mutex<Option<mpsc::Sender<bool>>> = Mutex::new(None);

extern "C" fn tell_whether_signals_are_blocked() -> bool {
    // SAFETY: zero bytes are a valid set, which the call then fills.
    let blocked = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set);
        libc::sigismember(&raw const set, libc::SIGTERM) == 1
            && libc::sigismember(&raw const set, libc::SIGCHLD) == 1
    };
    let sender = ANSWER.lock().unwrap().take().unwrap();
    sender.send(blocked).unwrap();
    false
}

#[test]
fn a_helper_thread_runs_and_takes_no_signals() {
    let (sender, receiver) = mpsc::channel();
    *ANSWER.lock().unwrap() = Some(sender);
    errno::set(5);
    assert!(helper::spawn(tell_whether_signals_are_blocked));
    assert_eq!(errno::get(), 5);
    let blocked = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(blocked);
    // SAFETY: as in the helper.
    let mine = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set);
        libc::sigismember(&raw const set, libc::SIGTERM)
    };
    assert_eq!(mine, 0, "the caller's mask is put back");
}

#[test]
fn a_counter_begins_again_beyond_the_largest_number() {
    let counter = Counter::new();
    counter.add(u64::MAX);
    counter.add(3);
    counter.add_shared(u64::MAX);
    assert_eq!(counter.get(), 1);
}

#[test]
fn the_variables_of_the_environment_are_visited_by_what_their_names_begin_with() {
    let seen = |prefix: &[u8]| {
        let mut seen = Vec::new();
        // SAFETY: no test changes the environment.
        unsafe {
            environment::visit(prefix, |name, value| {
                seen.push((name.to_vec(), value.to_vec()));
            });
        }
        seen
    };
    let all: Vec<_> = std::env::vars_os()
        .map(|(name, value)| (name.into_encoded_bytes(), value.into_encoded_bytes()))
        .collect();
    assert_eq!(seen(b""), all);
    for prefix in [&b"PATH"[..], b"CARGO_", b"HAKMEM_NO_SUCH"] {
        let mut some = all.clone();
        some.retain(|(name, _)| name.starts_with(prefix));
        assert_eq!(seen(prefix), some);
    }
    assert!(!seen(b"PATH").is_empty(), "every test has a path");
}

#[test]
fn who_sleeps_on_a_word_wakes_when_it_has_changed() {
    let word = AtomicU32::new(1);
    // Another value: there is nothing to wait for.
    helper::sleep_on(&word, 2, 600_000);
    // Nobody wakes it.
    helper::sleep_on(&word, 1, 1);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while word.load(Ordering::Relaxed) == 1 {
                helper::sleep_on(&word, 1, 600_000);
            }
        });
        thread::sleep(Duration::from_millis(20));
        word.store(2, Ordering::Relaxed);
        let start = Instant::now();
        while !sleeper.is_finished() && start.elapsed() < Duration::from_secs(60) {
            helper::wake(&word);
        }
        if !sleeper.is_finished() {
            // The scope would wait for it.
            eprintln!("nobody has woken who sleeps");
            std::process::abort();
        }
    });
}

#[test]
fn the_first_thread_is_there_as_others_and_a_child_see_it() {
    assert!(helper::is_first_thread_there());
    thread::scope(|scope| {
        scope
            .spawn(|| assert!(helper::is_first_thread_there()))
            .join()
    })
    .unwrap();
    // SAFETY: the child makes system calls only.
    let process = unsafe { libc::fork() };
    if process == 0 {
        // SAFETY: ends the child without running anything of the test's.
        unsafe { libc::_exit(i32::from(!helper::is_first_thread_there())) };
    }
    let mut status = 1;
    // SAFETY: `status` is a valid place.
    let ended = unsafe { libc::waitpid(process, &raw mut status, 0) };
    assert_eq!((ended, status), (process, 0));
}

/// Whether the thread that was to be cancelled has come through what must not do that.
static IS_THROUGH: AtomicBool = AtomicBool::new(false);

extern "C" fn is_to_be_cancelled(_: *mut c_void) -> *mut c_void {
    // SAFETY: the thread names itself.
    assert_eq!(unsafe { libc::pthread_cancel(libc::pthread_self()) }, 0);
    let word = AtomicU32::new(1);
    helper::sleep_ms(1);
    helper::sleep_on(&word, 1, 1);
    helper::wake(&word);
    hakmem_sys::report::line(format_args!("a test's line"));
    IS_THROUGH.store(true, Ordering::Relaxed);
    ptr::null_mut()
}

/// It may hold locks.
#[test]
fn a_thread_is_not_cancelled_where_it_sleeps_or_writes_a_line() {
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the place is valid, and the thread is joined once.
    unsafe {
        let place = thread.as_mut_ptr();
        let (usual, nothing) = (ptr::null(), ptr::null_mut());
        let started = libc::pthread_create(place, usual, is_to_be_cancelled, nothing);
        assert_eq!(started, 0);
        assert_eq!(libc::pthread_join(thread.assume_init(), ptr::null_mut()), 0);
    }
    assert!(IS_THROUGH.load(Ordering::Relaxed));
}
