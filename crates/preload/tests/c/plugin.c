// A C library that programs open at run time.

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

char *plugin_copies(const char *text) { return strdup(text); }

void plugin_frees(void *block) { free(block); }

void *plugin_reallocates(void *block, size_t size) { return realloc(block, size); }

