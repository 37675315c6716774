// A program with a getenv of its own, which allocates.

#include "case.h"

extern char **environ;

char *getenv(const char *name) {
    char *copy = malloc(strlen(name) + 2);
    sprintf(copy, "%s=", name);
    char *found = NULL;
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, copy, strlen(copy)) == 0)
            found = *entry + strlen(copy);
    free(copy);
    return found;
}

CASE(a_program_may_have_a_getenv_that_allocates) {
    free(malloc(100));
}
