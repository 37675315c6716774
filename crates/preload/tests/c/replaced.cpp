// A program that replaces the plain forms of new and delete: every form it does
// not replace must reach them. Its blocks carry a header, so one that goes
// astray does not pass unseen.

#include "case.h"

#include <cstddef>
#include <new>
#include <vector>

// That the sized form is not replaced is what this program is about.
#pragma GCC diagnostic ignored "-Wsized-deallocation"

static int live, made;

void *operator new(size_t size) {
    size_t *header = static_cast<size_t *>(malloc(size + 32));
    if (header == nullptr)
        throw std::bad_alloc();
    header[0] = 0x1ead;
    live++;
    made++;
    return header + 4;
}

void operator delete(void *block) noexcept {
    if (block == nullptr)
        return;
    size_t *header = static_cast<size_t *>(block) - 4;
    CHECK(header[0] == 0x1ead);
    header[0] = 0;
    live--;
    free(header);
}

CASE(arrays_reach_a_replaced_new) {
    char *block = new char[opaque(100)];
    CHECK(made == 1 && live == 1);
    delete[] block;
    CHECK(live == 0);
}

CASE(sized_deletes_reach_a_replaced_delete) {
    operator delete(operator new(100), size_t(100));
    operator delete[](operator new[](100), size_t(100));
    CHECK(made == 2 && live == 0);
    std::vector<int> numbers;
    for (int i = 0; i < 1000; i++)
        numbers.push_back(i);
    CHECK(live == 1);
}

CASE(nothrow_forms_reach_a_replaced_new_and_delete) {
    operator delete(operator new(100, std::nothrow), std::nothrow);
    operator delete[](operator new[](100, std::nothrow), std::nothrow);
    CHECK(made == 2 && live == 0);
}

CASE(nothrow_new_returns_null_when_a_replaced_new_throws) {
    CHECK(operator new(opaque(PTRDIFF_MAX - 4096), std::nothrow) == nullptr);
    CHECK(operator new[](opaque(PTRDIFF_MAX - 4096), std::nothrow) == nullptr);
}

CASE(aligned_forms_do_not_reach_a_replaced_plain_new) {
    for (int i = 0; i < 100; i++) {
        operator delete(operator new(100, std::align_val_t(64)), std::align_val_t(64));
        operator delete[](operator new[](100, std::align_val_t(64), std::nothrow), std::align_val_t(64));
    }
    CHECK(made == 0 && live == 0);
}
