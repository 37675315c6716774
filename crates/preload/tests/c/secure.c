// A program that is linked with the library, for runs with more rights than whoever starts it has.

#include "case.h"
#include "tasks.h"

#include <sys/auxv.h>

// Twice what a purge thread is started for.
enum { BLOCKS = 32 << 10, SIZE = 1000 };
static void *blocks[BLOCKS];

CASE(what_settings_there_are) {
    Dl_info info;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) != 0 && strstr(info.dli_fname, "libhakmem.so") != NULL);
    int most = 1;
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < BLOCKS; i++)
            CHECK((blocks[i] = malloc(SIZE)) != NULL);
        for (int i = 0; i < BLOCKS; i++)
            free(blocks[i]);
        if (threads() > most)
            most = threads();
    }
    printf("secure %lu, threads %d\n", getauxval(AT_SECURE), most);
}
