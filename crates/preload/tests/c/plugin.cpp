// A C++ library that a C program opens for itself: no C++ runtime is in the
// program's own search order.

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

// What is thrown away below is an exception.
#pragma GCC diagnostic ignored "-Wunused-result"

static volatile size_t impossible = PTRDIFF_MAX - 4096;

extern "C" int plugin_catches_bad_alloc() {
    int caught = 0;
    try {
        operator new(impossible);
    } catch (const std::bad_alloc &) {
        caught++;
    }
    try {
        std::vector<char>().reserve(impossible);
    } catch (const std::bad_alloc &) {
        caught++;
    }
    try {
        operator new[](impossible, std::align_val_t(64));
    } catch (const std::bad_alloc &) {
        caught++;
    }
    if (operator new(impossible, std::nothrow) == nullptr)
        caught++;
    return caught;
}

extern "C" void *plugin_news() { return new char[100]; }

extern "C" void plugin_deletes(void *block) { delete[] static_cast<char *>(block); }
