// The library opened at run time, in a program whose malloc is another.
// The second argument is the library.

#include "case.h"

#include <pthread.h>

static void *library;

static void *find(const char *name) {
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    return found;
}

static void *(*its_malloc)(size_t);
static void (*its_free)(void *);
static void *(*its_realloc)(void *, size_t);
static size_t (*its_usable_size)(void *);

static void open_library(int mode) {
    library = dlopen(case_arguments[2], RTLD_NOW | mode);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    its_malloc = (void *(*)(size_t))find("malloc");
    its_free = (void (*)(void *))find("free");
    its_realloc = (void *(*)(void *, size_t))find("realloc");
    its_usable_size = (size_t(*)(void *))find("malloc_usable_size");
    Dl_info info;
    CHECK(dladdr(find("malloc"), &info) != 0 && strstr(info.dli_fname, "libhakmem.so") != NULL);
}

static void use_it(void) {
    for (int round = 0; round < 20; round++) {
        void *blocks[200];
        for (int i = 0; i < 200; i++) {
            blocks[i] = its_malloc((size_t)i * i * 3);
            CHECK(blocks[i] != NULL);
            memset(blocks[i], i, (size_t)i * i * 3);
        }
        for (int i = 0; i < 200; i++)
            its_free(blocks[i]);
    }
}

static void *use_it_in_a_thread(void *unused) {
    use_it();
    return unused;
}

static void use_it_in_threads(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, use_it_in_a_thread, NULL) == 0);
    use_it();
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

CASE(opened_for_its_opener_alone_it_works_beside_another_malloc) {
    open_library(RTLD_LOCAL);
    CHECK(its_malloc != malloc);
    use_it_in_threads();
}

CASE(opened_for_all_it_works_beside_another_malloc) {
    open_library(RTLD_GLOBAL);
    use_it_in_threads();
}

CASE(opened_at_run_time_it_passes_the_programs_blocks_on) {
    char *before = malloc(100), *large_before = malloc(5000000);
    open_library(RTLD_LOCAL);
    CHECK(its_usable_size(before) >= 100 && its_usable_size(before) < 200);
    strcpy(before, "kept");
    before = its_realloc(before, 100000);
    CHECK(strcmp(before, "kept") == 0);
    its_free(before);
    its_free(large_before);
    for (int i = 0; i < 1000; i++)
        its_free(malloc((size_t)i * 100));
}

CASE(closed_it_stays_for_the_blocks_it_gave) {
    open_library(RTLD_LOCAL);
    char *block = its_malloc(1000);
    memset(block, 'x', 1000);
    use_it_in_threads();
    CHECK(dlclose(library) == 0);
    CHECK(block[999] == 'x');
    its_free(block);
    use_it();
    // Hooks of the closed library must not be lost to the end of a thread.
    use_it_in_threads();
    void *again = dlopen(case_arguments[2], RTLD_NOW | RTLD_NOLOAD);
    CHECK(again != NULL);
}

CASE(opened_and_closed_many_times_it_stays_one) {
    void *first = NULL;
    for (int i = 0; i < 200; i++) {
        open_library(i % 2 == 0 ? RTLD_LOCAL : RTLD_GLOBAL);
        if (first == NULL)
            first = find("malloc");
        CHECK(find("malloc") == first);
        its_free(its_malloc(100));
        CHECK(dlclose(library) == 0);
    }
}

static void *open_in_a_thread(void *unused) {
    void *own = dlopen(case_arguments[2], RTLD_NOW | RTLD_LOCAL);
    CHECK(own != NULL);
    void *(*own_malloc)(size_t) = (void *(*)(size_t))dlsym(own, "malloc");
    void (*own_free)(void *) = (void (*)(void *))dlsym(own, "free");
    for (int i = 0; i < 1000; i++)
        own_free(own_malloc((size_t)i));
    return unused;
}

CASE(opened_by_a_thread_that_ends_it_serves_the_others) {
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, open_in_a_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    open_library(RTLD_LOCAL);
    use_it_in_threads();
}

CASE(a_thread_older_than_the_library_uses_it) {
    // Its thread-local storage is there already and is filled in late.
    pthread_t thread;
    static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&gate);
    extern void *wait_then_use(void *);
    CHECK(pthread_create(&thread, NULL, wait_then_use, &gate) == 0);
    open_library(RTLD_LOCAL);
    pthread_mutex_unlock(&gate);
    CHECK(pthread_join(thread, NULL) == 0);
}

void *wait_then_use(void *gate) {
    pthread_mutex_lock(gate);
    use_it();
    pthread_mutex_unlock(gate);
    return NULL;
}
