//! What the environment may hold that sets up an allocator: no measurement is made with it, or
//! one peer would be measured in another state than the rest.

use std::process::Command;

/// How the names of such variables begin.
const PREFIXES: [&str; 8] = [
    "LD_PRELOAD",
    "GLIBC_TUNABLES",
    "HAKMEM_",
    "MALLOC_",
    "MIMALLOC_",
    "RPMALLOC",
    "SNMALLOC",
    "TCMALLOC_",
];
/// How those of the builds of jemalloc end, each with a prefix of its own.
const SUFFIX: &str = "MALLOC_CONF";

/// The variables that are set, by name.
pub fn set() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| is_setting(name))
        .collect()
}

/// Takes them out of `command`'s environment.
pub fn forget(command: &mut Command) {
    for name in set() {
        command.env_remove(name);
    }
}

fn is_setting(name: &str) -> bool {
    name.ends_with(SUFFIX) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_setting;

    #[test]
    fn what_sets_up_an_allocator_is_told_from_the_rest() {
        for name in [
            "HAKMEM_HUGE_PAGES",
            "MALLOC_ARENA_MAX",
            "MALLOC_CONF",
            "_RJEM_MALLOC_CONF",
            "JE_MALLOC_CONF",
            "MIMALLOC_PURGE_DELAY",
            "TCMALLOC_RELEASE_RATE",
            "GLIBC_TUNABLES",
            "LD_PRELOAD",
        ] {
            assert!(is_setting(name), "{name}");
        }
        for name in ["PATH", "LD_LIBRARY_PATH", "PYTHONMALLOC", "RUSTFLAGS"] {
            assert!(!is_setting(name), "{name}");
        }
    }
}
