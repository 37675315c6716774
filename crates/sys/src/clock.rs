//! Cheap monotonic clocks.

/// Milliseconds on the system's coarse monotonic clock, truncated to 32 bits
/// (it wraps after 49 days; compare with `wrapping_sub`).
pub fn now_ms() -> u32 {
    let time = read(libc::CLOCK_MONOTONIC_COARSE);
    (time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000) as u32
}

/// Nanoseconds on the system's monotonic clock, for the time that something takes.
pub fn now_ns() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Microseconds on the same clock.
pub fn now_us() -> u64 {
    now_ns() / 1000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for a `timespec`; the clocks asked for exist on
    // every Linux the crate supports, and on failure `time` stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}
