// A program on the preloaded library that opens others.

#include "case.h"

#include <pthread.h>

static void *open_plugin(const char *path, int mode) {
    void *library = dlopen(path, mode);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    return library;
}

static void use(void *library) {
    char *(*copies)(const char *) = (char *(*)(const char *))dlsym(library, "plugin_copies");
    void (*frees)(void *) = (void (*)(void *))dlsym(library, "plugin_frees");
    void *(*reallocates)(void *, size_t) = (void *(*)(void *, size_t))dlsym(library, "plugin_reallocates");
    CHECK(copies != NULL && frees != NULL && reallocates != NULL);
    for (size_t size = 1; size < 3000000; size = size * 3 + 1) {
        char *block = malloc(size);
        memset(block, 'x', size - 1);
        block[size - 1] = 0;
        char *copy = copies(block);
        block = reallocates(block, 2 * size);
        CHECK(block != NULL && strcmp(block, copy) == 0);
        frees(block);
        free(copy);
    }
    CHECK(dlclose(library) == 0);
}

// The second argument is the library's path.
CASE(a_library_opened_with_deepbind_uses_the_programs_malloc) {
    use(open_plugin(case_arguments[2], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND));
}

CASE(a_library_opened_with_deepbind_by_namespace_uses_the_programs_malloc) {
    void *library = dlmopen(LM_ID_BASE, case_arguments[2], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    CHECK(library != NULL);
    use(library);
}

// It has a C library of its own, and that one's malloc.
CASE(a_library_opened_in_a_new_namespace_has_its_own_malloc) {
    void *library = dlmopen(LM_ID_NEWLM, case_arguments[2], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    char *(*copies)(const char *) = (char *(*)(const char *))dlsym(library, "plugin_copies");
    void (*frees)(void *) = (void (*)(void *))dlsym(library, "plugin_frees");
    CHECK(copies != NULL && frees != NULL);
    char *copy = copies("text");
    CHECK(strcmp(copy, "text") == 0);
    frees(copy);
    CHECK(dlclose(library) == 0);
}

// The second argument is the library's name, which only the search path that
// is written into this program finds.
CASE(dlopen_searches_where_its_caller_says) {
    CHECK(strchr(case_arguments[2], '/') == NULL);
    CHECK(dlclose(open_plugin(case_arguments[2], RTLD_NOW)) == 0);
}

CASE(dlopen_of_nothing_is_the_program) {
    void *program = open_plugin(NULL, RTLD_LAZY);
    CHECK(dlsym(program, "malloc") == dlsym(RTLD_DEFAULT, "malloc"));
    CHECK(dlclose(program) == 0);
}

CASE(dlopen_of_what_is_not_there_says_so) {
    CHECK(dlopen("/nowhere/libnothing.so", RTLD_NOW) == NULL);
    const char *message = dlerror();
    CHECK(message != NULL && strstr(message, "libnothing.so") != NULL);
    puts(message);
    CHECK(dlerror() == NULL);
}

static void *open_and_close(void *unused) {
    for (int i = 0; i < 100; i++) {
        char *(*copies)(const char *);
        void *library = open_plugin(case_arguments[2], RTLD_NOW | RTLD_LOCAL);
        copies = (char *(*)(const char *))dlsym(library, "plugin_copies");
        free(copies("a few words"));
        CHECK(dlclose(library) == 0);
    }
    return unused;
}

// The second argument is the library's path.
CASE(threads_open_and_close_libraries_at_once) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, open_and_close, NULL) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}
