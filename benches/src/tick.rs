//! The processor's own clock: cheap enough to read around a single allocation.

use std::time::{Duration, Instant};

/// The processor's time counter, or nanoseconds where it has none we can read.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction; it touches no memory.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: user code may read the virtual counter on every system Rust supports.
        unsafe {
            core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack));
        }
        ticks
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// Nanoseconds per tick, found by watching both clocks for 20 ms.
pub fn nanoseconds_per_tick() -> f64 {
    let (start, ticks) = (Instant::now(), now());
    while start.elapsed() < Duration::from_millis(20) {
        std::hint::spin_loop();
    }
    let elapsed = start.elapsed().as_nanos() as f64;
    elapsed / (now() - ticks).max(1) as f64
}

/// Ticks that an interval of nothing shows, the median of many: the cost of one
/// reading of the clock, or its step.
pub fn overhead() -> u64 {
    let mut intervals: Vec<u64> = (0..1001)
        .map(|_| {
            let before = now();
            now() - before
        })
        .collect();
    intervals.sort_unstable();
    intervals[500]
}

/// Spins for 20 ns, without allocating: it runs inside an allocator.
#[cfg(feature = "slow-free")]
#[inline]
pub fn spin_twenty_nanoseconds() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TICKS: AtomicU64 = AtomicU64::new(0);
    let mut ticks = TICKS.load(Ordering::Relaxed);
    if ticks == 0 {
        ticks = ((20.0 / nanoseconds_per_tick()) as u64).max(1);
        TICKS.store(ticks, Ordering::Relaxed);
    }
    let start = now();
    // No pause instruction: on some processors a single one takes longer than this.
    while now() - start < ticks {}
}
