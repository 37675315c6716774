//! The purge thread: gives memory back for a program that has gone idle.
//!
//! A busy program ticks on its own slow paths. One that frees much and then
//! waits makes no calls, so a thread does it. `free` cannot create it where it
//! may have been called by the C library under a lock that creating a thread
//! takes too (glibc frees the thread vectors of cached stacks so). There it
//! closes the thread's allocs instead, and the next one creates the thread: the C
//! library holds no such lock when it allocates. Where [`START_BYTES`] more are freed without
//! one, the thread that frees gives them back itself, all but half of that. If the program allocates again soon, that
//! starts the purge thread, however little is left: the next such teardown is for the purge thread, and
//! its memory is still there for what comes after it.
//!
//! A program of several threads gets the purge thread before there is anything to give
//! back, as soon as it holds [`PARK_BYTES`]: it *parks*, and whoever frees as much wakes it. It parks as well
//! when it has done its work, and looks by itself now and then. It ends when less is held, or one thread is
//! left: a program that has but one may do what no other may.
//! Threads may go without a word; but the system says of the process's first one whether it is there, and
//! with that most processes end. So nobody parks without it.
//!
//! Else the purge thread is started when [`START_BYTES`] could go back. It ends when nothing is left or
//! nobody else is, takes locks only for the time of a step, and is not there in the child of a fork. Programs that
//! must stay single-threaded switch it off: `HAKMEM_PURGE_THREAD=0`, or
//! [`set_purge_thread`].

use crate::state::SLABS;
use crate::upkeep::Caller;
use crate::{fork, registry, thread, upkeep};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hakmem_sys::fork::{is_multi_threaded, is_single_threaded};
use hakmem_sys::{barrier, clock, helper, report};

/// What could go back when it is started: a program of one thread has two by that.
const START_BYTES: usize = 16 << 20;
/// What is held when it is started to park in a program that has several, and what could go back when a
/// parked one is woken.
const PARK_BYTES: usize = 8 << 20;
/// What a thread leaves that gives memory back in its place, for the next few calls.
const KEPT_BYTES: usize = START_BYTES / 2;
/// How long it sleeps between two steps, in milliseconds.
const STEP_MS: u32 = 250;
/// Steps without anything given back after which it ends.
const IDLE_STEPS: u32 = 12;
/// After that many steps it looks for whole free pages in slabs and runs.
const STEPS_PER_HOLES: u32 = 4;
/// How long it parks between two looks of its own, in milliseconds: what threads that sleep now have in
/// their caches nobody else sees.
const PARKED_MS: u32 = 4000;

/// It stays for what it has reaped, if that is at least so many bytes.
const WORTH_STAYING: usize = 64 << 10;

/// Not asked yet whether it may run.
const UNKNOWN: u32 = 0;
/// It must not.
const OFF: u32 = 1;
/// It may, and does not.
const IDLE: u32 = 2;
/// It does.
const RUNNING: u32 = 3;
/// It still does, and must not.
const STOPPING: u32 = 4;
/// It is there, and waits for work.
const PARKED: u32 = 5;

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
/// How often the thread has parked, and was woken then.
static PARKS: AtomicU64 = AtomicU64::new(0);
static WAKES: AtomicU64 = AtomicU64::new(0);
/// How long the system is not asked again for a thread that it has refused, in milliseconds: it
/// takes some ten calls, and every look would ask.
const RETRY_MS: u32 = 1000;
/// When it was asked last whether the thread can be there.
static ASKED: AtomicU32 = AtomicU32::new(0);
/// Whether the C library, where it says that there have been several threads, speaks of this one only, or of
/// those of a parent.
static OTHERS_ARE_STALE: AtomicBool = AtomicBool::new(false);
/// Whether the process's first thread was not there when this one was to park.
static FIRST_HAS_GONE: AtomicBool = AtomicBool::new(false);
/// When it has refused one.
static REFUSED: Moment = Moment::NEVER;
/// What the thread left behind when it ended, because it cannot go back: only what
/// comes on top of it is worth a new start.
static BASELINE: AtomicUsize = AtomicUsize::new(0);
/// The same of the [pooled bytes](upkeep::pooled_bytes) alone.
static POOLED_BASELINE: AtomicUsize = AtomicUsize::new(0);
/// What could go back at least when a thread closed its allocs, the first one since the purge thread was
/// started last; zero if none has. When threads have freed as much more as starts it, and none of those has
/// allocated meanwhile, one gives it back, all but half of that: and from then on this is what was left.
static CLOSED_AT: AtomicUsize = AtomicUsize::new(0);
/// When one has done so.
static GAVE_BACK: Moment = Moment::NEVER;

/// Up to so many heaps are asked at every look.
const FEW_HEAPS: u32 = 8;
/// Looks at which that was asked for, with more heaps; wraps.
static LOOKS: AtomicU32 = AtomicU32::new(0);

/// When something has happened last, if it has and is not forgotten.
struct Moment {
    is_noted: AtomicBool,
    ms: AtomicU32,
}

impl Moment {
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "each use is to be a moment of its own"
    )]
    const NEVER: Self = Self {
        is_noted: AtomicBool::new(false),
        ms: AtomicU32::new(0),
    };

    fn note(&self) {
        self.ms.store(clock::now_ms(), Ordering::Relaxed);
        self.is_noted.store(true, Ordering::Relaxed);
    }

    /// Returns whether there was something to forget.
    fn forget(&self) -> bool {
        self.is_noted.load(Ordering::Relaxed) && self.is_noted.swap(false, Ordering::Relaxed)
    }

    fn is_within(&self, ms: u32) -> bool {
        self.is_noted.load(Ordering::Relaxed) && self.is_younger(ms)
    }

    fn is_younger(&self, ms: u32) -> bool {
        clock::now_ms().wrapping_sub(self.ms.load(Ordering::Relaxed)) < ms
    }
}

/// Whether hakmem may start its purge thread, whatever `HAKMEM_PURGE_THREAD` says (without
/// either it may). Without the thread memory goes back only while the program allocates or
/// frees, and on [`trim`](crate::trim).
///
/// One that runs ends within a quarter of a second, or when it has given back what it is at.
pub fn set_purge_thread(allowed: bool) {
    let before = STATE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
        match (allowed, state) {
            // There is one already.
            (true, RUNNING | STOPPING) => Some(RUNNING),
            (true, PARKED) => Some(PARKED),
            (true, _) => Some(IDLE),
            (false, RUNNING | STOPPING | PARKED) => Some(STOPPING),
            (false, _) => Some(OFF),
        }
    });
    if before == Ok(PARKED) && !allowed {
        wake();
    }
}

/// Wakes the thread, which is not parked any more.
fn wake() {
    WAKES.fetch_add(1, Ordering::Relaxed);
    helper::wake(&STATE);
}

/// How often the thread has parked, and was woken then.
pub(crate) fn parks_and_wakes() -> (u64, u64) {
    (PARKS.load(Ordering::Relaxed), WAKES.load(Ordering::Relaxed))
}

/// Whether it is switched off, or the system has just refused it.
pub(crate) fn must_not_run() -> bool {
    STATE.load(Ordering::Relaxed) == OFF || REFUSED.is_within(RETRY_MS)
}

/// Whether the thread runs.
pub(crate) fn is_running() -> bool {
    STATE.load(Ordering::Relaxed) == RUNNING
}

/// Whether the thread runs: it is started if much could go back, here or by the calling thread's
/// next alloc.
pub(crate) fn runs(caller: Caller) -> bool {
    let state = STATE.load(Ordering::Relaxed);
    if can_start(state) {
        if caller == Caller::Program && (has_just_given_back() || is_to_park()) {
            return start();
        }
    } else if state != PARKED {
        return state == RUNNING && is_there();
    }
    let pooled = upkeep::pooled_bytes();
    let at_most = pooled + upkeep::carved_bytes();
    if at_most < worth(state) {
        sink(&BASELINE, at_most);
        return false;
    }
    // Asking every heap takes longer the more there are, so it is as much rarer.
    if !is_wanted_for_pooled(pooled) && !is_turn() {
        return false;
    }
    let returnable = upkeep::returnable_bytes();
    sink(&BASELINE, returnable);
    sink(&CLOSED_AT, returnable.max(KEPT_BYTES));
    if !is_enough(returnable, &BASELINE) {
        return false;
    }
    if state == PARKED {
        return unpark();
    }
    if caller == Caller::Program {
        return start();
    }
    thread::close_allocs();
    let mut closed_at = CLOSED_AT.load(Ordering::Relaxed);
    if closed_at == 0 {
        // Not what there is: that may be one large block, and this the last call.
        closed_at = START_BYTES + BASELINE.load(Ordering::Relaxed);
        CLOSED_AT.store(closed_at, Ordering::Relaxed);
    }
    if returnable >= START_BYTES + closed_at && upkeep::purge_beyond(KEPT_BYTES) {
        CLOSED_AT.store(
            upkeep::returnable_bytes().max(KEPT_BYTES),
            Ordering::Relaxed,
        );
        GAVE_BACK.note();
    }
    false
}

/// Whether the next look of an alloc starts it, though there may be nothing to give back yet.
pub(crate) fn is_missing() -> bool {
    // First what most programs are, of those in which it is not there.
    !is_single_threaded() && can_start(STATE.load(Ordering::Relaxed)) && is_to_park()
}

/// Whether it may be started in this state, and the system has not just refused it.
fn can_start(state: u32) -> bool {
    state == IDLE && !REFUSED.is_within(RETRY_MS)
}

/// Whether the thread is to be there before it is needed.
fn is_to_park() -> bool {
    upkeep::held_bytes() >= PARK_BYTES && !is_alone() && !FIRST_HAS_GONE.load(Ordering::Relaxed)
}

/// Whether there is at most one thread beside this one, as far as is known. One that only frees has no heap
/// before it does.
fn is_alone() -> bool {
    match registry::attached_heaps() {
        0 => true,
        1 => OTHERS_ARE_STALE.load(Ordering::Relaxed) || !is_multi_threaded(),
        _ => false,
    }
}

/// A thread has given its heap up: this one may have nobody left to be there for.
pub(crate) fn note_thread_has_gone() {
    // It parks, and then asks how many are left: either it sees this one gone, or is seen parked here.
    barrier::full();
    if is_alone() {
        unpark();
    }
}

/// Whether a thread that is said to run can be there, asked once in a while: in the child of a fork
/// without hooks it is not, and nobody has said so.
fn is_there() -> bool {
    !upkeep::is_due(&ASKED, RETRY_MS) || !fork::is_in_borrowed_memory()
}

/// Has the thread work again, if it is parked, or end, if nobody else is left. Returns whether it does.
#[cold]
fn unpark() -> bool {
    // As for `is_there`; and in the child of a `vfork` it is the parent's.
    if fork::is_in_borrowed_memory() {
        return false;
    }
    let woken = STATE.compare_exchange(PARKED, RUNNING, Ordering::Relaxed, Ordering::Relaxed);
    if woken.is_ok() {
        wake();
    }
    woken.is_ok() || is_running()
}

/// Whether a thread that freed and freed has given memory back itself, which the program may want
/// again: it allocates, while that would still be there if there had been a purge thread. Says so once
/// for each time.
fn has_just_given_back() -> bool {
    GAVE_BACK.forget() && GAVE_BACK.is_younger(upkeep::DIRTY_MS)
}

/// Whether so many [pooled bytes](upkeep::pooled_bytes) are enough to look for whether the thread
/// is to be started.
pub(crate) fn is_wanted_for_pooled(pooled: usize) -> bool {
    sink(&POOLED_BASELINE, pooled);
    is_enough(pooled, &POOLED_BASELINE)
}

/// Whether so much has come on top of what the thread left that there is work for it.
fn is_enough(bytes: usize, baseline: &AtomicUsize) -> bool {
    bytes >= worth(STATE.load(Ordering::Relaxed)) + baseline.load(Ordering::Relaxed)
}

/// How many bytes are work for it, in this state: fewer where it is there already.
fn worth(state: u32) -> usize {
    if state == PARKED {
        PARK_BYTES
    } else {
        START_BYTES
    }
}

/// Whether it is time to ask every heap: every time with few heaps, else once in as many looks as
/// there are times so many.
fn is_turn() -> bool {
    let every = 1 + SLABS.owners.len() / FEW_HEAPS;
    every == 1 || LOOKS.fetch_add(1, Ordering::Relaxed).is_multiple_of(every)
}

/// A baseline sinks with what could go back.
fn sink(baseline: &AtomicUsize, returnable: usize) {
    if returnable < baseline.load(Ordering::Relaxed) {
        baseline.store(returnable, Ordering::Relaxed);
    }
}

#[cold]
fn start() -> bool {
    // In the child of a fork there would be none, and nobody to say so; that of a `vfork` would have one
    // of its own, in the parent's memory.
    if fork::is_under_way_here() || fork::is_in_borrowed_memory() {
        return false;
    }
    if STATE
        .compare_exchange(IDLE, RUNNING, Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        return false;
    }
    CLOSED_AT.store(0, Ordering::Relaxed);
    // The system allocates for the new thread, which comes back here and finds
    // it running.
    let was_alone = is_single_threaded();
    let started = helper::spawn(run);
    if started {
        if was_alone {
            OTHERS_ARE_STALE.store(true, Ordering::Relaxed);
        }
        REFUSED.forget();
    } else {
        REFUSED.note();
        is_over();
    }
    started
}

/// Says that the thread does not run any more. Switched off meanwhile, it stays off; returns
/// whether it may be started again.
fn is_over() -> bool {
    let next = |state| match state {
        RUNNING | PARKED => Some(IDLE),
        STOPPING => Some(OFF),
        _ => None,
    };
    let before = STATE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    matches!(before, Ok(RUNNING | PARKED))
}

/// What a value of `HAKMEM_PURGE_THREAD` says: whether there can be a purge thread. One that is none is
/// reported.
pub(crate) fn setting(value: &[u8]) -> bool {
    match value {
        b"1" => true,
        b"0" => false,
        _ => {
            report::line(format_args!(
                "HAKMEM_PURGE_THREAD is neither 0 nor 1; taken as 1"
            ));
            true
        }
    }
}

/// Sets what the environment says, unless the program has said something.
pub(crate) fn configure(allowed: bool) {
    let wanted = if allowed { IDLE } else { OFF };
    let _ = STATE.compare_exchange(UNKNOWN, wanted, Ordering::Relaxed, Ordering::Relaxed);
}

extern "C" fn run() -> bool {
    // No heap of its own: what it does needs none.
    thread::renounce();
    loop {
        work();
        let left = upkeep::returnable_bytes();
        set_baselines(left, upkeep::pooled_bytes());
        if park() {
            continue;
        }
        if !is_over() {
            // Stopped, and not at the end of its work: what is left could go back.
            set_baselines(0, 0);
            break;
        }
        // What was freed since the last step nobody may look at again.
        if upkeep::returnable_bytes() < left + START_BYTES
            || STATE
                .compare_exchange(IDLE, RUNNING, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            break;
        }
    }
    let may_be_last = !registry::is_any_attached();
    if may_be_last {
        // All others have ended, or never allocated: this must not keep the process alive, nor what
        // nobody would give back.
        upkeep::trim();
    }
    may_be_last
}

/// Waits for work, as long as the program holds much and has several threads. Returns whether there is
/// some.
fn park() -> bool {
    let change = |from, to| STATE.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    let has_work = || is_enough(upkeep::returnable_bytes(), &BASELINE);
    if change(RUNNING, PARKED).is_err() {
        return false;
    }
    PARKS.fetch_add(1, Ordering::Relaxed);
    // See `note_thread_has_gone`.
    barrier::full();
    while upkeep::held_bytes() >= PARK_BYTES && is_to_stay() {
        helper::sleep_on(&STATE, PARKED, PARKED_MS);
        if STATE.load(Ordering::Relaxed) != PARKED {
            // It has been woken, perhaps because it is alone.
            return is_running() && (!is_alone() || has_work());
        }
        let given = upkeep::tick(usize::MAX) + upkeep::reap_sleepers();
        if given >= WORTH_STAYING || has_work() {
            return change(PARKED, RUNNING).is_ok() || is_running();
        }
    }
    false
}

/// Whether there are threads that the parked one waits for.
fn is_to_stay() -> bool {
    if is_alone() {
        return false;
    }
    let is_first_there = helper::is_first_thread_there();
    FIRST_HAS_GONE.store(!is_first_there, Ordering::Relaxed);
    is_first_there
}

fn set_baselines(returnable: usize, pooled: usize) {
    BASELINE.store(returnable, Ordering::Relaxed);
    POOLED_BASELINE.store(pooled, Ordering::Relaxed);
}

/// Gives memory back until nothing has been given for a while, and nothing has
/// come that is only too young.
fn work() {
    let mut idle = 0;
    let mut steps = 0u32;
    let mut before = usize::MAX;
    while idle < IDLE_STEPS && STATE.load(Ordering::Relaxed) == RUNNING {
        helper::sleep_ms(STEP_MS);
        if !registry::is_any_attached() {
            return;
        }
        steps += 1;
        let mut given = upkeep::tick(usize::MAX);
        if steps.is_multiple_of(STEPS_PER_HOLES) {
            given += upkeep::purge_holes();
            // What was reaped goes back when it has been left alone for two looks.
            let reaped = upkeep::reap_sleepers();
            if reaped >= WORTH_STAYING {
                given += reaped;
            }
        }
        let returnable = upkeep::returnable_bytes();
        idle = if given == 0 && returnable <= before {
            idle + 1
        } else {
            0
        };
        before = returnable;
    }
}

/// In the child of a fork the thread does not exist.
pub(crate) fn after_fork_in_child() {
    is_over();
    FIRST_HAS_GONE.store(false, Ordering::Relaxed);
    if is_multi_threaded() {
        OTHERS_ARE_STALE.store(true, Ordering::Relaxed);
    }
}
