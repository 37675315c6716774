// Thread-local variables that nearly fill a small stack, where the C library has them.

#include "case.h"
#include "tasks.h"

#include <pthread.h>
#include <unistd.h>

// With the C library's own a little less than 128 KiB.
static _Thread_local char variables[0x1e200];

enum { BLOCKS = 60000 };
static char *blocks[BLOCKS];

static void *free_most(void *unused) {
    variables[0] = 1;
    for (int i = 0; i < BLOCKS; i++) {
        CHECK((blocks[i] = malloc(200 + (size_t)i % 3000)) != NULL);
        memset(blocks[i], 1, 200);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (i % 9 != 0)
            free(blocks[i]);
    pause();
    return unused;
}

CASE(the_purge_thread_has_room_beside_them) {
    variables[1] = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_most, NULL) == 0);
    for (int patience = 3000; threads() != 3; patience--) {
        CHECK(patience > 0);
        usleep(1000);
        CHECK(malloc(40000) != NULL);
    }
    // It reaps what is in bins, and looks for free pages.
    for (int i = 0; i < 16; i++) {
        usleep(250000);
        for (int k = 0; k < 100; k++)
            free(malloc(40000));
    }
}
