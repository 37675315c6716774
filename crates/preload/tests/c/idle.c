// Much is freed, and then little or nothing is called.

#include "case.h"
#include "tasks.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEGABYTE ((size_t)1 << 20)

// Without a call of malloc or free, as a stream would make.
static size_t resident(void) {
    char text[200] = {0};
    int statm = open("/proc/self/statm", O_RDONLY);
    CHECK(statm >= 0 && read(statm, text, sizeof text - 1) > 0);
    close(statm);
    char *end;
    strtoul(text, &end, 10);
    return strtoul(end, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

enum { SLOTS = 400000 };
static void *slots[SLOTS];
// How many of them, where others are to know.
static int filled;

// Fills `bytes` with blocks of up to `size`; returns how many.
static int fill(size_t bytes, size_t size) {
    unsigned random = 1;
    int count = 0;
    for (size_t total = 0; total < bytes; count++) {
        random = random * 1664525u + 1013904223u;
        size_t own = 1 + (random >> 8) % size;
        CHECK(count < SLOTS && (slots[count] = malloc(own)) != NULL);
        memset(slots[count], count, own);
        total += own;
    }
    return count;
}

// A run of 64 KiB.
enum { BLOCK = 60000 };

static void fill_slot(int slot) {
    CHECK((slots[slot] = malloc(BLOCK)) != NULL);
    memset(slots[slot], slot, BLOCK);
}

static void burst(size_t bytes, size_t size) {
    int count = fill(bytes, size);
    while (count > 0)
        free(slots[--count]);
}

// In each case a process of its own: the next allocation starts the purge thread.
static void free_and_call_nothing_else(size_t size) {
    memset(slots, 1, sizeof slots);
    size_t before = resident();
    int count = fill(160 * MEGABYTE, size);
    CHECK(resident() > before + 120 * MEGABYTE);
    while (count > 0)
        free(slots[--count]);
    // 16 MiB wait for the next call, and what is in bins and pools.
    CHECK(resident() < before + 40 * MEGABYTE);
    CHECK(threads() == 1);
}

CASE(what_is_freed_goes_back_though_no_other_call_is_made_small) {
    free_and_call_nothing_else(1000);
}

CASE(what_is_freed_goes_back_though_no_other_call_is_made_mid) {
    free_and_call_nothing_else(30000);
}

CASE(what_is_freed_goes_back_though_no_other_call_is_made_large) {
    free_and_call_nothing_else(2 * MEGABYTE);
}

static void await_resident(size_t bytes) {
    for (int patience = 100; resident() > bytes; patience--) {
        CHECK(patience > 0);
        usleep(100000);
    }
}

// The child has the parent's memory, and threads of its own.
CASE(a_child_of_vfork_starts_no_purge_thread) {
    size_t before = resident();
    int count = fill(160 * MEGABYTE, 1000);
    while (count > 0)
        free(slots[--count]);
    pid_t child = vfork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 1000; i++)
            free(malloc(300000));
        _exit(threads() == 1 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    // The parent starts its own.
    burst(40 * MEGABYTE, 1000);
    for (int i = 0; i < 1000; i++)
        free(malloc(300000));
    await_resident(before + 12 * MEGABYTE);
}

CASE(what_one_large_block_leaves_goes_back) {
    size_t before = resident();
    char *block = malloc(200 * MEGABYTE);
    memset(block, 1, 200 * MEGABYTE);
    free(block);
    await_resident(before + 40 * MEGABYTE);
}

CASE(what_blocks_leave_that_shrink_goes_back) {
    size_t before = resident();
    char *blocks[10];
    for (int i = 0; i < 10; i++) {
        CHECK((blocks[i] = malloc(40 * MEGABYTE)) != NULL);
        memset(blocks[i], i, 40 * MEGABYTE);
    }
    for (int i = 0; i < 10; i++)
        CHECK((blocks[i] = realloc(blocks[i], 4 * MEGABYTE)) != NULL);
    await_resident(before + 80 * MEGABYTE);
}

static pthread_barrier_t all_have, all_are_done;

// What each thread has and frees, and whether it waits then.
struct burst {
    int count;
    size_t size;
    bool stays;
};

static void *free_a_little(void *argument) {
    enum { MOST = 100 };
    const struct burst *burst = argument;
    char *own[MOST];
    CHECK(burst->count <= MOST);
    for (int i = 0; i < burst->count; i++) {
        own[i] = malloc(burst->size);
        memset(own[i], i, burst->size);
    }
    pthread_barrier_wait(&all_have);
    for (int i = 0; i < burst->count; i++)
        free(own[i]);
    pthread_barrier_wait(&all_are_done);
    while (burst->stays)
        pause();
    return NULL;
}

// Returns how much was resident before, when all have freed, and those that end have ended.
static size_t free_a_little_in(int threads, struct burst burst) {
    enum { MOST = 64 };
    static struct burst of_all;
    pthread_t own[MOST];
    CHECK(threads <= MOST);
    of_all = burst;
    pthread_barrier_init(&all_have, NULL, threads);
    pthread_barrier_init(&all_are_done, NULL, threads + 1);
    size_t before = resident();
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&own[i], NULL, free_a_little, &of_all) == 0);
    pthread_barrier_wait(&all_are_done);
    for (int i = 0; i < threads && !burst.stays; i++)
        CHECK(pthread_join(own[i], NULL) == 0);
    return before;
}

// As much as starts the purge thread by all of them together.
CASE(what_many_threads_free_that_end_goes_back) {
    size_t before = free_a_little_in(64, (struct burst){40, 30000, false});
    await_resident(before + 40 * MEGABYTE);
}

CASE(what_many_threads_free_that_wait_goes_back) {
    size_t before = free_a_little_in(64, (struct burst){40, 30000, true});
    // Beside what is in their bins, the runs that these are of, and what no thread can be started for by a
    // free.
    await_resident(before + 64 * MEGABYTE);
}

// A burst of a small program, some 12 MB: with one thread too little for a purge thread.
static void free_little_in_few_threads(int count, size_t size) {
    size_t before = free_a_little_in(4, (struct burst){count, size, true});
    CHECK(resident() > before + 10 * MEGABYTE);
    await_resident(before + 5 * MEGABYTE);
}

CASE(what_few_threads_free_that_wait_goes_back_though_it_is_little) {
    free_little_in_few_threads(100, 30000);
}

// Fewer calls than there are between two looks.
CASE(what_few_threads_free_that_wait_goes_back_though_it_is_a_few_blocks) {
    free_little_in_few_threads(8, 400000);
}

static long faults(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return usage.ru_minflt;
}

// As much as starts the purge thread, and a little more, but no teardown.
CASE(what_is_freed_and_allocated_again_at_once_stays) {
    enum { COUNT = 700, FREED = 320 };
    for (int i = 0; i < COUNT; i++) {
        fill_slot(i);
    }
    for (int i = 0; i < FREED; i++)
        free(slots[2 * i]);
    long before = faults();
    for (int i = 0; i < FREED; i++) {
        fill_slot(2 * i);
    }
    CHECK(faults() < before + 500);
    for (int i = 0; i < COUNT; i++)
        free(slots[i]);
}

// The first teardown may give most of its memory back.
CASE(phases_of_a_program_share_their_memory) {
    // Above 32 MiB, and below what would leave 16 of it.
    enum { COUNT = 575, ROUNDS = 10 };
    long before = 0;
    for (int round = 0; round < ROUNDS; round++) {
        if (round == 2)
            before = faults();
        for (int i = 0; i < COUNT; i++) {
            fill_slot(i);
        }
        for (int i = 0; i < COUNT; i++)
            free(slots[i]);
    }
    CHECK(faults() < before + 2 * COUNT);
}

static atomic_int turn;
// Each frees a little less than closes a thread's allocs.
enum { OF_EACH = 240 };

static void *free_in_turn(void *number) {
    int own = (int)(intptr_t)number;
    while (atomic_load(&turn) != own)
        sched_yield();
    for (int i = 0; i < OF_EACH; i++)
        free(slots[own * OF_EACH + i]);
    atomic_store(&turn, own + 1);
    // As one that waits for work, and has no more of it.
    pause();
    return NULL;
}

CASE(what_threads_free_one_after_another_goes_back) {
    enum { THREADS = 16, COUNT = OF_EACH * THREADS };
    memset(slots, 1, sizeof slots);
    pthread_t thread;
    atomic_store(&turn, -1);
    for (intptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread, NULL, free_in_turn, (void *)i) == 0);
    size_t before = resident();
    for (int i = 0; i < COUNT; i++) {
        fill_slot(i);
    }
    CHECK(resident() > before + 200 * MEGABYTE);
    atomic_store(&turn, 0);
    while (atomic_load(&turn) != THREADS)
        sched_yield();
    await_resident(before + 50 * MEGABYTE);
}

static void *free_all(void *unused) {
    while (atomic_load(&turn) == 0)
        sched_yield();
    for (int i = atomic_load(&turn); i > 0; i--)
        free(slots[i - 1]);
    atomic_store(&turn, -1);
    pause();
    return unused;
}

// What a database hands to a thread that does nothing else.
CASE(what_a_thread_frees_that_never_allocates_goes_back) {
    memset(slots, 1, sizeof slots);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, free_all, NULL) == 0);
    size_t before = resident();
    // Pages become free with their last blocks only.
    int count = fill(90 * MEGABYTE, 600);
    unsigned random = 1;
    for (int i = count - 1; i > 0; i--) {
        random = random * 1664525u + 1013904223u;
        int other = (int)(random >> 8) % (i + 1);
        void *slot = slots[i];
        slots[i] = slots[other];
        slots[other] = slot;
    }
    atomic_store(&turn, count);
    while (atomic_load(&turn) != -1)
        sched_yield();
    await_resident(before + 20 * MEGABYTE);
}

CASE(what_is_freed_in_one_large_piece_goes_back) {
    memset(slots, 1, sizeof slots);
    size_t before = resident();
    char *large = malloc(200 * MEGABYTE);
    CHECK(large != NULL);
    memset(large, 1, 200 * MEGABYTE);
    int count = fill(60 * MEGABYTE, BLOCK);
    int half = count / 2;
    while (count > half)
        free(slots[--count]);
    free(large);
    while (count > 0)
        free(slots[--count]);
    CHECK(resident() < before + 50 * MEGABYTE);
}

CASE(the_purge_thread_stays_off_though_the_program_clears_its_environment) {
    CHECK(clearenv() == 0);
    for (int i = 0; i < 5; i++) {
        burst(64 * MEGABYTE, 1000);
        burst(64 * MEGABYTE, 2 * MEGABYTE);
    }
    CHECK(threads() == 1);
}

static struct timespec ended;

// As on any thread of the program's.
static void check_stack_and_signals(void) {
    volatile char deep[MEGABYTE];
    memset((char *)deep, 1, sizeof deep);
    sigset_t blocked;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
    CHECK(!sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGUSR1));
}

static void check_how_long_ago_main_ended(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - ended.tv_sec) + (double)(now.tv_nsec - ended.tv_nsec) * 1e-9;
    // It would stay for three seconds for what may come.
    CHECK(seconds < 2.5);
    check_stack_and_signals();
    CHECK(resident() < 40 * MEGABYTE);
    burst(MEGABYTE, 1000);
}

CASE(the_purge_thread_ends_when_no_other_is_left) {
    CHECK(atexit(check_how_long_ago_main_ended) == 0);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    CHECK(pthread_sigmask(SIG_BLOCK, &blocked, NULL) == 0);
    for (int i = 0; i < 100 && threads() == 1; i++)
        burst(64 * MEGABYTE, 1000);
    CHECK(threads() == 2);
    burst(64 * MEGABYTE, 1000);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_exit(NULL);
}

// As threads do that the C library does not know of.
static void *leave_by_the_system_call(void *unused) {
    free(malloc(100));
    syscall(SYS_exit, 0);
    return unused;
}

CASE(a_process_ends_when_no_other_thread_is_left_though_none_has_said_so) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, leave_by_the_system_call, NULL) == 0);
    fill(30 * MEGABYTE, 1000);
    CHECK(threads() > 1);
    syscall(SYS_exit, 0);
}

static void *wait_for_turn(void *unused) {
    free(malloc(100));
    while (atomic_load(&turn) == 0)
        usleep(10000);
    return unused;
}

static void await_threads(int count) {
    for (int patience = 600; threads() != count; patience--) {
        CHECK(patience > 0);
        usleep(100000);
    }
}

// Starts a thread that waits, and fills as much as has the purge thread started.
static pthread_t fill_beside_a_thread(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_turn, NULL) == 0);
    await_threads(2);
    filled = fill(60 * MEGABYTE, 1000);
    await_threads(3);
    return thread;
}

// It parks some three seconds after it has found nothing to give back.
static void let_it_park(void) {
    sleep(8);
}

// Half of what is filled stays: enough to park for, beside other threads.
CASE(a_program_of_one_thread_has_no_purge_thread_when_that_has_done_its_work) {
    int count = fill(60 * MEGABYTE, 1000);
    for (int i = 0; i < count / 2; i++)
        free(slots[i]);
    await_threads(1);
    for (int i = 0; i < 20; i++)
        burst(MEGABYTE, 10000);
    let_it_park();
    await_threads(1);
}

// Of such children, as servers make them.
CASE(a_child_of_a_program_with_threads_has_but_one) {
    fill_beside_a_thread();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 20; i++)
            burst(MEGABYTE, 10000);
        _exit(threads() == 1 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void free_what_is_filled(void) {
    size_t before = resident();
    while (filled > 0)
        free(slots[--filled]);
    for (int patience = 200; resident() + 30 * MEGABYTE > before; patience--) {
        CHECK(patience > 0);
        usleep(100000);
        burst(MEGABYTE, 10000);
    }
}

static void a_child_gives_memory_back(pid_t child) {
    CHECK(child >= 0);
    if (child == 0) {
        free_what_is_filled();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

CASE(a_child_of_a_program_whose_purge_thread_is_parked_gives_memory_back) {
    fill_beside_a_thread();
    let_it_park();
    a_child_gives_memory_back(fork());
}

CASE(a_child_of_such_a_program_made_without_hooks_gives_memory_back) {
    fill_beside_a_thread();
    let_it_park();
    a_child_gives_memory_back((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

CASE(a_child_of_a_program_whose_purge_thread_runs_made_without_hooks_gives_memory_back) {
    fill_beside_a_thread();
    a_child_gives_memory_back((pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}
