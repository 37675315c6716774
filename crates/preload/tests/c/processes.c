// fork, vfork and their kin, and the end of a process, in the middle of
// everything.

#include "case.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static atomic_int stop;

// Allocates and frees at random until told to stop.
static void *churn(void *seed) {
    enum { SLOTS = 200 };
    unsigned char *slots[SLOTS] = {0};
    size_t sizes[SLOTS] = {0};
    unsigned random = (unsigned)(uintptr_t)seed * 2654435761u + 1;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        random = random * 1664525u + 1013904223u;
        unsigned slot = (random >> 8) % SLOTS;
        if (slots[slot] != NULL) {
            CHECK(slots[slot][0] == (unsigned char)slot && slots[slot][sizes[slot] - 1] == (unsigned char)slot);
            free(slots[slot]);
        }
        random = random * 1664525u + 1013904223u;
        unsigned size = random >> 8;
        sizes[slot] = 1 + (size % 16 == 0 ? size % 100000 : size % 1000);
        if (size % 1024 == 0)
            sizes[slot] = 3000000;
        slots[slot] = malloc(sizes[slot]);
        CHECK(slots[slot] != NULL);
        slots[slot][0] = slots[slot][sizes[slot] - 1] = (unsigned char)slot;
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        free(slots[slot]);
    return NULL;
}

// A little of everything, as a child would do it.
static void use_the_heap(void) {
    void *blocks[300];
    for (int i = 0; i < 300; i++) {
        blocks[i] = malloc((size_t)i * i);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], i, (size_t)i * i);
    }
    for (int i = 0; i < 300; i++)
        free(blocks[i]);
    void *large = calloc(1, 5 << 20);
    CHECK(large != NULL);
    large = realloc(large, 9 << 20);
    CHECK(large != NULL);
    free(large);
}

static void *use_the_heap_in_a_thread(void *unused) {
    use_the_heap();
    return unused;
}

static void expect_success(pid_t child) {
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void fork_with(int threads, int rounds) {
    pthread_t busy[8];
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    void *kept = malloc(1000), *kept_large = malloc(4 << 20);
    for (int round = 0; round < rounds; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            // What the parent allocated is the child's to free.
            free(kept);
            free(kept_large);
            use_the_heap();
            pid_t grandchild = fork();
            CHECK(grandchild >= 0);
            if (grandchild == 0) {
                use_the_heap();
                _exit(0);
            }
            expect_success(grandchild);
            use_the_heap();
            // The child may have threads of its own.
            pthread_t own;
            CHECK(pthread_create(&own, NULL, use_the_heap_in_a_thread, NULL) == 0);
            pthread_join(own, NULL);
            if (round % 2 == 0)
                exit(0);
            _exit(0);
        }
        expect_success(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; i++)
        pthread_join(busy[i], NULL);
    free(kept);
    free(kept_large);
}

CASE(a_child_of_a_quiet_process_uses_its_heap) {
    fork_with(0, 20);
}

CASE(a_child_of_busy_threads_uses_its_heap) {
    fork_with(4, 25);
}

CASE(a_child_frees_what_the_parents_threads_allocated) {
    enum { N = 4 };
    pthread_t busy[N];
    for (int i = 0; i < N; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    for (int round = 0; round < 30; round++) {
        void *blocks[500];
        for (int i = 0; i < 500; i++)
            blocks[i] = malloc((size_t)i * 3);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int i = 0; i < 500; i++)
                free(blocks[i]);
            for (int i = 0; i < 500; i++)
                CHECK((blocks[i] = malloc((size_t)i * 3)) != NULL);
            _exit(0);
        }
        for (int i = 0; i < 500; i++)
            free(blocks[i]);
        expect_success(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < N; i++)
        pthread_join(busy[i], NULL);
}

enum { BUFFERS = 8, LENGTHS = 4, OF_EACH = 40 };
static char *_Atomic buffers[BUFFERS];

// Buffers that go to and fro through lists which no lock protects.
static void *exchange_buffers(void *number) {
    unsigned random = (unsigned)(uintptr_t)number;
    while (!atomic_load(&stop)) {
        random = random * 1664525u + 1013904223u;
        int index = (int)(random >> 24) % BUFFERS;
        char *buffer = atomic_exchange(&buffers[index], NULL);
        free(buffer);
        buffer = malloc(60000 + (random >> 8) % LENGTHS * 65536);
        CHECK(buffer != NULL);
        if (atomic_exchange(&buffers[index], buffer) != NULL)
            _exit(2);
    }
    return NULL;
}

static int by_start(const void *one, const void *other) {
    char *const *a = one, *const *b = other;
    return (*a > *b) - (*a < *b);
}

static void allocate_all_that_is_kept(void) {
    static char *starts[LENGTHS * OF_EACH + BUFFERS];
    int count = 0;
    for (int index = 0; index < BUFFERS; index++)
        if (buffers[index] != NULL)
            starts[count++] = buffers[index];
    for (int length = 0; length < LENGTHS; length++)
        for (int of_it = 0; of_it < OF_EACH; of_it++)
            CHECK((starts[count++] = malloc(60000 + (size_t)length * 65536)) != NULL);
    qsort(starts, (size_t)count, sizeof *starts, by_start);
    for (int i = 1; i < count; i++)
        CHECK(starts[i] - starts[i - 1] >= (ptrdiff_t)malloc_usable_size(starts[i - 1]));
}

// The heap is large, so that the system takes a while to copy what describes its pages.
CASE(no_block_is_in_a_childs_heap_twice) {
    size_t large = (size_t)200 << 20;
    char *heap = malloc(large);
    for (size_t page = 0; page < large; page += 4096)
        heap[page] = 1;
    pthread_t busy;
    CHECK(pthread_create(&busy, NULL, exchange_buffers, (void *)1) == 0);
    for (int round = 0; round < 60; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            allocate_all_that_is_kept();
            _exit(0);
        }
        expect_success(child);
    }
    atomic_store(&stop, 1);
    pthread_join(busy, NULL);
    free(heap);
}

static void *fork_in_a_thread(void *unused) {
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            use_the_heap();
            _exit(0);
        }
        use_the_heap();
        expect_success(child);
    }
    return unused;
}

CASE(several_threads_fork_at_once) {
    pthread_t forking[4], busy;
    CHECK(pthread_create(&busy, NULL, churn, (void *)1) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&forking[i], NULL, fork_in_a_thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(forking[i], NULL);
    atomic_store(&stop, 1);
    pthread_join(busy, NULL);
}

static void *held_by_handler;
static void before_fork(void) {
    held_by_handler = malloc(100);
}
static void after_fork(void) {
    free(held_by_handler);
    free(malloc(5000));
}

// Handlers of others run before the allocator's when they were registered later,
// and after it when they were registered earlier.
CASE(fork_handlers_of_others_allocate) {
    CHECK(pthread_atfork(before_fork, after_fork, after_fork) == 0);
    fork_with(2, 15);
}

static volatile sig_atomic_t forks;

static void fork_at_once(int number) {
    (void)number;
    int saved = errno;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        _exit(1);
    forks++;
    errno = saved;
}

static void fork_often(void) {
    struct sigaction action = {.sa_handler = fork_at_once, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGPROF, &action, NULL) == 0);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
}

static void fork_no_more(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK(setitimer(ITIMER_PROF, &never, NULL) == 0);
}

// As the handler of a crash reporter does. It interrupts whatever is at work, at times
// somebody who holds a lock.
CASE(a_signal_handler_of_a_program_with_one_thread_may_fork) {
    alarm(60);
    fork_often();
    while (forks < 300) {
        // No more than that in all: a purge thread would be a second one.
        void *blocks[40];
        for (int i = 0; i < 40; i++)
            CHECK((blocks[i] = malloc((size_t)i * i * 40)) != NULL);
        for (int i = 0; i < 40; i++)
            free(blocks[i]);
    }
    fork_no_more();
    // In the end it goes on as always, with threads, too.
    fork_with(2, 3);
}

// The program has one thread, but frees so much that the allocator may have started one of
// its own, which goes on taking locks.
CASE(a_signal_handler_of_a_program_that_frees_much_may_fork) {
    alarm(60);
    static void *blocks[400];
    fork_often();
    for (int i = 0; forks < 500; i = (i + 1) % 400) {
        free(blocks[i]);
        CHECK((blocks[i] = malloc(100000 + (size_t)i * 1000)) != NULL);
        memset(blocks[i], 1, 100000);
        if (i % 100 == 0)
            free(calloc(40 << 20, 1));
    }
    fork_no_more();
    for (int i = 0; i < 400; i++)
        free(blocks[i]);
    fork_with(2, 3);
}

// The timer interrupts any of them, at times one who holds a lock and at times one who waits
// for that.
CASE(a_signal_handler_may_fork_beside_busy_threads) {
    alarm(60);
    pthread_t busy[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    fork_often();
    while (forks < 300)
        use_the_heap();
    fork_no_more();
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(busy[i], NULL);
    use_the_heap();
}

static ssize_t allocate_and_write(void *unused, const char *bytes, size_t count) {
    (void)unused;
    (void)bytes;
    for (size_t i = 1; i < 400; i++)
        free(malloc(i * 90));
    return (ssize_t)count;
}

// Under the C library's lock of all streams.
static void *write_streams(void *unused) {
    cookie_io_functions_t functions = {.write = allocate_and_write};
    FILE *stream = fopencookie(unused, "w", functions);
    CHECK(stream != NULL);
    while (!atomic_load(&stop)) {
        CHECK(fputc('x', stream) == 'x');
        CHECK(fflush(NULL) == 0);
    }
    CHECK(fclose(stream) == 0);
    return NULL;
}

CASE(a_fork_beside_streams_that_allocate_does_not_hang) {
    pthread_t writers[2];
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&writers[i], NULL, write_streams, NULL) == 0);
    for (int round = 0; round < 300; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            use_the_heap();
            CHECK(fflush(NULL) == 0);
            _exit(0);
        }
        expect_success(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
}

CASE(vfork_and_exec_leave_the_parents_heap_alone) {
    pthread_t busy;
    CHECK(pthread_create(&busy, NULL, churn, (void *)1) == 0);
    for (int round = 0; round < 50; round++) {
        use_the_heap();
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        expect_success(child);
    }
    atomic_store(&stop, 1);
    pthread_join(busy, NULL);
}

CASE(posix_spawn_works_beside_busy_threads) {
    pthread_t busy[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    char *arguments[] = {"true", NULL};
    for (int round = 0; round < 50; round++) {
        pid_t child;
        CHECK(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
        expect_success(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(busy[i], NULL);
}

CASE(system_and_popen_work_beside_busy_threads) {
    pthread_t busy[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    for (int round = 0; round < 20; round++) {
        CHECK(system("exit 3") == 3 << 8);
        FILE *pipe = popen("echo word", "r");
        char word[10];
        CHECK(pipe != NULL && fgets(word, sizeof word, pipe) != NULL && strcmp(word, "word\n") == 0);
        CHECK(pclose(pipe) == 0);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(busy[i], NULL);
}

static void free_at_exit(void) {
    free(held_by_handler);
    use_the_heap();
}

CASE(exit_while_threads_allocate_is_clean) {
    held_by_handler = malloc(1000);
    CHECK(atexit(free_at_exit) == 0);
    for (int i = 0; i < 6; i++) {
        pthread_t busy;
        CHECK(pthread_create(&busy, NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
        pthread_detach(busy);
    }
    usleep(50000);
    exit(0);
}

static void *exit_from_a_thread(void *unused) {
    use_the_heap();
    usleep(20000);
    exit(0);
    return unused;
}

CASE(exit_from_a_thread_is_clean) {
    CHECK(atexit(use_the_heap) == 0);
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&thread, NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    CHECK(pthread_create(&thread, NULL, exit_from_a_thread, NULL) == 0);
    churn((void *)9);
}

static void *outlive_main(void *unused) {
    usleep(50000);
    use_the_heap();
    return unused;
}

CASE(threads_outlive_the_main_thread) {
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
    }
    void *left = malloc(100);
    (void)left;
    pthread_exit(NULL);
}

static atomic_long signals;

static void touch_errno(int number) {
    (void)number;
    int saved = errno;
    errno = EINTR;
    write(-1, "", 1);
    atomic_fetch_add(&signals, 1);
    errno = saved;
}

CASE(signals_interrupt_allocation_without_harm) {
    struct sigaction action = {.sa_handler = touch_errno, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    struct itimerval often = {{0, 200}, {0, 200}};
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    pthread_t busy[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&busy[i], NULL, churn, (void *)(uintptr_t)(i + 1)) == 0);
    errno = 77;
    for (long round = 0; round < 200 || atomic_load(&signals) < 500; round++) {
        use_the_heap();
        CHECK(errno == 77);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(busy[i], NULL);
}
