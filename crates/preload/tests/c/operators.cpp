// The C++ operators new and delete in every form.

#include "case.h"

#include <execinfo.h>
#include <malloc.h>
#include <sys/resource.h>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// The results that are thrown away below are exceptions or nulls.
#pragma GCC diagnostic ignored "-Wunused-result"

namespace {

// More than any address space has, and not so much that the compiler or the
// runtime refuses before it asks.
size_t impossible() { return opaque(PTRDIFF_MAX - 4096); }

// Leaves the program `bytes` of address space beyond what it has.
void limit_address_space(size_t bytes) {
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != nullptr && fscanf(statm, "%zu", &pages) == 1);
    fclose(statm);
    rlimit limit;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = pages * 4096 + bytes;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

template <typename Call> bool throws_bad_alloc(Call call) {
    try {
        call();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

bool is_aligned(const void *ptr, size_t alignment) { return (uintptr_t)ptr % alignment == 0; }

std::align_val_t to(size_t alignment) { return std::align_val_t(opaque(alignment)); }

int handled;
void *reserve;

void give_up_at_the_third_call() {
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

} // namespace

CASE(every_form_of_new_pairs_with_every_form_of_delete) {
    size_t sizes[] = {0, 1, 8, 24, 100, 1000, 5000, 50000, 500000, 5000000};
    for (size_t size : sizes) {
        // Repeated so often that what is not freed would be missed.
        for (int round = 0; round < 1000; round++) {
            operator delete(operator new(size));
            operator delete(operator new(size), size);
            operator delete(operator new(size), std::nothrow);
            operator delete(operator new(size, std::nothrow));
            operator delete[](operator new[](size));
            operator delete[](operator new[](size), size);
            operator delete[](operator new[](size), std::nothrow);
            operator delete[](operator new[](size, std::nothrow));
            for (size_t alignment : {8, 16, 64, 4096}) {
                operator delete(operator new(size, to(alignment)), to(alignment));
                operator delete(operator new(size, to(alignment)), size, to(alignment));
                operator delete(operator new(size, to(alignment)), to(alignment), std::nothrow);
                operator delete(operator new(size, to(alignment), std::nothrow), to(alignment));
                operator delete[](operator new[](size, to(alignment)), to(alignment));
                operator delete[](operator new[](size, to(alignment)), size, to(alignment));
                operator delete[](operator new[](size, to(alignment)), to(alignment), std::nothrow);
                operator delete[](operator new[](size, to(alignment), std::nothrow), to(alignment));
            }
        }
    }
}

CASE(every_form_of_delete_takes_null) {
    operator delete(nullptr);
    operator delete(nullptr, size_t(8));
    operator delete(nullptr, std::nothrow);
    operator delete(nullptr, to(64));
    operator delete(nullptr, size_t(8), to(64));
    operator delete(nullptr, to(64), std::nothrow);
    operator delete[](nullptr);
    operator delete[](nullptr, size_t(8));
    operator delete[](nullptr, std::nothrow);
    operator delete[](nullptr, to(64));
    operator delete[](nullptr, size_t(8), to(64));
    operator delete[](nullptr, to(64), std::nothrow);
}

CASE(new_of_zero_bytes_gives_unique_blocks) {
    void *blocks[] = {operator new(opaque(0)), operator new(opaque(0)), operator new[](opaque(0)),
                      operator new(opaque(0), std::nothrow), operator new(opaque(0), to(64))};
    for (void *&one : blocks) {
        CHECK(one != nullptr);
        for (void *&other : blocks)
            CHECK(&one == &other || one != other);
    }
    for (int i = 0; i < 4; i++)
        operator delete(blocks[i]);
    operator delete(blocks[4], to(64));
}

CASE(blocks_of_aligned_new_are_aligned) {
    for (size_t alignment = 1; alignment <= 1 << 22; alignment *= 2) {
        for (size_t size : {0, 1, 24, 1000, 70000}) {
            void *blocks[] = {operator new(size, to(alignment)), operator new[](size, to(alignment)),
                              operator new(size, to(alignment), std::nothrow),
                              operator new[](size, to(alignment), std::nothrow)};
            for (void *block : blocks) {
                CHECK(block != nullptr && is_aligned(block, alignment));
                memset(block, 1, size);
            }
            for (void *block : blocks)
                operator delete(block, size, to(alignment));
        }
    }
    struct alignas(128) Wide { char bytes[300]; };
    std::vector<Wide> wide(100);
    CHECK(is_aligned(wide.data(), 128));
    auto one = std::make_unique<Wide>();
    CHECK(is_aligned(one.get(), 128));
}

CASE(new_beyond_any_object_throws_bad_alloc) {
    CHECK(throws_bad_alloc([] { operator new(impossible()); }));
    CHECK(throws_bad_alloc([] { operator new[](impossible()); }));
    CHECK(throws_bad_alloc([] { operator new(opaque(SIZE_MAX)); }));
    CHECK(throws_bad_alloc([] { operator new(impossible(), to(64)); }));
    CHECK(throws_bad_alloc([] { operator new[](impossible(), to(64)); }));
    CHECK(throws_bad_alloc([] { std::string(impossible() / 2, 'x'); }));
    CHECK(throws_bad_alloc([] { std::vector<char>().reserve(impossible()); }));
    operator delete(operator new(100));
}

// Some C++ runtimes round such a size up to 0.
CASE(new_of_nearly_all_addresses_aligned_throws_bad_alloc) {
    CHECK(throws_bad_alloc([] { operator new(opaque(SIZE_MAX), to(4096)); }));
    CHECK(throws_bad_alloc([] { operator new[](opaque(SIZE_MAX - 62), to(64)); }));
    CHECK(operator new(opaque(SIZE_MAX), to(4096), std::nothrow) == nullptr);
    CHECK(operator new[](opaque(SIZE_MAX), to(4096), std::nothrow) == nullptr);
}

CASE(nothrow_new_beyond_any_object_returns_null) {
    CHECK(operator new(impossible(), std::nothrow) == nullptr);
    CHECK(operator new[](impossible(), std::nothrow) == nullptr);
    CHECK(operator new(opaque(SIZE_MAX), std::nothrow) == nullptr);
    CHECK(operator new(impossible(), to(64), std::nothrow) == nullptr);
    CHECK(operator new[](impossible(), to(64), std::nothrow) == nullptr);
    CHECK(new (std::nothrow) char[impossible()] == nullptr);
}

CASE(new_to_an_alignment_that_is_no_power_of_two_throws_bad_alloc) {
    for (size_t alignment : {3, 12, 24, 100}) {
        CHECK(throws_bad_alloc([=] { operator new(100, to(alignment)); }));
        CHECK(throws_bad_alloc([=] { operator new[](100, to(alignment)); }));
        CHECK(operator new(100, to(alignment), std::nothrow) == nullptr);
        CHECK(operator new[](100, to(alignment), std::nothrow) == nullptr);
    }
}

CASE(new_under_a_limit_throws_and_works_again_after_deleting) {
    limit_address_space(256 << 20);
    std::vector<char *> blocks;
    blocks.reserve(100000);
    for (int round = 0; round < 3; round++) {
        bool thrown = throws_bad_alloc([&] {
            for (;;) {
                blocks.push_back(new char[1 << 20]);
                memset(blocks.back(), 1, 1 << 20);
                CHECK(blocks.size() <= 256);
            }
        });
        CHECK(thrown);
        CHECK(blocks.size() > 100);
        for (char *block : blocks)
            delete[] block;
        blocks.clear();
    }
}

CASE(small_news_under_a_limit_throw_and_work_again_after_deleting) {
    struct Node {
        Node *next;
        char bytes[56];
    };
    limit_address_space(64 << 20);
    for (int round = 0; round < 3; round++) {
        Node *all = nullptr;
        size_t count = 0;
        CHECK(throws_bad_alloc([&] {
            for (;; count++) {
                CHECK(count <= (128 << 20) / sizeof(Node));
                all = new Node{all, {}};
            }
        }));
        CHECK(count > (32 << 20) / sizeof(Node));
        while (all != nullptr) {
            Node *next = all->next;
            delete all;
            all = next;
        }
    }
}

CASE(the_new_handler_is_called_until_it_gives_up) {
    std::set_new_handler(give_up_at_the_third_call);
    CHECK(throws_bad_alloc([] { operator new(impossible()); }));
    CHECK(handled == 3);
    handled = 0;
    std::set_new_handler(give_up_at_the_third_call);
    CHECK(throws_bad_alloc([] { operator new[](impossible(), to(64)); }));
    CHECK(handled == 3);
}

CASE(nothrow_new_calls_the_new_handler_too) {
    std::set_new_handler(give_up_at_the_third_call);
    CHECK(operator new(impossible(), std::nothrow) == nullptr);
    CHECK(handled == 3);
    handled = 0;
    std::set_new_handler(give_up_at_the_third_call);
    CHECK(operator new[](impossible(), to(64), std::nothrow) == nullptr);
    CHECK(handled == 3);
}

CASE(a_new_handler_that_frees_memory_lets_new_succeed) {
    reserve = malloc(100 << 20);
    CHECK(reserve != nullptr);
    memset(reserve, 1, 100 << 20);
    limit_address_space(50 << 20);
    std::set_new_handler([] {
        handled++;
        free(reserve);
        reserve = nullptr;
    });
    void *block = operator new(90 << 20);
    CHECK(block != nullptr && handled == 1);
    memset(block, 1, 90 << 20);
    operator delete(block);
}

CASE(an_exception_of_the_new_handlers_own_passes_through) {
    std::set_new_handler([] { throw std::bad_alloc(); });
    CHECK(throws_bad_alloc([] { operator new(impossible()); }));
    struct Own : std::bad_alloc {
        int number = 7;
    };
    std::set_new_handler([] { throw Own(); });
    int caught = 0;
    try {
        operator new[](impossible(), to(64));
    } catch (const Own &own) {
        caught = own.number;
    }
    CHECK(caught == 7);
}

CASE(no_frame_of_ours_is_on_the_stack_when_new_fails) {
    static int frames_seen, ours;
    std::set_new_handler([] {
        void *frames[64];
        frames_seen = backtrace(frames, 64);
        for (int i = 0; i < frames_seen; i++) {
            Dl_info info;
            if (dladdr(frames[i], &info) != 0 && strstr(info.dli_fname, "libhakmem.so") != nullptr)
                ours++;
        }
        throw std::bad_alloc();
    });
    CHECK(throws_bad_alloc([] { operator new(impossible()); }));
    CHECK(throws_bad_alloc([] { operator new[](impossible()); }));
    CHECK(throws_bad_alloc([] { operator new(impossible(), to(64)); }));
    CHECK(throws_bad_alloc([] { operator new[](impossible(), to(64)); }));
    CHECK(operator new(impossible(), std::nothrow) == nullptr);
    CHECK(operator new[](impossible(), to(64), std::nothrow) == nullptr);
    CHECK(frames_seen > 3 && ours == 0);
}

CASE(destructors_run_when_new_throws) {
    static int destroyed;
    struct Guard {
        ~Guard() { destroyed++; }
    };
    CHECK(throws_bad_alloc([] {
        Guard one;
        std::vector<Guard> many(10);
        operator new(impossible());
    }));
    CHECK(destroyed == 11);
}

CASE(a_constructor_that_throws_gives_the_block_back) {
    struct Refusing {
        char bytes[500000];
        Refusing() { throw std::runtime_error("no"); }
    };
    for (int round = 0; round < 20000; round++) {
        try {
            new Refusing;
        } catch (const std::runtime_error &) {
        }
    }
}

CASE(malloced_memory_and_new_share_one_heap) {
    // Common in old code, and fine with every allocator where new calls malloc.
    for (int round = 0; round < 1000; round++) {
        free(operator new(100));
        operator delete(malloc(100));
        void *block = operator new(50);
        CHECK(malloc_usable_size(block) >= 50);
        operator delete(realloc(block, 5000));
    }
}
