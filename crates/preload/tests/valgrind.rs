//! Programs under valgrind's memcheck, with hakmem's `malloc` left in place.

mod support;

use support::{Run, program};

/// Runs a case under memcheck, which must find no error and not replace `malloc`.
fn is_clean_under_memcheck(source: &str, case: &str) {
    let ended = Run::of("valgrind")
        .arg("--soname-synonyms=somalloc=nouserintercepts")
        .arg("--error-exitcode=99")
        .arg("--fair-sched=yes")
        .arg(program(source).path())
        .arg(case)
        .on_hakmem()
        .ends_well();
    assert!(ended.stderr.contains("ERROR SUMMARY: 0 errors"), "{ended}");
    assert!(
        ended.stderr.contains("total heap usage: 0 allocs"),
        "valgrind replaced malloc: {ended}"
    );
}

#[test]
fn the_contract_holds_under_valgrind() {
    is_clean_under_memcheck("contract.c", "calls_that_succeed_preserve_errno");
    is_clean_under_memcheck("contract.c", "realloc_keeps_what_both_sizes_hold");
}

#[test]
fn threads_work_under_valgrind() {
    is_clean_under_memcheck("threads.c", "blocks_of_ended_threads_are_freed_by_others");
}

#[test]
fn cpp_works_under_valgrind() {
    is_clean_under_memcheck("operators.cpp", "the_new_handler_is_called_until_it_gives_up");
    is_clean_under_memcheck("thread_local.cpp", "destructors_of_thread_local_objects_allocate");
}

#[test]
fn fork_works_under_valgrind() {
    is_clean_under_memcheck("processes.c", "a_child_of_a_quiet_process_uses_its_heap");
}
