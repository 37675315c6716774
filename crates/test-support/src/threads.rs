//! The threads of the process.

/// How many there are.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("procfs")
        .count()
}

/// How many have the calling thread's name: that is itself, and those that it has started and that
/// took no other. Not those of a test that has just ended, or is about to begin.
pub fn threads_of_this_name() -> usize {
    let own = std::fs::read("/proc/thread-self/comm").expect("procfs");
    std::fs::read_dir("/proc/self/task")
        .expect("procfs")
        .flatten()
        // One that has ended meanwhile has no name.
        .filter(|task| std::fs::read(task.path().join("comm")).is_ok_and(|name| name == own))
        .count()
}
