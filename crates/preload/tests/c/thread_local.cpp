// C++ objects that belong to a thread.

#include "case.h"

#include <pthread.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> destroyed;

struct Keeper {
    std::map<int, std::string> map;
    Keeper() {
        for (int i = 0; i < 50; i++)
            map[i] = std::string(static_cast<size_t>(i * 10), 'x');
    }
    ~Keeper() {
        // As destructors do that log, or hand their contents on.
        std::vector<std::string> copy;
        for (auto &entry : map)
            copy.push_back(entry.second + "y");
        map.clear();
        destroyed++;
    }
};

static thread_local Keeper keeper;
static thread_local std::unique_ptr<Keeper> late;

static pthread_key_t key;

static void use_thread_locals_after_their_end(void *) {
    // Runs after the C++ destructors, and after the library's own hook.
    std::vector<std::string> copy(100, "a string that is longer than a small one");
    delete new Keeper;
}

CASE(destructors_of_thread_local_objects_allocate) {
    for (int i = 0; i < 200; i++) {
        std::thread([] {
            CHECK(keeper.map.size() == 50);
            late = std::make_unique<Keeper>();
        }).join();
    }
    CHECK(destroyed == 400);
}

CASE(thread_local_objects_and_keys_end_in_any_order) {
    CHECK(pthread_key_create(&key, use_thread_locals_after_their_end) == 0);
    for (int i = 0; i < 200; i++) {
        std::thread([i] {
            if (i % 2 == 0)
                CHECK(pthread_setspecific(key, &key) == 0);
            CHECK(keeper.map.size() == 50);
            if (i % 2 == 1)
                CHECK(pthread_setspecific(key, &key) == 0);
        }).join();
    }
    CHECK(destroyed == 400);
}

extern "C" int __cxa_thread_atexit(void (*)(void *), void *, void *) noexcept;
extern "C" void *__dso_handle;

CASE(functions_registered_for_a_threads_end_allocate) {
    for (int i = 0; i < 200; i++) {
        std::thread([] {
            // Before this thread's first allocation of its own.
            __cxa_thread_atexit(
                [](void *) {
                    delete new Keeper;
                    free(malloc(100));
                },
                nullptr, &__dso_handle);
            free(malloc(10));
        }).join();
    }
    CHECK(destroyed == 200);
}

CASE(the_main_threads_objects_end_after_main) {
    CHECK(keeper.map.size() == 50);
    late = std::make_unique<Keeper>();
    static Keeper global;
    CHECK(global.map.size() == 50);
}
