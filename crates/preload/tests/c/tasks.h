// How many threads a test program has.

#ifndef TASKS_H
#define TASKS_H

#include "case.h"

#include <sys/stat.h>

static int threads(void) {
    struct stat tasks;
    CHECK(stat("/proc/self/task", &tasks) == 0);
    return (int)tasks.st_nlink - 2;
}

#endif
