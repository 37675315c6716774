// A C program, without a C++ runtime, or with one only in a library that it
// opens.

#include "case.h"

CASE(new_finds_memory_without_a_runtime) {
    void *(*operator_new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    void (*operator_delete)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    CHECK(operator_new != NULL && operator_delete != NULL);
    void *block = operator_new(100);
    CHECK(block != NULL);
    operator_delete(block);
}

CASE(new_fails_without_a_runtime) {
    void *(*operator_new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    CHECK(operator_new != NULL);
    operator_new(opaque(PTRDIFF_MAX - 4096));
}

CASE(nothrow_new_returns_null_without_a_runtime) {
    const char *names[] = {"_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t"};
    for (int i = 0; i < 2; i++) {
        void *(*nothrow_new)(size_t, void *) = (void *(*)(size_t, void *))dlsym(RTLD_DEFAULT, names[i]);
        CHECK(nothrow_new != NULL);
        CHECK(nothrow_new(opaque(PTRDIFF_MAX - 4096), NULL) == NULL);
    }
    const char *aligned[] = {"_ZnwmSt11align_val_tRKSt9nothrow_t", "_ZnamSt11align_val_tRKSt9nothrow_t"};
    for (int i = 0; i < 2; i++) {
        void *(*nothrow_new)(size_t, size_t, void *) =
            (void *(*)(size_t, size_t, void *))dlsym(RTLD_DEFAULT, aligned[i]);
        CHECK(nothrow_new != NULL);
        CHECK(nothrow_new(opaque(PTRDIFF_MAX - 4096), 64, NULL) == NULL);
    }
}

// The second argument is the library.
CASE(a_library_with_its_own_runtime_catches_bad_alloc) {
    CHECK(dlsym(RTLD_DEFAULT, "_ZSt9terminatev") == NULL);
    void *library = dlopen(case_arguments[2], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    int (*catches)(void) = (int (*)(void))dlsym(library, "plugin_catches_bad_alloc");
    void *(*news)(void) = (void *(*)(void))dlsym(library, "plugin_news");
    void (*deletes)(void *) = (void (*)(void *))dlsym(library, "plugin_deletes");
    CHECK(catches != NULL && news != NULL && deletes != NULL);
    CHECK(catches() == 4);
    deletes(news());
    CHECK(dlclose(library) == 0);
}
