//! When to take memory as huge pages.
//!
//! A huge page costs a third of what its small pages do, if the system has one at hand.
//! If it has to make room first, or the machine is a virtual one whose host has to, it
//! costs several times as much. Nobody says which it will be, so each one is timed.
//!
//! A chunk is allowed to be huge only while it is touched for the first time, under the
//! clock. Else the system's own thread would put a huge page back where parts of one have
//! been given back. All of the arena is so marked (as one mapping, because a process may
//! have 65 530 of them): from the first huge page on where the system makes none without being
//! asked, and from the first page on where it does.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use hakmem_region_id::REGION_BYTES;
use hakmem_sys::clock;
use hakmem_sys::vm::{self, HUGE_PAGE_BYTES};

/// What an arena takes as huge pages, once it is large and where the system has them at
/// hand; each includes those before it, from [`Proven`](Self::Proven) on. Only with
/// [`System`](Self::System) does the system make any by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum HugePages {
    /// What the system makes without being asked: all or nothing, by its setting.
    #[default]
    System = 0,
    /// Nothing.
    Never = 1,
    /// What its holder knows to be used nearly all.
    Proven = 2,
    /// And what its holder takes to be, as long as nothing speaks against it.
    Likely = 3,
    /// All runs that are asked for as parts of chunks. What is used of them only here and
    /// there is then in memory as a whole.
    All = 4,
}

/// How much of a run will be used, as far as its holder knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// Nearly all, by what was used of its like.
    Proven = HugePages::Proven as u8,
    /// Nearly all, as a rule.
    Likely = HugePages::Likely as u8,
    /// Nobody knows.
    Unknown = HugePages::All as u8,
}

/// Regions of a huge page.
pub(crate) const HUGE_REGIONS: usize = HUGE_PAGE_BYTES / REGION_BYTES;

/// A touch that took less brought no page: the first one had brought a huge one. (A page
/// takes twice as long on a quick machine, and 2 us on a virtual one. Asking by `mincore`
/// would be more certain, and the end of a program whose sandbox forbids it.)
const NO_FAULT_NS: u64 = 300;
/// A huge page that took longer has cost more than its small pages would have: 512 of
/// them, 2 us each.
const SLOW_NS: u64 = 1_000_000;
/// The most chunks that are let pass after a slow one (2 GiB).
const PAUSE_SLOW: u32 = 1024;
/// The most after one that was refused. That costs little, and may be the chunk's fault: one
/// that was given back in parts keeps its page table, and then gets no huge page.
const PAUSE_REFUSED: u32 = 8;

/// What a touch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    /// A huge page, in good time.
    Quick,
    /// A huge page, late.
    Slow,
    /// A small page.
    Refused,
}

/// Which chunks to take as huge pages: after a slow or failed one some are let pass, twice
/// as many each time; a quick one ends that.
#[derive(Debug)]
struct Pace {
    /// Chunks to let pass.
    skip: AtomicU32,
    /// How many after the next slow one.
    pause: AtomicU32,
}

impl Pace {
    const fn new() -> Self {
        Self {
            skip: AtomicU32::new(0),
            pause: AtomicU32::new(1),
        }
    }

    /// Whether the next chunk is to be taken so.
    fn is_turn(&self) -> bool {
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
        }
        skip == 0
    }

    fn note(&self, touch: Touch) {
        let most = match touch {
            Touch::Quick => {
                self.pause.store(1, Ordering::Relaxed);
                return;
            }
            Touch::Slow => PAUSE_SLOW,
            Touch::Refused => PAUSE_REFUSED,
        };
        let pause = self.pause.load(Ordering::Relaxed).min(most);
        self.skip.store(pause, Ordering::Relaxed);
        self.pause.store((pause * 2).min(most), Ordering::Relaxed);
    }
}

/// Whether and when an arena takes huge pages.
#[derive(Debug)]
pub(crate) struct HugeTaker {
    wanted: AtomicU8,
    pace: Pace,
    taken: AtomicU64,
}

impl HugeTaker {
    pub const fn new() -> Self {
        Self {
            wanted: AtomicU8::new(HugePages::System as u8),
            pace: Pace::new(),
            taken: AtomicU64::new(0),
        }
    }

    pub fn set_wanted(&self, wanted: HugePages) {
        self.wanted.store(wanted as u8, Ordering::Relaxed);
    }

    /// Whether a chunk of which so much will be used may be taken as a huge page.
    pub fn is_wanted(&self, expected: Use) -> bool {
        self.wanted.load(Ordering::Relaxed) >= expected as u8
    }

    /// Whether the next chunk that may be is.
    pub fn is_turn(&self) -> bool {
        self.pace.is_turn()
    }

    /// Takes so many chunks in a row, from this address on, as huge pages: touches the first byte
    /// of each while the system may put one there, until one comes late or not at all. Returns how
    /// many have come, as far as time tells.
    ///
    /// # Safety
    ///
    /// The chunks are committed, the caller's, and read as zero.
    pub unsafe fn take(&self, address: usize, chunks: usize) -> usize {
        let mut came = 0;
        while came < chunks {
            // SAFETY: passed on.
            let touch = unsafe { take_chunk(address + came * HUGE_PAGE_BYTES) };
            self.pace.note(touch);
            came += usize::from(touch != Touch::Refused);
            if touch != Touch::Quick {
                break;
            }
        }
        self.taken.fetch_add(came as u64, Ordering::Relaxed);
        came
    }

    /// How many have been taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Touches a chunk while the system may put a huge page there.
///
/// # Safety
///
/// The chunk is committed, the caller's, and reads as zero.
unsafe fn take_chunk(address: usize) -> Touch {
    // SAFETY: passed on.
    unsafe {
        if !vm::let_be_huge(address, HUGE_PAGE_BYTES, true) {
            return Touch::Refused;
        }
        let first = touch_ns(address);
        vm::let_be_huge(address, HUGE_PAGE_BYTES, false);
        let others = [1, 2, 3].map(|part| touch_ns(address + part * HUGE_PAGE_BYTES / 4));
        if others.into_iter().min() > Some(NO_FAULT_NS) {
            Touch::Refused
        } else if first > SLOW_NS {
            Touch::Slow
        } else {
            Touch::Quick
        }
    }
}

/// Writes a zero. Returns how long that took, in nanoseconds.
///
/// # Safety
///
/// The byte is the caller's, and zero or not needed.
unsafe fn touch_ns(address: usize) -> u64 {
    let start = clock::now_ns();
    // SAFETY: passed on.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0) };
    clock::now_ns().saturating_sub(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_pass(pace: &Pace) -> u32 {
        let mut passed = 0;
        while !pace.is_turn() {
            passed += 1;
        }
        passed
    }

    #[test]
    fn slow_chunks_are_tried_ever_more_rarely() {
        let pace = Pace::new();
        assert_eq!(let_pass(&pace), 0);
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024] {
            pace.note(Touch::Slow);
            assert_eq!(let_pass(&pace), expected);
        }
    }

    #[test]
    fn refused_chunks_do_not_keep_others_from_being_tried_soon() {
        let pace = Pace::new();
        for expected in [1, 2, 4, 8, 8, 8] {
            pace.note(Touch::Refused);
            assert_eq!(let_pass(&pace), expected);
        }
        for _ in 0..20 {
            pace.note(Touch::Slow);
        }
        let_pass(&pace);
        pace.note(Touch::Refused);
        assert_eq!(let_pass(&pace), 8);
    }

    #[test]
    fn a_quick_chunk_makes_up_for_slow_ones() {
        let pace = Pace::new();
        for _ in 0..5 {
            pace.note(Touch::Slow);
        }
        let_pass(&pace);
        pace.note(Touch::Quick);
        assert_eq!(let_pass(&pace), 0);
        pace.note(Touch::Slow);
        assert_eq!(let_pass(&pace), 1);
    }

    #[test]
    fn none_is_taken_unless_wanted() {
        let huge = HugeTaker::new();
        for (wanted, proven, likely, unknown) in [
            (None, false, false, false),
            (Some(HugePages::Proven), true, false, false),
            (Some(HugePages::Likely), true, true, false),
            (Some(HugePages::All), true, true, true),
            (Some(HugePages::Never), false, false, false),
            (Some(HugePages::System), false, false, false),
        ] {
            if let Some(wanted) = wanted {
                huge.set_wanted(wanted);
            }
            assert_eq!(huge.is_wanted(Use::Proven), proven);
            assert_eq!(huge.is_wanted(Use::Likely), likely);
            assert_eq!(huge.is_wanted(Use::Unknown), unknown);
        }
    }
}
