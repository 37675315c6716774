/* Calls malloc and free a given number of times, each size from a function of its own, so
 * that a profiler's call graph has one line per size. Blocks go back at once: after the
 * first call of each size every call takes the hit path. */
#include <stdlib.h>

#define PAIR(size)                                                              \
    __attribute__((noinline)) static void *malloc_##size(void) {                \
        void *block = malloc(size);                                             \
        __asm__ volatile("" : : "r"(block) : "memory"); /* not a tail call */   \
        return block;                                                           \
    }                                                                           \
    __attribute__((noinline)) static void free_##size(void *block) {            \
        free(block);                                                            \
        __asm__ volatile("" : : : "memory");                                    \
    }

PAIR(64)
PAIR(1024)
PAIR(1025)
PAIR(16384)
PAIR(32768)
PAIR(131072)

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 1;
    for (long round = 0; round < rounds; round++) {
        free_64(malloc_64());
        free_1024(malloc_1024());
        free_1025(malloc_1025());
        free_16384(malloc_16384());
        free_32768(malloc_32768());
        free_131072(malloc_131072());
    }
    return 0;
}
