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
    is_clean_under_memcheck("contract.c", "malloc_of_zero_gives_unique_blocks");
    is_clean_under_memcheck("contract.c", "blocks_do_not_overlap");
    is_clean_under_memcheck("contract.c", "calls_that_succeed_preserve_errno");
}

#[test]
fn threads_work_under_valgrind() {
    is_clean_under_memcheck(
        "threads.c",
        "destructors_of_keys_made_before_the_first_malloc_allocate",
    );
}

// A `new` that fails is not among these: valgrind replaces the C++ runtime's
// own operator, to which it is handed, by one that cannot throw.
#[test]
fn cpp_works_under_valgrind() {
    is_clean_under_memcheck("operators.cpp", "blocks_of_aligned_new_are_aligned");
    is_clean_under_memcheck("replaced.cpp", "sized_deletes_reach_a_replaced_delete");
    is_clean_under_memcheck(
        "thread_local.cpp",
        "destructors_of_thread_local_objects_allocate",
    );
}

#[test]
fn fork_works_under_valgrind() {
    is_clean_under_memcheck("processes.c", "a_child_of_a_quiet_process_uses_its_heap");
}
