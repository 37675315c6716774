// The frees of C23 and of old, in a program with a `free` of its own.

#define OF_THE_LIBRARY "malloc"
#include "case.h"

void __libc_free(void *);

static int frees;

void free(void *block) {
    frees++;
    __libc_free(block);
}

static void *function(const char *name) {
    void *found = dlsym(RTLD_DEFAULT, name);
    CHECK(found != NULL);
    return found;
}

CASE(every_kind_of_free_calls_the_programs) {
    void (*cfree)(void *) = (void (*)(void *))function("cfree");
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))function("free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))function("free_aligned_sized");
    int before = frees;
    cfree(malloc(100));
    CHECK(frees == before + 1);
    free_sized(malloc(100), 100);
    CHECK(frees == before + 2);
    free_aligned_sized(aligned_alloc(64, 128), 64, 128);
    CHECK(frees == before + 3);
}
