//! Tools of the loom models (only under `cfg(loom)`).

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

/// Explores a model with at most as many preemptions of running threads as
/// `LOOM_MAX_PREEMPTIONS` says, or three.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(model);
}

/// Starts a thread that works on the same world.
pub fn beside<T: 'static, R: 'static>(
    world: &Arc<T>,
    work: impl FnOnce(&T) -> R + 'static,
) -> JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

/// A common word that threads touch around each step of a protocol.
///
/// Loom keeps only the last access to each atomic. Where one thread's plain load
/// is followed by another's load and exchange, it does not see that the exchange
/// could have come before the first load, and never tries that order. Exchanges
/// it does order, all of them: so one before and one after each step, relaxed,
/// make it try the steps in every order without ordering any memory.
#[derive(Debug)]
pub struct Turns(AtomicU32);

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

impl Turns {
    /// A word for one model.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Does one step of a protocol.
    pub fn step<R>(&self, step: impl FnOnce() -> R) -> R {
        self.0.fetch_add(1, Ordering::Relaxed);
        let result = step();
        self.0.fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// Memory that only its holder may touch: loom reports two accesses that nothing
/// orders, which is what a missing acquire or release comes to.
#[derive(Debug)]
pub struct Held<T>(UnsafeCell<T>);

// SAFETY: loom checks that the accesses are ordered, and stops the model if not.
unsafe impl<T: Send> Sync for Held<T> {}

impl<T> Held<T> {
    /// Memory with this in it.
    pub fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        // SAFETY: loom has just checked that no write is unordered with this.
        self.0.with(|value| read(unsafe { &*value }))
    }

    /// Reads and writes.
    pub fn with_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: loom has just checked that no access is unordered with this.
        self.0.with_mut(|value| change(unsafe { &mut *value }))
    }
}

/// What loom does not see of a link in a list, which is an atomic: that who walks over a list
/// taken out reads a link before another, for the next list, writes it. Loom lets no load see a
/// store that comes later, but reports a walk and a write that nothing orders.
#[derive(Debug)]
pub struct Walk(Held<()>);

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Walk {
    /// Beside one link.
    pub fn new() -> Self {
        Self(Held::new(()))
    }

    /// Who walks has read the link.
    pub fn read(&self) {
        self.0.with(|()| ());
    }

    /// Who has to put the entry into a list is about to write the link.
    pub fn write(&self) {
        self.0.with_mut(|()| ());
    }
}

/// What the system does for threads that sleep on a word: it looks at the word and enters the thread
/// in one step, as far as those who wake are concerned. Nobody is woken for nothing, or by the clock.
#[derive(Debug, Default)]
pub struct Sleepers {
    bucket: Mutex<()>,
    woken: Condvar,
}

impl Sleepers {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps until somebody wakes the thread, unless the word is another already.
    pub fn sleep_while(&self, is_expected: impl FnOnce() -> bool) {
        let bucket = self.bucket.lock().expect("no thread of a model panics");
        if is_expected() {
            drop(self.woken.wait(bucket));
        }
    }

    /// Wakes one thread that sleeps, if there is any.
    pub fn wake_one(&self) {
        let _bucket = self.bucket.lock().expect("no thread of a model panics");
        self.woken.notify_one();
    }
}
