// The frame of a test program: cases, and the main function that runs the one
// named by the first argument.

#ifndef CASE_H
#define CASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct named_case {
    const char *name;
    void (*run)(void);
};

static struct named_case all_cases[128];
static int case_count;
static char **case_arguments;

// Defines a case and puts it on the list before main starts.
#define CASE(statement)                                                \
    static void statement(void);                                       \
    __attribute__((constructor)) static void list_##statement(void) {  \
        all_cases[case_count].name = #statement;                       \
        all_cases[case_count++].run = statement;                       \
    }                                                                  \
    static void statement(void)

// Ends the program when a condition does not hold.
#define CHECK(condition)                                               \
    do {                                                               \
        if (!(condition)) {                                            \
            fprintf(stderr, "%s:%d: does not hold: %s (errno %d)\n",   \
                    __FILE__, __LINE__, #condition, errno);            \
            _Exit(1);                                                  \
        }                                                              \
    } while (0)

// Sizes and alignments that the compiler must not see through.
static volatile size_t opaque_value;
__attribute__((unused)) static size_t opaque(size_t value) {
    opaque_value = value;
    return opaque_value;
}

// A function of the library's that the program itself does not replace.
#ifndef OF_THE_LIBRARY
#define OF_THE_LIBRARY "malloc"
#endif

// The C library's malloc must be out of the way when another is preloaded.
static void check_whose_malloc(void) {
    if (getenv("LD_PRELOAD") == NULL)
        return;
    Dl_info info;
    void *found = dlsym(RTLD_DEFAULT, OF_THE_LIBRARY);
    if (found == NULL || dladdr(found, &info) == 0 || strstr(info.dli_fname, "libhakmem.so") == NULL) {
        fprintf(stderr, "malloc is not libhakmem.so's\n");
        _Exit(3);
    }
}

int main(int count, char **arguments) {
    check_whose_malloc();
    case_arguments = arguments;
    for (int i = 0; count > 1 && i < case_count; i++) {
        if (strcmp(all_cases[i].name, arguments[1]) == 0) {
            all_cases[i].run();
            return 0;
        }
    }
    fprintf(stderr, "no such case\n");
    return 2;
}

#endif
