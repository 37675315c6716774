//! Blocks of another allocator go to it.

mod support;

use support::{plugin, program};

statements! { "foreign.c":
    free_passes_a_foreign_block_on
    free_passes_a_foreign_block_on_in_threads
    realloc_of_a_foreign_block_keeps_its_contents
    realloc_of_a_foreign_block_to_zero_frees_it
    usable_size_of_a_foreign_block_is_its_own
    free_passes_an_aligned_foreign_block_on
    the_child_of_a_threads_fork_passes_a_foreign_block_on
}

#[test]
fn free_passes_a_foreign_block_on_while_a_constructor_waits_for_it() {
    program("foreign.c")
        .case("free_passes_a_foreign_block_on_while_a_constructor_waits_for_it")
        .arg(plugin("waiting.c"))
        .on_hakmem()
        .ends_well();
}
