//! Pointers that were never allocated, or are not any more: one line that names
//! the function, the pointer and what it is, then an abort.

mod support;

use support::program;

/// Makes a test of each case: it must abort with a message that has these words.
macro_rules! aborts {
    ($($case:ident $message:literal)*) => {$(
        #[test]
        fn $case() {
            let ended = program("misuse.c")
                .case(stringify!($case))
                .on_hakmem()
                .aborts_with($message);
            assert_eq!(ended.stderr.lines().count(), 1, "more than one line: {ended}");
        }
    )*};
}

aborts! {
    free_of_a_local_variable "pointer into the stack of the calling thread; it was not allocated"
    free_of_the_argument_list "pointer into the stack of the calling thread"
    free_of_an_argument "pointer into the stack of the calling thread"
    free_of_a_frame_that_ended "pointer into the stack of the calling thread"
    free_of_a_local_variable_of_a_thread "pointer into the stack of the calling thread"
    free_of_a_static_variable "pointer into the image of "
    free_of_a_zeroed_static_variable "pointer into the image of "
    free_of_an_exported_variable "pointer to stdout in the image of "
    free_of_a_string_literal "pointer into the image of "
    free_of_a_function "pointer to malloc_trim in the image of "
    realloc_of_a_local_variable "realloc(0x"
    realloc_to_zero_of_a_local_variable "realloc(0x"
    reallocarray_of_a_static_variable "realloc(0x"
    usable_size_of_a_static_variable "malloc_usable_size(0x"
    delete_of_a_local_variable "operator delete(0x"
    free_twice_of_a_large_block "free(0x"
    free_twice_of_a_very_large_block "free(0x"
    free_twice_of_a_page_aligned_large_block "free(0x"
    free_twice_of_a_large_block_behind_a_free_one "double free"
    free_of_the_inside_of_a_freed_large_block "double free"
    realloc_of_a_freed_large_block "realloc(0x"
    usable_size_of_a_freed_large_block "malloc_usable_size(0x"
    free_of_the_inside_of_a_large_block "not the start of a block"
    free_just_behind_the_start_of_a_large_block "not the start of a block"
    realloc_of_the_inside_of_a_large_block "not the start of a block"
    free_of_the_inside_of_a_middling_block "not the start of a block"
    free_of_the_inside_of_a_block_that_has_moved "not the start of a block, but 4096 bytes into one of"
    realloc_of_the_inside_of_a_block_that_has_moved "not the start of a block, but 64 bytes into one of"
    usable_size_of_the_inside_of_a_block_that_has_moved "not the start of a block, but 64 bytes into one of"
    free_twice_of_a_block_that_has_moved "there is no memory"
    realloc_of_a_freed_block_that_has_moved "there is no memory"
}

#[test]
fn free_of_the_inside_of_a_block_that_has_regions_of_its_own() {
    for size in [
        140_000,
        200_000,
        600_000,
        1_000_000,
        1_200_000,
        40_000_000,
        3_000_000_000_u64,
    ] {
        program("misuse.c")
            .case("free_of_the_inside_of_a_block_of_that_size")
            .arg(size.to_string())
            .on_hakmem()
            .aborts_with("not the start of a block");
    }
}

#[test]
fn free_of_a_mapping_of_the_programs_own_is_left_to_the_next_allocator() {
    use std::os::unix::process::ExitStatusExt;
    let ended = program("misuse.c")
        .case("free_of_a_mapping_of_the_programs_own")
        .on_hakmem()
        .end();
    // glibc's message, for there is nothing that hakmem could know of it.
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{ended}");
    assert!(ended.stderr.contains("invalid pointer"), "{ended}");
}
