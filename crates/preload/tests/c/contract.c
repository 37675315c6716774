// The contract of every function of the malloc family, at its edges. What is
// printed must be the same on any allocator that keeps it.

#include "case.h"

#include <malloc.h>
#include <unistd.h>

#define HUGE_SIZES                                                            \
    {(size_t)PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 65536, SIZE_MAX - 4096, \
     SIZE_MAX - 4095,     SIZE_MAX - 15,           SIZE_MAX - 8,     SIZE_MAX - 1,    \
     SIZE_MAX}
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int is_aligned(const void *ptr, size_t alignment) {
    return (uintptr_t)ptr % alignment == 0;
}

static void fill(void *block, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)block)[i] = (unsigned char)(i * 31 + seed);
}

static int is_filled(const void *block, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)block)[i] != (unsigned char)(i * 31 + seed))
            return 0;
    return 1;
}

static int is_zero(const void *block, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)block)[i] != 0)
            return 0;
    return 1;
}

// Fails unless `call` gives null and sets errno.
#define GIVES_ERROR(call, error)     \
    do {                             \
        errno = 0;                   \
        CHECK((call) == NULL);       \
        CHECK(errno == (error));     \
    } while (0)

// ---- malloc

CASE(malloc_of_zero_gives_unique_blocks) {
    enum { N = 1000 };
    void *blocks[N];
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(opaque(0));
        CHECK(blocks[i] != NULL);
        for (int j = 0; j < i; j++)
            CHECK(blocks[i] != blocks[j]);
    }
    for (int i = 0; i < N; i++)
        free(blocks[i]);
}

CASE(malloc_beyond_any_object_is_enomem) {
    size_t sizes[] = HUGE_SIZES;
    for (size_t i = 0; i < COUNT(sizes); i++)
        GIVES_ERROR(malloc(opaque(sizes[i])), ENOMEM);
    void *block = malloc(100);
    CHECK(block != NULL);
    free(block);
}

CASE(malloc_is_aligned_for_any_object_that_fits) {
    for (size_t size = 0; size <= 70000; size += size < 5000 ? 1 : 997) {
        void *first = malloc(size), *second = malloc(size);
        CHECK(is_aligned(first, size <= 8 ? 8 : 16));
        CHECK(is_aligned(second, size <= 8 ? 8 : 16));
        free(first);
        free(second);
    }
}

CASE(blocks_do_not_overlap) {
    enum { N = 600 };
    unsigned char *blocks[N];
    size_t sizes[N];
    for (size_t i = 0; i < N; i++) {
        sizes[i] = i < 500 ? i * 7 : (i - 499) * 33333;
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        fill(blocks[i], sizes[i], (unsigned)i);
    }
    for (size_t i = 0; i < N; i++)
        CHECK(is_filled(blocks[i], sizes[i], (unsigned)i));
    for (size_t i = 0; i < N; i++)
        free(blocks[i]);
}

// ---- calloc

CASE(calloc_whose_product_overflows_is_enomem) {
    size_t pairs[][2] = {{SIZE_MAX, 2},     {2, SIZE_MAX},  {SIZE_MAX / 2 + 1, 2}, {SIZE_MAX / 16 + 1, 16},
                         {1UL << 32, 1UL << 32}, {(1UL << 32) + 1, (1UL << 32) - 1},
                         {SIZE_MAX, SIZE_MAX}};
    for (size_t i = 0; i < COUNT(pairs); i++)
        GIVES_ERROR(calloc(opaque(pairs[i][0]), opaque(pairs[i][1])), ENOMEM);
}

CASE(calloc_beyond_any_object_is_enomem) {
    size_t sizes[] = HUGE_SIZES;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        GIVES_ERROR(calloc(opaque(sizes[i]), opaque(1)), ENOMEM);
        GIVES_ERROR(calloc(opaque(1), opaque(sizes[i])), ENOMEM);
    }
}

CASE(calloc_of_nothing_gives_unique_blocks) {
    void *blocks[] = {calloc(opaque(0), opaque(0)), calloc(opaque(0), opaque(7)),
                      calloc(opaque(7), opaque(0)), calloc(opaque(0), opaque(SIZE_MAX)),
                      calloc(opaque(SIZE_MAX), opaque(0))};
    for (size_t i = 0; i < COUNT(blocks); i++) {
        CHECK(blocks[i] != NULL);
        for (size_t j = 0; j < i; j++)
            CHECK(blocks[i] != blocks[j]);
    }
    for (size_t i = 0; i < COUNT(blocks); i++)
        free(blocks[i]);
}

CASE(calloc_zeroes_memory_that_was_used_before) {
    size_t sizes[] = {1, 8, 24, 100, 1000, 1024, 4000, 20000, 40000, 100000, 700000, 3000000, 9000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int round = 0; round < 20; round++) {
            unsigned char *dirty[4];
            for (int k = 0; k < 4; k++) {
                dirty[k] = malloc(sizes[i]);
                CHECK(dirty[k] != NULL);
                memset(dirty[k], 0xee, malloc_usable_size(dirty[k]));
            }
            for (int k = 0; k < 4; k++)
                free(dirty[k]);
            unsigned char *clean = calloc(1, sizes[i]);
            CHECK(clean != NULL && is_zero(clean, sizes[i]));
            memset(clean, 0xdd, sizes[i]);
            free(clean);
        }
    }
}

// ---- realloc

CASE(realloc_of_null_is_malloc) {
    char *block = realloc(NULL, opaque(100));
    CHECK(block != NULL);
    memset(block, 1, 100);
    free(block);
    block = realloc(NULL, opaque(0));
    CHECK(block != NULL);
    free(block);
}

CASE(realloc_to_zero_frees_and_returns_null) {
    size_t sizes[] = {0, 1, 100, 5000, 50000, 500000, 5000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int round = 0; round < 3000; round++) {
            // Unfreed, the larger of these would exhaust memory.
            void *block = malloc(sizes[i]);
            CHECK(block != NULL);
            errno = 77;
            CHECK(realloc(block, opaque(0)) == NULL);
            CHECK(errno == 77);
        }
    }
}

CASE(realloc_beyond_any_object_keeps_the_block) {
    size_t sizes[] = HUGE_SIZES;
    size_t blocks[] = {1, 100, 5000, 50000, 5000000};
    for (size_t b = 0; b < COUNT(blocks); b++) {
        char *block = malloc(blocks[b]);
        fill(block, blocks[b], 9);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            GIVES_ERROR(realloc(block, opaque(sizes[i])), ENOMEM);
            CHECK(is_filled(block, blocks[b], 9));
        }
        free(block);
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        GIVES_ERROR(realloc(NULL, opaque(sizes[i])), ENOMEM);
}

CASE(realloc_keeps_what_both_sizes_hold) {
    size_t sizes[] = {1, 15, 16, 17, 100, 1000, 1024, 1025, 4096, 33000, 65536, 65537, 300000, 1 << 20, (1 << 20) + 1, 5000000, 12000000};
    for (size_t from = 0; from < COUNT(sizes); from++) {
        for (size_t to = 0; to < COUNT(sizes); to++) {
            unsigned char *block = malloc(sizes[from]);
            CHECK(block != NULL);
            fill(block, sizes[from], (unsigned)from);
            block = realloc(block, sizes[to]);
            CHECK(block != NULL);
            size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            CHECK(is_filled(block, kept, (unsigned)from));
            fill(block, sizes[to], 3);
            free(block);
        }
    }
}

CASE(realloc_grows_step_by_step) {
    char *block = NULL;
    for (size_t size = 1; size < 3000000; size += 1 + size / 50) {
        block = realloc(block, size);
        CHECK(block != NULL);
        CHECK(size == 1 || block[0] == 'a');
        block[0] = 'a';
        block[size - 1] = 'a';
    }
    for (size_t size = 3000000; size > 1; size -= 1 + size / 50) {
        block = realloc(block, size);
        CHECK(block != NULL && block[0] == 'a');
    }
    free(block);
}

CASE(reallocarray_whose_product_overflows_keeps_the_block) {
    char *block = malloc(100);
    fill(block, 100, 5);
    GIVES_ERROR(reallocarray(block, opaque(SIZE_MAX), opaque(2)), ENOMEM);
    GIVES_ERROR(reallocarray(block, opaque(1UL << 33), opaque(1UL << 33)), ENOMEM);
    GIVES_ERROR(reallocarray(NULL, opaque(SIZE_MAX / 3), opaque(4)), ENOMEM);
    CHECK(is_filled(block, 100, 5));
    block = reallocarray(block, opaque(1000), opaque(10));
    CHECK(block != NULL && is_filled(block, 100, 5));
    free(block);
}

CASE(reallocarray_to_zero_frees_and_returns_null) {
    for (int round = 0; round < 20000; round++) {
        errno = 77;
        CHECK(reallocarray(malloc(500000), opaque(0), opaque(10)) == NULL);
        CHECK(reallocarray(malloc(500000), opaque(10), opaque(0)) == NULL);
        CHECK(errno == 77);
    }
    void *block = reallocarray(NULL, opaque(0), opaque(10));
    CHECK(block != NULL);
    free(block);
}

// ---- alignment

CASE(posix_memalign_refuses_what_is_not_a_power_of_two_of_pointers) {
    size_t alignments[] = {0, 1, 2, 4, 3, 7, 12, 24, 40, 48, 1000, 4097, SIZE_MAX, SIZE_MAX - 7, ((size_t)1 << 63) + 8};
    for (size_t i = 0; i < COUNT(alignments); i++) {
        int untouched;
        void *block = &untouched;
        errno = 77;
        CHECK(posix_memalign(&block, opaque(alignments[i]), 100) == EINVAL);
        CHECK(block == &untouched);
        CHECK(errno == 77);
    }
}

CASE(posix_memalign_without_memory_leaves_the_pointer) {
    size_t sizes[] = HUGE_SIZES;
    for (size_t alignment = 8; alignment != 0; alignment *= 2) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            int untouched;
            void *block = &untouched;
            CHECK(posix_memalign(&block, alignment, opaque(sizes[i])) == ENOMEM);
            CHECK(block == &untouched);
        }
    }
}

// glibc sets it here, against its own documentation.
CASE(posix_memalign_without_memory_leaves_errno) {
    void *block = NULL;
    errno = 77;
    CHECK(posix_memalign(&block, 64, opaque(PTRDIFF_MAX)) == ENOMEM);
    CHECK(errno == 77);
}

CASE(posix_memalign_aligns_every_size) {
    size_t sizes[] = {0, 1, 8, 24, 100, 1000, 1024, 4096, 40000, 1 << 20, 3 << 20};
    for (size_t alignment = 8; alignment <= 64 << 20; alignment *= 2) {
        void *blocks[2 * COUNT(sizes)];
        for (size_t i = 0; i < COUNT(blocks); i++) {
            size_t size = sizes[i / 2];
            CHECK(posix_memalign(&blocks[i], alignment, size) == 0);
            CHECK(blocks[i] != NULL && is_aligned(blocks[i], alignment));
            fill(blocks[i], size, (unsigned)i);
        }
        for (size_t i = 0; i < COUNT(blocks); i++) {
            CHECK(is_filled(blocks[i], sizes[i / 2], (unsigned)i));
            free(blocks[i]);
        }
    }
}

CASE(an_alignment_that_no_address_space_has_is_enomem) {
    void *untouched = NULL, *block = &untouched;
    CHECK(posix_memalign(&block, (size_t)1 << 62, 1) == ENOMEM && block == &untouched);
    CHECK(posix_memalign(&block, (size_t)1 << 63, 1) == ENOMEM && block == &untouched);
    GIVES_ERROR(memalign(opaque((size_t)1 << 62), 1), ENOMEM);
    GIVES_ERROR(aligned_alloc(opaque((size_t)1 << 62), 1), ENOMEM);
}

// The glibc of some systems takes any alignment here.
CASE(aligned_alloc_refuses_what_is_not_a_power_of_two) {
    size_t alignments[] = {0, 3, 7, 12, 24, 40, 48, 1000, 4097, SIZE_MAX};
    for (size_t i = 0; i < COUNT(alignments); i++)
        GIVES_ERROR(aligned_alloc(opaque(alignments[i]), 100), EINVAL);
}

CASE(aligned_alloc_takes_any_size) {
    for (size_t alignment = 1; alignment <= 1 << 20; alignment *= 2) {
        for (size_t size = 0; size < 70; size += 3) {
            void *block = aligned_alloc(alignment, opaque(size));
            CHECK(block != NULL && is_aligned(block, alignment));
            free(block);
        }
    }
    size_t sizes[] = HUGE_SIZES;
    for (size_t i = 0; i < COUNT(sizes); i++)
        GIVES_ERROR(aligned_alloc(64, opaque(sizes[i])), ENOMEM);
}

CASE(memalign_rounds_the_alignment_up) {
    size_t alignments[][2] = {{0, 8}, {1, 8}, {3, 8}, {17, 32}, {24, 32}, {33, 64}, {48, 64}, {100, 128}, {1000, 1024}, {4097, 8192}, {65537, 131072}};
    for (size_t i = 0; i < COUNT(alignments); i++) {
        void *blocks[20];
        for (size_t k = 0; k < COUNT(blocks); k++) {
            blocks[k] = memalign(opaque(alignments[i][0]), opaque(40));
            CHECK(blocks[k] != NULL && is_aligned(blocks[k], alignments[i][1]));
        }
        for (size_t k = 0; k < COUNT(blocks); k++)
            free(blocks[k]);
    }
}

CASE(memalign_to_more_than_half_the_address_space_is_einval) {
    GIVES_ERROR(memalign(opaque(((size_t)1 << 63) + 1), 1), EINVAL);
    GIVES_ERROR(memalign(opaque(SIZE_MAX), 1), EINVAL);
}

CASE(memalign_beyond_any_object_is_enomem) {
    size_t sizes[] = HUGE_SIZES;
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t alignment = 1; alignment <= 1 << 30; alignment *= 2)
            GIVES_ERROR(memalign(opaque(alignment), opaque(sizes[i])), ENOMEM);
}

CASE(valloc_is_aligned_to_a_page) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), sizes[] = HUGE_SIZES;
    for (size_t size = 0; size < 20000; size += 777) {
        void *block = valloc(opaque(size));
        CHECK(block != NULL && is_aligned(block, page));
        free(block);
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        GIVES_ERROR(valloc(opaque(sizes[i])), ENOMEM);
}

CASE(pvalloc_gives_whole_pages) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), sizes[] = HUGE_SIZES;
    for (size_t size = 0; size < 20000; size += 777) {
        void *block = pvalloc(opaque(size));
        CHECK(block != NULL && is_aligned(block, page));
        CHECK(malloc_usable_size(block) >= (size + page - 1) / page * page);
        free(block);
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        GIVES_ERROR(pvalloc(opaque(sizes[i])), ENOMEM);
}

CASE(aligned_blocks_can_be_reallocated) {
    for (size_t alignment = 16; alignment <= 1 << 16; alignment *= 4) {
        for (size_t size = 1; size < 200000; size *= 7) {
            unsigned char *block = memalign(alignment, size);
            fill(block, size, 1);
            block = realloc(block, size * 3);
            CHECK(block != NULL && is_filled(block, size, 1));
            block = realloc(block, size / 2 + 1);
            CHECK(block != NULL && is_filled(block, size / 2 + 1, 1));
            free(block);
        }
    }
}

// ---- free, errno, usable size

CASE(free_of_null_does_nothing) {
    errno = 77;
    free(NULL);
    CHECK(errno == 77);
}

CASE(free_preserves_errno) {
    size_t sizes[] = {1, 100, 3000, 40000, 300000, 2000000, 30000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        enum { N = 300 };
        void *blocks[N];
        int n = sizes[i] > 1000000 ? 10 : N;
        for (int k = 0; k < n; k++)
            CHECK((blocks[k] = malloc(sizes[i])) != NULL);
        for (int k = 0; k < n; k++) {
            errno = 77;
            free(blocks[k]);
            CHECK(errno == 77);
        }
    }
}

CASE(calls_that_succeed_preserve_errno) {
    size_t sizes[] = {0, 1, 100, 3000, 40000, 300000, 2000000, 30000000};
    errno = 77;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int k = 0; k < 50; k++) {
            void *block = malloc(sizes[i]), *other;
            CHECK(errno == 77);
            block = realloc(block, sizes[i] + 1000);
            CHECK(block != NULL && errno == 77);
            free(block);
            block = calloc(1, sizes[i]);
            CHECK(block != NULL && errno == 77);
            CHECK(posix_memalign(&other, 4096, sizes[i]) == 0 && errno == 77);
            CHECK(malloc_usable_size(other) >= sizes[i] && errno == 77);
            free(other);
            free(block);
            CHECK(errno == 77);
        }
    }
}

CASE(usable_size_of_null_is_zero) {
    CHECK(malloc_usable_size(NULL) == 0);
}

CASE(every_usable_byte_is_the_blocks_own) {
    enum { N = 400 };
    unsigned char *blocks[N];
    for (size_t i = 0; i < N; i++) {
        size_t size = i < 300 ? i * 5 : (i - 299) * 20001;
        blocks[i] = malloc(size);
        CHECK(malloc_usable_size(blocks[i]) >= size);
        fill(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i);
    }
    for (size_t i = 0; i < N; i++) {
        CHECK(is_filled(blocks[i], malloc_usable_size(blocks[i]), (unsigned)i));
        free(blocks[i]);
    }
}

// glibc keeps this one for programs that were linked long ago.
CASE(cfree_frees) {
    void (*cfree)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    CHECK(cfree != NULL);
    cfree(NULL);
    for (int round = 0; round < 20000; round++) {
        void *block = malloc(500000);
        CHECK(block != NULL);
        memset(block, 1, 5000);
        cfree(block);
    }
}

// These two came with glibc 2.43.
CASE(sized_frees_free) {
    void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
    void (*free_aligned_sized)(void *, size_t, size_t) =
        (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
    CHECK(free_sized != NULL && free_aligned_sized != NULL);
    free_sized(NULL, 0);
    free_aligned_sized(NULL, 64, 64);
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)round * 37;
        void *block = malloc(size);
        CHECK(block != NULL);
        free_sized(block, size);
        block = aligned_alloc(64, size);
        CHECK(block != NULL);
        free_aligned_sized(block, 64, size);
    }
}

// ---- numbers

CASE(mallopt_accepts_what_glibc_accepts) {
    int parameters[][2] = {{M_MXFAST, 64},         {M_MXFAST, -1},       {M_MXFAST, 160},      {M_MXFAST, 161},
                           {M_TRIM_THRESHOLD, 0},  {M_TOP_PAD, 4096},    {M_MMAP_THRESHOLD, 1 << 20},
                           {M_MMAP_MAX, 10},       {M_CHECK_ACTION, 3},
                           {M_PERTURB, 0},         {M_ARENA_TEST, 1},    {M_ARENA_MAX, 1},     {12345, 1}};
    for (size_t i = 0; i < COUNT(parameters); i++)
        printf("mallopt(%d, %d) = %d\n", parameters[i][0], parameters[i][1], mallopt(parameters[i][0], parameters[i][1]));
}

CASE(malloc_trim_says_whether_memory_went_back) {
    // A burst that is freed again leaves something to give back, once.
    enum { N = 20000 };
    static void *blocks[N];
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(3000);
        memset(blocks[i], 1, 3000);
    }
    for (int i = 0; i < N; i++)
        free(blocks[i]);
    int first = malloc_trim(0);
    CHECK(first == 0 || first == 1);
    printf("%d\n", first);
}

CASE(mallinfo_counts_what_is_live) {
    enum { N = 64 };
    void *blocks[N];
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(1 << 20);
        memset(blocks[i], 1, 1 << 20);
    }
    struct mallinfo2 during = mallinfo2();
    size_t live_before = before.uordblks + before.hblkhd, live_during = during.uordblks + during.hblkhd;
    CHECK(live_during - live_before >= (size_t)N << 20);
    CHECK(live_during - live_before <= (size_t)N << 21);
    for (int i = 0; i < N; i++)
        free(blocks[i]);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo narrow = mallinfo();
    CHECK(narrow.arena >= 0 && narrow.uordblks >= 0);
}

// Leaves free memory with the allocator, more than is in use.
static void free_some(void) {
    enum { N = 64 };
    void *blocks[N];
    for (int i = 0; i < N; i++) {
        blocks[i] = malloc(200000);
        memset(blocks[i], 1, 200000);
    }
    for (int i = 0; i < N; i++)
        free(blocks[i]);
}

CASE(mallinfo_adds_up) {
    free_some();
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks + after.fordblks == after.arena);
    CHECK(after.keepcost <= after.fordblks);
}

CASE(malloc_info_writes_a_document) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(malloc_info(0, stream) == 0);
    CHECK(fclose(stream) == 0);
    CHECK(strncmp(text, "<malloc version=\"", 17) == 0);
    CHECK(strcmp(text + length - 10, "</malloc>\n") == 0);
    free(text);
}

CASE(malloc_info_refuses_options) {
    CHECK(malloc_info(1, stdout) == EINVAL);
    CHECK(malloc_info(-1, stdout) == EINVAL);
}

CASE(malloc_stats_goes_to_standard_error) {
    free_some();
    malloc_stats();
}
