//! C++ `operator new` and `operator delete`, in every form and with every way to
//! fail.

mod support;

use support::{plugin, program};

statements_as_in_glibc! { "operators.cpp":
    every_form_of_new_pairs_with_every_form_of_delete
    every_form_of_delete_takes_null
    new_of_zero_bytes_gives_unique_blocks
    blocks_of_aligned_new_are_aligned
    new_beyond_any_object_throws_bad_alloc
    nothrow_new_beyond_any_object_returns_null
    new_to_an_alignment_that_is_no_power_of_two_throws_bad_alloc
    new_under_a_limit_throws_and_works_again_after_deleting
    small_news_under_a_limit_throw_and_work_again_after_deleting
    the_new_handler_is_called_until_it_gives_up
    nothrow_new_calls_the_new_handler_too
    a_new_handler_that_frees_memory_lets_new_succeed
    an_exception_of_the_new_handlers_own_passes_through
    no_frame_of_ours_is_on_the_stack_when_new_fails
    destructors_run_when_new_throws
    a_constructor_that_throws_gives_the_block_back
    malloced_memory_and_new_share_one_heap
}

// The C++ runtime of some systems returns a block here.
statements! { "operators.cpp":
    new_of_nearly_all_addresses_aligned_throws_bad_alloc
}

statements_as_in_glibc! { "replaced.cpp":
    arrays_reach_a_replaced_new
    sized_deletes_reach_a_replaced_delete
    nothrow_forms_reach_a_replaced_new_and_delete
    nothrow_new_returns_null_when_a_replaced_new_throws
    aligned_forms_do_not_reach_a_replaced_plain_new
}

statements! { "no_runtime.c":
    new_finds_memory_without_a_runtime
    nothrow_new_returns_null_without_a_runtime
}

#[test]
fn new_without_memory_and_without_a_runtime_ends_the_program() {
    program("no_runtime.c")
        .case("new_fails_without_a_runtime")
        .on_hakmem()
        .aborts_with("operator new: no memory for 9223372036854771711 bytes, and no C++ runtime");
}

#[test]
fn a_library_with_its_own_runtime_catches_bad_alloc() {
    program("no_runtime.c")
        .case("a_library_with_its_own_runtime_catches_bad_alloc")
        .arg(plugin("plugin.cpp"))
        .on_hakmem()
        .ends_well();
}
