//! The threads of the process.

/// How many there are.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("procfs")
        .count()
}
