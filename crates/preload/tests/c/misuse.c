// Programs that give the allocator what it never returned. Each case must end
// in an abort with a message; one that comes to its end has failed.

#include "case.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static char static_buffer[4096] = {1};
static char zeroed_buffer[1 << 20];
char exported_buffer[4096] = {1};

// Keeps the compiler from seeing what is freed.
static void *volatile hidden;
static void *hide(const void *pointer) {
    hidden = (void *)pointer;
    return hidden;
}

CASE(free_of_a_local_variable) {
    char local[64] = {0};
    free(hide(local + 16));
}

CASE(free_of_the_argument_list) {
    free(hide(case_arguments));
}

CASE(free_of_an_argument) {
    free(hide(case_arguments[1]));
}

__attribute__((noinline)) static void *ended_frame(void) {
    char local[1024] = {0};
    return hide(local);
}

CASE(free_of_a_frame_that_ended) {
    free(ended_frame());
}

static void *free_local(void *unused) {
    char local[64] = {0};
    free(hide(local + 16));
    return unused;
}

CASE(free_of_a_local_variable_of_a_thread) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_local, NULL) == 0);
    pthread_join(thread, NULL);
}

CASE(free_of_a_static_variable) {
    free(hide(static_buffer + 16));
}

CASE(free_of_a_zeroed_static_variable) {
    free(hide(zeroed_buffer + (1 << 19)));
}

CASE(free_of_an_exported_variable) {
    free(hide(&stdout));
}

CASE(free_of_a_string_literal) {
    free(hide("a string literal"));
}

CASE(free_of_a_function) {
    free(hide((void *)(uintptr_t)malloc_trim));
}

CASE(realloc_of_a_local_variable) {
    char local[64] = {0};
    hide(realloc(hide(local + 16), 100));
}

CASE(realloc_to_zero_of_a_local_variable) {
    char local[64] = {0};
    hide(realloc(hide(local + 16), opaque(0)));
}

CASE(reallocarray_of_a_static_variable) {
    hide(reallocarray(hide(static_buffer + 16), 10, 10));
}

CASE(usable_size_of_a_static_variable) {
    printf("%zu\n", malloc_usable_size(hide(static_buffer + 16)));
}

CASE(free_twice_of_a_large_block) {
    void *block = malloc(8 << 20);
    memset(block, 1, 8 << 20);
    hide(block);
    free(hidden);
    free(hidden);
}

CASE(free_twice_of_a_very_large_block) {
    void *block = malloc(300 << 20);
    hide(block);
    free(hidden);
    free(hidden);
}

/* Two blocks in a row, both freed: the second one's start lies inside the free run then. */
static char *freed_behind_another(void) {
    enum { MIB = 1 << 20, BYTES = 5 * MIB };
    char *first = malloc(BYTES), *second = malloc(BYTES);
    void *last = malloc(BYTES);
    CHECK(second > first && second - first < BYTES + MIB / 4 && last != NULL);
    free(first);
    hide(second);
    free(hidden);
    return hidden;
}

CASE(free_twice_of_a_large_block_behind_a_free_one) {
    free(freed_behind_another());
}

CASE(free_of_the_inside_of_a_freed_large_block) {
    free(freed_behind_another() + (1 << 20));
}

CASE(free_twice_of_a_page_aligned_large_block) {
    void *block = memalign(1 << 20, 5 << 20);
    hide(block);
    free(hidden);
    free(hidden);
}

CASE(realloc_of_a_freed_large_block) {
    void *block = malloc(8 << 20);
    hide(block);
    free(hidden);
    hide(realloc(hidden, 9 << 20));
}

CASE(usable_size_of_a_freed_large_block) {
    void *block = malloc(8 << 20);
    hide(block);
    free(hidden);
    printf("%zu\n", malloc_usable_size(hidden));
}

CASE(free_of_the_inside_of_a_large_block) {
    char *block = malloc(8 << 20);
    free(hide(block + (4 << 20)));
}

CASE(free_just_behind_the_start_of_a_large_block) {
    char *block = malloc(8 << 20);
    free(hide(block + 16));
}

CASE(realloc_of_the_inside_of_a_large_block) {
    char *block = malloc(8 << 20);
    hide(realloc(hide(block + (4 << 20)), 100));
}

CASE(free_of_the_inside_of_a_middling_block) {
    char *block = malloc(300000);
    free(hide(block + 131072));
}

// The second argument is the size.
CASE(free_of_the_inside_of_a_block_of_that_size) {
    size_t size = strtoul(case_arguments[2], NULL, 10);
    char *block = malloc(size);
    free(hide(block + size / 2 / 16 * 16 + 8));
}

CASE(free_of_a_mapping_of_the_programs_own) {
    char *mapping = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mapping != MAP_FAILED);
    free(hide(mapping + 4096));
}

CASE(delete_of_a_local_variable) {
    void (*operator_delete)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    CHECK(operator_delete != NULL);
    char local[64] = {0};
    operator_delete(hide(local + 16));
}

// A block so large that growing it gave it a mapping of its own.
static char *moved(void) {
    char *block = malloc(40 << 20);
    CHECK(block != NULL);
    memset(block, 1, 40 << 20);
    CHECK(malloc(100000) != NULL);
    block = realloc(block, 200 << 20);
    CHECK(block != NULL && block[0] == 1);
    return block;
}

CASE(free_of_the_inside_of_a_block_that_has_moved) {
    free(hide(moved() + 4096));
}

CASE(realloc_of_the_inside_of_a_block_that_has_moved) {
    hide(realloc(hide(moved() + 64), 100));
}

CASE(usable_size_of_the_inside_of_a_block_that_has_moved) {
    printf("%zu\n", malloc_usable_size(hide(moved() + 64)));
}

CASE(free_twice_of_a_block_that_has_moved) {
    hide(moved());
    free(hidden);
    free(hidden);
}

CASE(realloc_of_a_freed_block_that_has_moved) {
    hide(moved());
    free(hidden);
    hide(realloc(hidden, 100));
}
