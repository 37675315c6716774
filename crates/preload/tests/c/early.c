// A library whose constructor registers fork handlers before anybody has allocated.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

// Enough of each size to go past what a thread has at hand.
static void allocate(void) {
    enum { N = 300 };
    static void *blocks[N];
    static const size_t sizes[] = {16, 500, 5000, 30000, 100000, 3 << 20};
    for (unsigned size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        int count = sizes[size] > 10000 ? 30 : N;
        for (int i = 0; i < count; i++)
            if ((blocks[i] = malloc(sizes[size])) == NULL)
                abort();
        for (int i = 0; i < count; i++)
            free(blocks[i]);
    }
}

__attribute__((constructor)) static void start(void) {
    pthread_atfork(allocate, allocate, allocate);
}
