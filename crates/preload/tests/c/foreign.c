// Blocks of another allocator, which stands behind the preloaded one: here the
// C library's own.

#include "case.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

// Its function of this name, which is not the preloaded library's.
static void *of_libc(const char *name) {
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    CHECK(libc != NULL);
    void *found = dlsym(libc, name);
    CHECK(found != NULL && found != dlsym(RTLD_DEFAULT, name));
    return found;
}

static void *libc_malloc(size_t size) {
    return ((void *(*)(size_t))of_libc("malloc"))(size);
}

static void *libc_memalign(size_t alignment, size_t size) {
    return ((void *(*)(size_t, size_t))of_libc("memalign"))(alignment, size);
}

static size_t sizes[] = {1, 24, 100, 5000, 200000, 5000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void free_all(void) {
    for (int i = 0; i < SIZES; i++) {
        for (int round = 0; round < 100; round++) {
            void *block = libc_malloc(sizes[i]);
            CHECK(block != NULL);
            errno = 77;
            free(block);
            CHECK(errno == 77);
        }
    }
}

CASE(free_passes_a_foreign_block_on) {
    free_all();
}

static void *free_all_in_a_thread(void *unused) {
    free_all();
    return unused;
}

CASE(free_passes_a_foreign_block_on_in_threads) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, free_all_in_a_thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

CASE(realloc_of_a_foreign_block_keeps_its_contents) {
    for (int i = 0; i < SIZES; i++) {
        char *block = libc_malloc(sizes[i]);
        memset(block, 'x', sizes[i]);
        block = realloc(block, 3 * sizes[i]);
        CHECK(block != NULL);
        for (size_t k = 0; k < sizes[i]; k++)
            CHECK(block[k] == 'x');
        memset(block, 'y', 3 * sizes[i]);
        free(block);
    }
}

CASE(realloc_of_a_foreign_block_to_zero_frees_it) {
    // 20 GB if it did not.
    for (int round = 0; round < 20000; round++) {
        char *block = libc_malloc(1000000);
        CHECK(block != NULL);
        block[0] = 1;
        CHECK(realloc(block, opaque(0)) == NULL);
    }
}

CASE(usable_size_of_a_foreign_block_is_its_own) {
    for (int i = 0; i < SIZES; i++) {
        void *block = libc_malloc(sizes[i]);
        CHECK(malloc_usable_size(block) >= sizes[i]);
        CHECK(malloc_usable_size(block) < sizes[i] + 8192);
        free(block);
    }
}

CASE(free_passes_an_aligned_foreign_block_on) {
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 2) {
        void *block = libc_memalign(alignment, 1000);
        CHECK(block != NULL);
        free(block);
    }
}

static void *blocks[SIZES];

static void free_blocks(void) {
    for (int i = 0; i < SIZES; i++)
        free(blocks[i]);
}

// In the child the thread is the main one, on a stack that lies among the mappings.
static void *fork_and_free(void *unused) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        free_blocks();
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    free_blocks();
    return unused;
}

CASE(the_child_of_a_threads_fork_passes_a_foreign_block_on) {
    // Those that are mappings lie above the next one, the thread's stack.
    for (int i = 0; i < SIZES; i++)
        CHECK((blocks[i] = libc_malloc(sizes[i])) != NULL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, fork_and_free, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

static int told[2], done[2];

static void *free_when_told(void *block) {
    char go;
    CHECK(read(told[0], &go, 1) == 1);
    free(block);
    CHECK(write(done[1], "x", 1) == 1);
    return NULL;
}

// The loader's lock is held meanwhile. The second argument is a library whose constructor waits.
CASE(free_passes_a_foreign_block_on_while_a_constructor_waits_for_it) {
    alarm(60);
    char number[2][20];
    CHECK(pipe(told) == 0 && pipe(done) == 0);
    sprintf(number[0], "%d", told[1]);
    sprintf(number[1], "%d", done[0]);
    CHECK(setenv("TELLS", number[0], 1) == 0 && setenv("HEARS", number[1], 1) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_when_told, libc_malloc(100)) == 0);
    CHECK(dlopen(case_arguments[2], RTLD_NOW) != NULL);
    CHECK(pthread_join(thread, NULL) == 0);
}
