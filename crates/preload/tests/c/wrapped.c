// A program with functions of its own in front of the four that glibc's manual asks for, which
// call on by the names that glibc keeps for its own.

#define OF_THE_LIBRARY "posix_memalign"
#include "case.h"

#include <malloc.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

static int mallocs, callocs, reallocs, frees;

void *malloc(size_t size) {
    mallocs++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    callocs++;
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    reallocs++;
    return __libc_realloc(block, size);
}

void free(void *block) {
    frees++;
    __libc_free(block);
}

static const size_t sizes[] = {1, 100, 5000, 70000, 5000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

CASE(blocks_go_to_and_fro_between_all_functions) {
    for (int i = 0; i < SIZES; i++) {
        size_t size = sizes[i];
        void *aligned = NULL;
        CHECK(posix_memalign(&aligned, 64, size) == 0);
        memset(aligned, 1, size);
        free(aligned);
        free(memset(aligned_alloc(64, size), 2, size));
        free(memset(memalign(4096, size), 3, size));
        free(memset(valloc(size), 4, size));
        char *grown = malloc(size);
        memset(grown, 5, size);
        grown = realloc(grown, 2 * size);
        CHECK(grown[0] == 5 && grown[size - 1] == 5);
        free(grown);
        char *zeroed = calloc(size, 1);
        CHECK(zeroed[0] == 0 && zeroed[size - 1] == 0 && malloc_usable_size(zeroed) >= size);
        free(zeroed);
    }
}

CASE(reallocarray_calls_the_programs_realloc) {
    int before = reallocs;
    char *block = reallocarray(NULL, opaque(10), opaque(10));
    CHECK(block != NULL && reallocs == before + 1);
    memset(block, 7, 100);
    block = reallocarray(block, opaque(100), opaque(100));
    CHECK(reallocs == before + 2 && block[0] == 7 && block[99] == 7);
    errno = 0;
    CHECK(reallocarray(block, opaque(SIZE_MAX), opaque(2)) == NULL && errno == ENOMEM);
    CHECK(reallocs == before + 2);
    free(block);
}
