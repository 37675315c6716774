//! The contract of the malloc family at its edges: sizes of zero and beyond any
//! object, products that overflow, alignments, `errno`.
//!
//! Where glibc's behaviour is the norm, the same program runs on glibc too and
//! must print the same.

mod support;

statements_as_in_glibc! { "contract.c":
    malloc_of_zero_gives_unique_blocks
    malloc_beyond_any_object_is_enomem
    malloc_is_aligned_for_any_object_that_fits
    blocks_do_not_overlap
    calloc_whose_product_overflows_is_enomem
    calloc_beyond_any_object_is_enomem
    calloc_of_nothing_gives_unique_blocks
    calloc_zeroes_memory_that_was_used_before
    realloc_of_null_is_malloc
    realloc_to_zero_frees_and_returns_null
    realloc_beyond_any_object_keeps_the_block
    realloc_keeps_what_both_sizes_hold
    realloc_grows_step_by_step
    reallocarray_whose_product_overflows_keeps_the_block
    reallocarray_to_zero_frees_and_returns_null
    posix_memalign_refuses_what_is_not_a_power_of_two_of_pointers
    posix_memalign_without_memory_leaves_the_pointer
    posix_memalign_aligns_every_size
    an_alignment_that_no_address_space_has_is_enomem
    aligned_alloc_takes_any_size
    memalign_rounds_the_alignment_up
    memalign_to_more_than_half_the_address_space_is_einval
    memalign_beyond_any_object_is_enomem
    valloc_is_aligned_to_a_page
    pvalloc_gives_whole_pages
    aligned_blocks_can_be_reallocated
    free_of_null_does_nothing
    free_preserves_errno
    calls_that_succeed_preserve_errno
    usable_size_of_null_is_zero
    every_usable_byte_is_the_blocks_own
    mallopt_accepts_what_glibc_accepts
    malloc_trim_says_whether_memory_went_back
    mallinfo_counts_what_is_live
    mallinfo_adds_up
    malloc_info_writes_a_document
    malloc_info_refuses_options
}

// What the glibc of some systems does not have, or does not check.
statements! { "contract.c":
    aligned_alloc_refuses_what_is_not_a_power_of_two
    posix_memalign_without_memory_leaves_errno
    cfree_frees
    sized_frees_free
}

#[test]
fn malloc_stats_goes_to_standard_error() {
    let ended = support::program("contract.c")
        .case("malloc_stats_goes_to_standard_error")
        .on_hakmem()
        .ends_well();
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("hakmem: "), "{ended}");
    assert!(ended.stderr.contains("bytes live"), "{ended}");
    let words = ended.stderr.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    // What is live is of what is held, and of that what is free.
    let [live, held, free] = numbers[..3] else {
        panic!("{ended}");
    };
    assert!(free > 0 && live + free <= held, "{ended}");
}
