// A seccomp filter that ends the program at each call that is not on its list, or refuses some.

#include "case.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))
enum { MOST = 64 };

static void put_up(struct sock_fprog program) {
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// Puts up a filter: the calls in `list` get the first answer, all others the second.
static void filter(const int *list, int count, unsigned listed, unsigned others) {
    struct sock_filter code[2 * MOST + 2];
    int length = 0;
    CHECK(count < MOST);
    code[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) {
        code[length++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)list[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, listed);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, others);
    put_up((struct sock_fprog){.len = (unsigned short)length, .filter = code});
}

static void refuse(int call) {
    filter(&call, 1, SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_ALLOW);
}

static atomic_int stage;

static void wait_for(int wanted) {
    while (atomic_load(&stage) < wanted)
        usleep(1000);
}

enum { BLOCKS = 20000 };

// Blocks of `size` bytes in the mean, filled, looked at, and freed.
static void work(size_t size) {
    static _Thread_local unsigned char *blocks[BLOCKS];
    int count = (int)((16u << 20) / size);
    count = count < BLOCKS ? count : BLOCKS;
    for (int i = 0; i < count; i++) {
        size_t own = size / 2 + (size_t)i * 7919 % size;
        blocks[i] = i % 2 ? calloc(own, 1) : malloc(own);
        CHECK(blocks[i] != NULL);
        if (i % 2)
            for (size_t at = 0; at < own; at += 64)
                CHECK(blocks[i][at] == 0);
        memset(blocks[i], i, own);
    }
    for (int i = 0; i < count; i++) {
        CHECK(blocks[i][0] == (unsigned char)i);
        blocks[i] = realloc(blocks[i], 2 * size);
        CHECK(blocks[i] != NULL && blocks[i][0] == (unsigned char)i);
        free(blocks[i]);
    }
}

static void *other(void *unused) {
    (void)unused;
    for (size_t size = 20; size <= 8u << 20; size *= 5)
        work(size);
    atomic_fetch_add(&stage, 1);
    // Sleeps with what it has in its caches, for others to take.
    wait_for(100);
    work(100);
    return NULL;
}

static void work_with_threads_and_sleep(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, other, NULL) == 0);
    wait_for(THREADS);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 20; size <= 8u << 20; size *= 5)
            work(size);
        // The purge thread's turn.
        usleep(1200000);
    }
    atomic_store(&stage, 100);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

// What the program and the C library call; without the library's malloc.
#define CALLS_OF_OTHERS                                                                      \
    SYS_write, SYS_exit, SYS_exit_group, SYS_futex, SYS_mmap, SYS_munmap, SYS_mprotect,      \
        SYS_madvise, SYS_mremap, SYS_brk, SYS_clock_nanosleep, SYS_nanosleep, SYS_clone3,    \
        SYS_set_robust_list, SYS_rseq, SYS_rt_sigaction, SYS_clock_gettime

CASE(a_sandbox_that_allows_what_is_named_does_not_end_the_program) {
    const int allowed[] = {CALLS_OF_OTHERS, SYS_membarrier, SYS_rt_sigprocmask, SYS_clone,
                           SYS_getpid};
    free(malloc(1));
    filter(allowed, LENGTH(allowed), SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);
    work_with_threads_and_sleep();
}

CASE(barriers_that_are_refused_do_no_harm) {
    refuse(SYS_membarrier);
    work_with_threads_and_sleep();
}

// Their registration was not, at the first allocation.
CASE(barriers_that_are_refused_from_some_time_on_do_no_harm) {
    work(100);
    work_with_threads_and_sleep();
    atomic_store(&stage, 0);
    refuse(SYS_membarrier);
    work_with_threads_and_sleep();
}

CASE(memory_that_the_system_does_not_take_back_is_not_taken_for_zero) {
    refuse(SYS_madvise);
    work_with_threads_and_sleep();
}

static void refuse_flag_of_mmap(unsigned flag) {
    const unsigned flags = offsetof(struct seccomp_data, args[3]);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flag, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    put_up((struct sock_fprog){.len = LENGTH(code), .filter = code});
}

CASE(a_sandbox_that_does_not_know_a_flag_of_mmap_leaves_the_program_its_memory) {
    free(malloc(1));
    refuse_flag_of_mmap(MAP_FIXED_NOREPLACE);
    work_with_threads_and_sleep();
    // Many of a size that is served by the arena only.
    for (int i = 0; i < 100000; i++)
        CHECK(malloc(1000) != NULL);
}

CASE(a_purge_thread_that_cannot_be_started_does_no_harm) {
    // glibc tries the older call where the newer one is not known; no thread can be made.
    const int calls[] = {SYS_clone, SYS_clone3};
    filter(calls, LENGTH(calls), SECCOMP_RET_ERRNO | EAGAIN, SECCOMP_RET_ALLOW);
    for (int round = 0; round < 3; round++) {
        for (size_t size = 20; size <= 8u << 20; size *= 5)
            work(size);
        usleep(1200000);
    }
}
