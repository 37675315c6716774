// Memory that runs out, and comes back.

#include "case.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MEGABYTE ((size_t)1 << 20)

// Limits a resource to what the program has of it, by statm's figure of that
// number, and `more` bytes.
static void limit_to(int resource, int figure, size_t more) {
    size_t figures[7];
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL);
    for (int i = 0; i < 7; i++)
        CHECK(fscanf(statm, "%zu", &figures[i]) == 1);
    fclose(statm);
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = figures[figure] * (size_t)sysconf(_SC_PAGESIZE) + more;
    CHECK(setrlimit(resource, &limit) == 0);
}

static void limit_address_space(size_t more) {
    limit_to(RLIMIT_AS, 0, more);
}

static void limit_data(size_t more) {
    limit_to(RLIMIT_DATA, 5, more);
}

static void lift(int resource) {
    struct rlimit limit;
    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(resource, &limit) == 0);
}

// A list through the blocks, so that keeping track needs no memory.
struct link {
    struct link *next;
    size_t size;
};

static struct link *taken;

// Takes blocks of a size until there are no more; returns the bytes taken.
static size_t exhaust(size_t size, size_t at_most) {
    size_t total = 0;
    for (;;) {
        errno = 0;
        struct link *block = malloc(size);
        if (block == NULL)
            break;
        memset(block, 0x5a, size);
        block->next = taken;
        block->size = size;
        taken = block;
        total += size;
        // Without this a limit that does not hold would take the machine down.
        CHECK(total <= at_most);
    }
    CHECK(errno == ENOMEM);
    return total;
}

static void give_back(void) {
    while (taken != NULL) {
        struct link *next = taken->next;
        for (size_t i = sizeof *taken; i < taken->size; i += 61)
            CHECK(((unsigned char *)taken)[i] == 0x5a);
        free(taken);
        taken = next;
    }
}

// Every function says ENOMEM, none harms what is there.
static void expect_enomem_of(size_t size) {
    void *block;
    errno = 0;
    CHECK(malloc(size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(1, size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(realloc(NULL, size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_alloc(4096, size) == NULL && errno == ENOMEM);
    CHECK(posix_memalign(&block, 4096, size) == ENOMEM);
    if (taken != NULL) {
        errno = 0;
        CHECK(realloc(taken, size + taken->size) == NULL && errno == ENOMEM);
    }
}

static const size_t sizes[] = {16, 100, 1000, 5000, 40000, 300000, 3000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

CASE(a_limit_of_address_space_is_enomem_and_freeing_helps) {
    limit_address_space(200 * MEGABYTE);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SIZES; i++) {
            // At least half of what is allowed must be usable, in every round.
            CHECK(exhaust(sizes[i], 400 * MEGABYTE) > 100 * MEGABYTE);
            expect_enomem_of(100 * MEGABYTE);
            give_back();
        }
    }
}

CASE(a_limit_of_address_space_is_enomem_and_raising_it_helps) {
    limit_address_space(50 * MEGABYTE);
    for (int i = 0; i < SIZES; i++) {
        exhaust(sizes[i], 400 * MEGABYTE);
        expect_enomem_of(100 * MEGABYTE);
    }
    lift(RLIMIT_AS);
    void *block = malloc(300 * MEGABYTE);
    CHECK(block != NULL);
    free(block);
    for (int i = 0; i < 1000; i++) {
        struct link *more = malloc(5000);
        CHECK(more != NULL);
        memset(more, 0x5a, 5000);
        more->size = 5000;
        more->next = taken;
        taken = more;
    }
    give_back();
}

CASE(a_limit_of_data_is_enomem_and_freeing_helps) {
    limit_data(200 * MEGABYTE);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SIZES; i++) {
            CHECK(exhaust(sizes[i], 400 * MEGABYTE) > 100 * MEGABYTE);
            expect_enomem_of(100 * MEGABYTE);
            give_back();
        }
    }
}

CASE(a_limit_of_data_is_enomem_and_raising_it_helps) {
    limit_data(50 * MEGABYTE);
    for (int i = 0; i < SIZES; i++) {
        exhaust(sizes[i], 400 * MEGABYTE);
        expect_enomem_of(100 * MEGABYTE);
    }
    lift(RLIMIT_DATA);
    void *block = malloc(300 * MEGABYTE);
    CHECK(block != NULL);
    free(block);
    give_back();
}

static atomic_int starting = 8;

static void *exhaust_in_a_thread(void *unused) {
    atomic_fetch_sub(&starting, 1);
    while (atomic_load(&starting) != 0)
        ;
    struct link *mine = NULL;
    for (int round = 0; round < 5; round++) {
        size_t total = 0;
        for (int i = round;; i++) {
            size_t size = sizes[i % SIZES];
            CHECK((total += size) <= 300 * MEGABYTE);
            struct link *block = malloc(size);
            if (block == NULL)
                break;
            memset(block, 0x5a, size);
            block->next = mine;
            block->size = size;
            mine = block;
        }
        while (mine != NULL) {
            struct link *next = mine->next;
            CHECK(mine->size == sizeof *mine || ((unsigned char *)mine)[mine->size - 1] == 0x5a);
            free(mine);
            mine = next;
        }
    }
    return unused;
}

CASE(threads_that_run_out_together_recover_together) {
    pthread_t threads[8];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    limit_address_space(150 * MEGABYTE);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], &small, exhaust_in_a_thread, NULL) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    void *block = malloc(50 * MEGABYTE);
    CHECK(block != NULL);
    free(block);
}

static atomic_int memory_is_gone, memory_is_back, failed, done;

static void *allocate_without_and_with_memory(void *unused) {
    while (!atomic_load(&memory_is_gone))
        usleep(100);
    // This thread's first calls. A few may succeed, with what others freed.
    void *blocks[100];
    for (int i = 0; i < 100; i++) {
        blocks[i] = malloc(300000);
        if (blocks[i] == NULL)
            atomic_fetch_add(&failed, 1);
    }
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    atomic_store(&done, 1);
    while (!atomic_load(&memory_is_back))
        usleep(100);
    for (int i = 0; i < 100; i++)
        CHECK((blocks[i] = malloc(64)) != NULL);
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    return unused;
}

CASE(a_threads_first_call_without_memory_gives_null) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocate_without_and_with_memory, NULL) == 0);
    limit_address_space(20 * MEGABYTE);
    for (int i = SIZES - 1; i >= 0; i--)
        exhaust(sizes[i], 100 * MEGABYTE);
    atomic_store(&memory_is_gone, 1);
    while (!atomic_load(&done))
        usleep(100);
    CHECK(atomic_load(&failed) > 0);
    give_back();
    atomic_store(&memory_is_back, 1);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void *allocate_a_little(void *unused) {
    while (!atomic_load(&memory_is_back))
        usleep(100);
    void *blocks[100];
    for (int i = 0; i < 100; i++)
        CHECK((blocks[i] = malloc(64)) != NULL);
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    return unused;
}

// The second argument is the limit that was set before the program started.
CASE(a_program_starts_and_works_under_a_small_limit) {
    size_t limit = strtoul(case_arguments[2], NULL, 10);
    // Their stacks are the system's and need room under the limit too.
    pthread_t threads[4];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], &small, allocate_a_little, NULL) == 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SIZES; i++) {
            // A third of it at least is the program's to use.
            CHECK(exhaust(sizes[i], limit) > limit / 3);
            give_back();
        }
    }
    atomic_store(&memory_is_back, 1);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static size_t status_kilobytes(const char *field) {
    char line[200];
    size_t value = 0;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = strtoul(line + strlen(field), NULL, 10);
    fclose(status);
    return value;
}

static void work_locked(void) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < SIZES; i++) {
            void *blocks[20];
            for (int k = 0; k < 20; k++) {
                CHECK((blocks[k] = malloc(sizes[i])) != NULL);
                memset(blocks[k], 1, sizes[i]);
            }
            for (int k = 0; k < 20; k++)
                free(blocks[k]);
        }
    }
}

CASE(memory_locked_for_the_future_is_only_what_is_used) {
    // As root, or with a limit that leaves enough.
    lift(RLIMIT_MEMLOCK);
    CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    void *blocks[100];
    for (int i = 0; i < 100; i++)
        CHECK((blocks[i] = malloc(1000)) != NULL);
    // Address space that is only reserved must not be backed by memory.
    CHECK(status_kilobytes("VmRSS:") < 64 << 10);
    work_locked();
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    CHECK(status_kilobytes("VmRSS:") < 256 << 10);
}

// The second argument is the library: what it reserves, it reserves locked.
CASE(a_library_opened_under_mlockall_locks_only_what_is_used) {
    lift(RLIMIT_MEMLOCK);
    CHECK(mlockall(MCL_FUTURE) == 0);
    void *library = dlopen(case_arguments[2], RTLD_NOW);
    CHECK(library != NULL);
    void *(*its_malloc)(size_t) = (void *(*)(size_t))dlsym(library, "malloc");
    void (*its_free)(void *) = (void (*)(void *))dlsym(library, "free");
    for (int i = 0; i < 20000; i++) {
        char *block = its_malloc((size_t)i);
        CHECK(block != NULL);
        memset(block, 1, (size_t)i);
        its_free(block);
    }
    CHECK(status_kilobytes("VmRSS:") < 64 << 10);
}

// Such a page is not to be swapped out soon.
static int is_locked(char *inside) {
    char *page = inside + 4096 - (uintptr_t)inside % 4096;
    return madvise(page, 4096, MADV_COLD) != 0 && errno == EINVAL;
}

// What is left in place of pages that move is not locked, nor is what lies beside it then.
CASE(a_locked_block_that_grows_leaves_its_neighbours_locked) {
    lift(RLIMIT_MEMLOCK);
    CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    char *block = malloc(40 * MEGABYTE), *other = malloc(40 * MEGABYTE), *neighbour = malloc(200 * MEGABYTE);
    CHECK(block != NULL && other != NULL && neighbour != NULL);
    memset(block, 'x', 40 * MEGABYTE);
    CHECK(is_locked(block) && is_locked(neighbour));
    block = realloc(block, 100 * MEGABYTE);
    CHECK(block != NULL && block[40 * MEGABYTE - 1] == 'x');
    CHECK(is_locked(block) && is_locked(other) && is_locked(neighbour));
    free(block);
    free(other);
    free(neighbour);
}

CASE(a_request_beyond_the_limit_takes_nothing) {
    free(malloc(MEGABYTE));
    char *block = malloc(50 * MEGABYTE);
    CHECK(block != NULL);
    limit_address_space(1000 * MEGABYTE);
    for (size_t gigabytes = 2; gigabytes <= 800; gigabytes *= 2) {
        size_t size = opaque(gigabytes << 30);
        void *aligned = NULL;
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        CHECK(calloc(1, size) == NULL && realloc(block, size) == NULL);
        // There may be such a place nearby.
        if (posix_memalign(&aligned, size, 100) == 0)
            free(aligned);
    }
    // Nor is any of it lost to what comes next.
    char *large = malloc(800 * MEGABYTE);
    CHECK(large != NULL);
    free(large);
    free(block);
}

CASE(a_failed_growth_keeps_the_block) {
    char *block = malloc(20 * MEGABYTE);
    CHECK(block != NULL);
    memset(block, 'x', 20 * MEGABYTE);
    limit_address_space(10 * MEGABYTE);
    errno = 0;
    CHECK(realloc(block, 200 * MEGABYTE) == NULL && errno == ENOMEM);
    for (size_t i = 0; i < 20 * MEGABYTE; i += 4096)
        CHECK(block[i] == 'x');
    lift(RLIMIT_AS);
    block = realloc(block, 200 * MEGABYTE);
    CHECK(block != NULL && block[20 * MEGABYTE - 1] == 'x');
    free(block);
}
