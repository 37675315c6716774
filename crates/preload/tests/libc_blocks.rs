//! Memory that the C library allocates and the program frees.

mod support;

statements_as_in_glibc! { "libc.c":
    getline_grows_the_programs_block
    asprintf_gives_a_block_to_free
    strdup_gives_a_block_to_free
    realpath_gives_a_block_to_free
    open_memstream_gives_a_block_to_free
    scandir_gives_blocks_to_free
    the_librarys_own_structures_come_and_go
    setenv_and_clearenv_keep_working
    streams_with_buffers_of_their_own_come_and_go
}
