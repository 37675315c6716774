//! Programs that put functions of their own in front of the library's.

mod support;

statements_as_in_glibc! { "wrapped.c":
    blocks_go_to_and_fro_between_all_functions
    reallocarray_calls_the_programs_realloc
}

// glibc 2.36 has none of these.
statements! { "freed.c":
    every_kind_of_free_calls_the_programs
}

statements! { "own_getenv.c":
    a_program_may_have_a_getenv_that_allocates
}
