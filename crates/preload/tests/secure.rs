//! Settings in the environment of a program that runs with more rights than whoever started it.

mod support;

use support::{Ended, Run, linked_program};

/// A run with one setting that switches something off, and one that is none.
fn run_with_settings(prepare: impl FnOnce(Run) -> Run) -> Ended {
    let run = linked_program("secure.c")
        .case("what_settings_there_are")
        .env("HAKMEM_PURGE_THREAD", "0")
        .env("HAKMEM_HUGE_PAGES", "2M");
    prepare(run).start().ends_well()
}

#[test]
fn a_linked_program_obeys_the_environment() {
    let ended = run_with_settings(|run| run);
    assert_eq!(ended.stdout, "secure 0, threads 1\n", "{ended}");
    assert_eq!(
        ended.stderr,
        "hakmem: HAKMEM_HUGE_PAGES is none of 0, system, proven, 1 and all; taken as 1\n",
        "{ended}"
    );
}

#[test]
fn a_program_with_more_rights_than_whoever_started_it_takes_no_settings_from_him() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can start a program as somebody else with root's rights");
        return;
    }
    let ended = run_with_settings(Run::by_another_user);
    assert_eq!(ended.stdout, "secure 1, threads 2\n", "{ended}");
    assert_eq!(ended.stderr, "", "{ended}");
}
