// Threads that come and go, and what runs when one ends.

#include "case.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static void *allocate_and_end(void *size) {
    void *blocks[50];
    for (int i = 0; i < 50; i++) {
        blocks[i] = malloc((uintptr_t)size + (size_t)i * 16);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], i, (uintptr_t)size);
    }
    for (int i = 0; i < 50; i++)
        free(blocks[i]);
    return NULL;
}

CASE(ten_thousand_threads_come_and_go) {
    for (int round = 0; round < 625; round++) {
        pthread_t threads[16];
        for (int i = 0; i < 16; i++)
            CHECK(pthread_create(&threads[i], NULL, allocate_and_end, (void *)(uintptr_t)(i * 100)) == 0);
        for (int i = 0; i < 16; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static size_t resident_pages(void) {
    size_t size, resident;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%zu %zu", &size, &resident) == 2);
    fclose(statm);
    return resident;
}

CASE(ended_threads_leave_no_memory_behind) {
    pthread_t thread;
    for (int i = 0; i < 200; i++) {
        CHECK(pthread_create(&thread, NULL, allocate_and_end, (void *)1000) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    size_t before = resident_pages();
    for (int i = 0; i < 3000; i++) {
        CHECK(pthread_create(&thread, NULL, allocate_and_end, (void *)1000) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(resident_pages() < before + 512);
}

static void *allocate_for_another(void *unused) {
    (void)unused;
    void **blocks = malloc(1000 * sizeof *blocks);
    for (int i = 0; i < 1000; i++) {
        blocks[i] = malloc((size_t)i * 5);
        memset(blocks[i], i, (size_t)i * 5);
    }
    return blocks;
}

CASE(blocks_of_ended_threads_are_freed_by_others) {
    for (int round = 0; round < 200; round++) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, allocate_for_another, NULL) == 0);
        CHECK(pthread_join(thread, &result) == 0);
        void **blocks = result;
        for (int i = 0; i < 1000; i++) {
            if (i > 0)
                CHECK(*(unsigned char *)blocks[i] == (unsigned char)i);
            free(blocks[i]);
        }
        free(blocks);
    }
}

// ---- destructors of thread-specific data

static pthread_key_t first_key, second_key;
static atomic_int destroyed;

// Allocates and frees, and comes back as often as the system allows.
static void allocate_again(void *block) {
    pthread_key_t key = *(pthread_key_t *)block;
    free(block);
    void *blocks[100];
    for (int i = 0; i < 100; i++)
        CHECK((blocks[i] = malloc((size_t)i * 40)) != NULL);
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    block = malloc(sizeof key);
    CHECK(block != NULL);
    memcpy(block, &key, sizeof key);
    if (atomic_fetch_add(&destroyed, 1) % 3 != 2)
        pthread_setspecific(key, block);
    else
        free(block);
}

static void hold(pthread_key_t key) {
    pthread_key_t *block = malloc(sizeof key);
    *block = key;
    CHECK(pthread_setspecific(key, block) == 0);
}

static void *hold_first(void *unused) {
    hold(first_key);
    return unused;
}

static void *hold_both(void *unused) {
    free(malloc(10));
    hold(second_key);
    hold(first_key);
    return unused;
}

// The library registers its own destructor at a thread's first allocation.
// Nothing has allocated yet when the constructor makes its key.
__attribute__((constructor)) static void make_the_first_key(void) {
    CHECK(pthread_key_create(&first_key, allocate_again) == 0);
}

CASE(destructors_of_keys_made_before_the_first_malloc_allocate) {
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, hold_first, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(destroyed == 900);
}

CASE(destructors_of_keys_made_after_the_first_malloc_allocate) {
    free(malloc(10));
    CHECK(pthread_key_create(&second_key, allocate_again) == 0);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, hold_both, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(destroyed >= 600);
}

// The destructor runs in every one of the rounds the system makes, so the last
// one runs after everybody else's.
static void come_back_for_ever(void *count) {
    atomic_fetch_add(&destroyed, 1);
    free(malloc(3000));
    void *block = malloc(100);
    free(block);
    pthread_setspecific(second_key, count);
}

static void *hold_for_ever(void *unused) {
    free(malloc(10));
    CHECK(pthread_setspecific(second_key, &destroyed) == 0);
    return unused;
}

CASE(a_thread_allocates_in_the_last_round_of_destructors) {
    CHECK(pthread_key_create(&second_key, come_back_for_ever) == 0);
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, hold_for_ever, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(destroyed == 500 * 4);
}

static pthread_key_t late_key;

// Allocates in the round of destructors whose number is in the first place and in those after it; which
// round this is is in the second.
static void allocate_late(void *value) {
    intptr_t first = (intptr_t)value / 10, round = (intptr_t)value % 10;
    if (round >= first)
        allocate_and_end((void *)100);
    pthread_setspecific(late_key, (void *)(first * 10 + round + 1));
}

static void *hold_late(void *first) {
    CHECK(pthread_setspecific(late_key, (void *)((intptr_t)first * 10 + 1)) == 0);
    return NULL;
}

static void threads_that_allocate_late(intptr_t first, int count) {
    for (int i = 0; i < count; i++) {
        pthread_t threads[4];
        for (int k = 0; k < 4; k++)
            CHECK(pthread_create(&threads[k], NULL, hold_late, (void *)first) == 0);
        for (int k = 0; k < 4; k++)
            CHECK(pthread_join(threads[k], NULL) == 0);
    }
}

CASE(threads_that_first_allocate_in_late_rounds_of_destructors_leave_no_memory_behind) {
    free(malloc(10));
    CHECK(pthread_key_create(&late_key, allocate_late) == 0);
    for (intptr_t first = 1; first <= 4; first++) {
        threads_that_allocate_late(first, 20);
        size_t before = resident_pages();
        threads_that_allocate_late(first, 250);
        CHECK(resident_pages() < before + 512);
    }
}

CASE(a_program_may_use_up_all_keys) {
    static pthread_key_t keys[2000];
    int made = 0;
    while (made < 2000 && pthread_key_create(&keys[made], NULL) == 0)
        made++;
    CHECK(made > 100);
    pthread_t thread;
    for (int i = 0; i < 50; i++) {
        CHECK(pthread_create(&thread, NULL, allocate_for_another, NULL) == 0);
        void *result;
        CHECK(pthread_join(thread, &result) == 0);
        for (int k = 0; k < 1000; k++)
            free(((void **)result)[k]);
        free(result);
    }
}

static void *wait_to_be_cancelled(void *unused) {
    for (;;) {
        free(malloc(100));
        pthread_testcancel();
    }
    return unused;
}

CASE(cancelled_threads_end_well) {
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, wait_to_be_cancelled, NULL) == 0);
        if (i % 2 == 0)
            usleep(500);
        CHECK(pthread_cancel(thread) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    free(malloc(100));
}

// ---- many threads at once

static void *many(void *unused) {
    void *blocks[20];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 20; i++)
            CHECK((blocks[i] = malloc((size_t)(round * 20 + i))) != NULL);
        for (int i = 0; i < 20; i++)
            free(blocks[i]);
    }
    return unused;
}

CASE(five_hundred_threads_live_at_once) {
    static pthread_t threads[500];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < 500; i++)
        CHECK(pthread_create(&threads[i], &small, many, NULL) == 0);
    for (int i = 0; i < 500; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

// ---- threads whose first call is the C library's last

static atomic_int may_end, have_ended;

static void *wait_for_the_others(void *unused) {
    while (!atomic_load(&may_end))
        usleep(1000);
    atomic_fetch_add(&have_ended, 1);
    return unused;
}

// So many that the C library keeps not all of their stacks, and frees what belonged to one on
// the thread that ends.
static void threads_that_end_together(int count) {
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    atomic_store(&may_end, 0);
    atomic_store(&have_ended, 0);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, &detached, wait_for_the_others, NULL) == 0);
    }
    atomic_store(&may_end, 1);
    while (atomic_load(&have_ended) < count)
        usleep(1000);
    usleep(20000);
}

CASE(detached_threads_that_never_allocate_leave_nothing_behind) {
    for (int round = 0; round < 5; round++)
        threads_that_end_together(30);
    size_t before = resident_pages();
    for (int round = 0; round < 30; round++)
        threads_that_end_together(30);
    CHECK(resident_pages() < before + 256);
}
