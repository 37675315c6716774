/* Threads that allocate, fill, hand on to the next one and free, for valgrind's helgrind.
 *
 *     helgrind THREADS SECONDS [SEED]
 *
 * Each thread has a queue under a mutex. What a thread reads or writes in a block it does
 * holding the block alone: two threads that are given the same memory are a race in this
 * file. Helgrind does not know that a free happens before the malloc that hands the memory
 * out again, because the allocator's atomics mean nothing to it, so it is told to forget a
 * block's past when the block is made. Rounds end by joins, and start new threads. The last
 * line printed is `ok`. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <valgrind/helgrind.h>

#define QUEUE 64

struct queue {
    pthread_mutex_t lock;
    void *blocks[QUEUE];
    size_t sizes[QUEUE];
    int count;
};

static struct queue *queues;
static int threads;
static int rounds_of_thread = 2000;
static uint64_t first_seed;

struct start {
    int index;
    uint64_t seed;
};

static uint64_t next_number(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static size_t next_size(uint64_t *state) {
    switch (next_number(state) % 64) {
    case 0: return 40000 + next_number(state) % 200000;
    case 1: case 2: case 3: return 1025 + next_number(state) % 30000;
    default: return 1 + next_number(state) % 1024;
    }
}

static void fail(const char *what) {
    printf("failed: %s\n", what);
    exit(1);
}

/* What both threads of a double hand-out would do. */
static void fill(unsigned char *block, size_t size) {
    VALGRIND_HG_CLEAN_MEMORY(block, size);
    block[0] = (unsigned char)size;
    block[size - 1] = (unsigned char)size;
}

/* By itself, because calloc may end in a jump to memset, which then seems to be called from
 * here: helgrind.supp names this function. */
__attribute__((noinline)) static void *zeroed(size_t size) {
    void *block = calloc(1, size);
    __asm__ volatile("" : : "r"(block) : "memory"); /* not a tail call */
    return block;
}

static void check_and_free(unsigned char *block, size_t size) {
    if (block[0] != (unsigned char)size || block[size - 1] != (unsigned char)size)
        fail("a block does not hold what was written to it");
    free(block);
}

/* Takes the newest block out of a thread's queue. */
static void *take(struct queue *queue, size_t *size) {
    void *block = NULL;
    pthread_mutex_lock(&queue->lock);
    if (queue->count > 0) {
        block = queue->blocks[--queue->count];
        *size = queue->sizes[queue->count];
    }
    pthread_mutex_unlock(&queue->lock);
    return block;
}

/* Hands a block on, or says that the queue is full. */
static int put(struct queue *queue, void *block, size_t size) {
    int done = 0;
    pthread_mutex_lock(&queue->lock);
    if (queue->count < QUEUE) {
        queue->blocks[queue->count] = block;
        queue->sizes[queue->count++] = size;
        done = 1;
    }
    pthread_mutex_unlock(&queue->lock);
    return done;
}

static void *work(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    for (int round = 0; round < rounds_of_thread; round++) {
        size_t size = next_size(&start.seed);
        unsigned char *block = round % 3 ? malloc(size) : zeroed(size);
        if (!block) fail("out of memory");
        fill(block, size);
        if (round % 5 == 0) {
            size = next_size(&start.seed);
            block = realloc(block, size);
            if (!block) fail("out of memory");
            fill(block, size);
        }
        int other = round % 2 ? start.index : (start.index + 1) % threads;
        if (!put(&queues[other], block, size)) check_and_free(block, size);
        size_t found_size;
        void *found = round % 4 ? take(&queues[start.index], &found_size) : NULL;
        if (found) check_and_free(found, found_size);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 3) return 2;
    threads = atoi(arguments[1]);
    time_t end = time(NULL) + atol(arguments[2]);
    first_seed = count > 3 ? (uint64_t)atoll(arguments[3]) : 1;
    queues = calloc((size_t)threads, sizeof *queues);
    pthread_t *all = calloc((size_t)threads, sizeof *all);
    for (int i = 0; i < threads; i++) pthread_mutex_init(&queues[i].lock, NULL);
    long rounds = 0;
    do {
        for (int i = 0; i < threads; i++) {
            struct start *start = malloc(sizeof *start);
            if (!start) fail("out of memory");
            VALGRIND_HG_CLEAN_MEMORY(start, sizeof *start);
            start->index = i;
            start->seed = first_seed + (uint64_t)(rounds * threads + i);
            if (pthread_create(&all[i], NULL, work, start)) fail("no thread");
        }
        for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
        rounds++;
    } while (time(NULL) < end);
    for (int i = 0; i < threads; i++) {
        size_t size;
        void *block;
        while ((block = take(&queues[i], &size))) check_and_free(block, size);
        pthread_mutex_destroy(&queues[i].lock);
    }
    free(all);
    free(queues);
    printf("%ld rounds of %d threads\nok\n", rounds, threads);
    return 0;
}
