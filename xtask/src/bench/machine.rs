//! Where and on what a measurement was made.

use std::path::Path;
use std::process::Command;

use super::results::{Commit, Machine};
use crate::workspace;

/// This machine.
pub fn machine() -> Machine {
    Machine {
        cpu: proc_field("/proc/cpuinfo", "model name")
            .or_else(|| proc_field("/proc/cpuinfo", "CPU part"))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_bytes: memory("MemTotal").unwrap_or(0),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        huge_pages: huge_pages(),
        rustc: output("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
        load: load().unwrap_or(0.0),
    }
}

/// The commit of the sources.
pub fn commit() -> Commit {
    let hash = output("git", &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changes = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    Commit {
        hash,
        dirty: changes.is_none_or(|changes| !changes.is_empty()),
    }
}

/// Bytes that a new process could use without swapping, and within the limits of the container.
pub fn available_bytes() -> u64 {
    let machine = memory("MemAvailable").unwrap_or(u64::MAX);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.min(left_to_groups(&groups, Path::new("/sys/fs/cgroup")))
}

/// The least that is left to one of the control groups that `groups`, the text of
/// `/proc/self/cgroup`, names, or to a group above it. Each line is a number, controllers
/// (none in version 2) and a path, with colons between.
fn left_to_groups(groups: &str, mounted: &Path) -> u64 {
    let mut least = u64::MAX;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, limit, used) = match controllers {
            "" => (mounted.to_owned(), "memory.max", "memory.current"),
            "memory" => (
                mounted.join("memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            ),
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let left = left_to_group(&root.join(group), limit, used);
            least = least.min(left.unwrap_or(u64::MAX));
        }
    }
    least
}

/// What is left to one group, in which pages of files count as used until another needs them;
/// `None` where it has no limit.
fn left_to_group(group: &Path, limit: &str, used: &str) -> Option<u64> {
    let number = |file: &str| -> Option<u64> {
        let text = std::fs::read_to_string(group.join(file)).ok()?;
        text.trim().parse().ok()
    };
    let (limit, used) = (number(limit)?, number(used)?);
    let counts = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let files: u64 = counts
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| ["active_file", "inactive_file"].contains(name))
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum();
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// The load average over the last minute.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn memory(field: &str) -> Option<u64> {
    let value = proc_field("/proc/meminfo", field)?;
    let number: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(number * 1024)
}

fn proc_field(path: &str, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then(|| value.trim().to_owned())
    })
}

/// The word in brackets.
fn huge_pages() -> String {
    let text = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let text = text.unwrap_or_default();
    let chosen = text
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    chosen.unwrap_or("unknown").to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace::root())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::left_to_groups;
    use std::path::Path;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn the_least_of_a_groups_limit_and_those_above_it_is_what_is_left() {
        let mounted = tempfile::tempdir().unwrap();
        let mounted = mounted.path();
        group(
            &mounted.join("above"),
            &[("memory.max", "1000"), ("memory.current", "900")],
        );
        group(
            &mounted.join("above/own"),
            &[("memory.max", "max"), ("memory.current", "700")],
        );
        assert_eq!(left_to_groups("0::/above/own\n", mounted), 100);
        assert_eq!(left_to_groups("0::/other\n", mounted), u64::MAX);
        // The root of the container's own view.
        let stat = "anon 1\nactive_file 300\ninactive_file 200";
        group(
            mounted,
            &[
                ("memory.max", "1000"),
                ("memory.current", "900"),
                ("memory.stat", stat),
            ],
        );
        assert_eq!(left_to_groups("0::/\n", mounted), 600);
    }

    #[test]
    fn the_limit_of_a_group_of_the_first_version_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let mounted = mounted.path();
        group(
            &mounted.join("memory"),
            &[
                ("memory.limit_in_bytes", "1000"),
                ("memory.usage_in_bytes", "400"),
            ],
        );
        // Of the path outside the container nothing can be seen.
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n";
        assert_eq!(left_to_groups(groups, mounted), 600);
    }
}
