//! Programs that put functions of their own in front of the library's.

mod support;

use support::program;

statements_as_in_glibc! { "wrapped.c":
    blocks_go_to_and_fro_between_all_functions
    reallocarray_calls_the_programs_realloc
}

// glibc 2.36 has none of these.
statements! { "freed.c":
    every_kind_of_free_calls_the_programs
}

#[test]
fn a_program_may_have_a_getenv_that_allocates() {
    let ended = program("own_getenv.c")
        .case("a_program_may_have_a_getenv_that_allocates")
        .env("HAKMEM_PURGE_THREAD", "no")
        .on_hakmem()
        .ends_well();
    assert!(ended.stderr.contains("HAKMEM_PURGE_THREAD"), "{ended}");
}
