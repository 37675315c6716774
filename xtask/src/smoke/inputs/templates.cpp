#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <std::size_t N> struct Fibonacci : std::integral_constant<std::uint64_t, Fibonacci<N - 1>::value + Fibonacci<N - 2>::value> {};
template <> struct Fibonacci<0> : std::integral_constant<std::uint64_t, 0> {};
template <> struct Fibonacci<1> : std::integral_constant<std::uint64_t, 1> {};

template <std::size_t N> struct Node {
    std::array<int, N % 17 + 1> data{};
    std::unique_ptr<Node<N - 1>> next = std::make_unique<Node<N - 1>>();
    std::map<std::string, std::vector<int>> table;
    std::uint64_t sum() {
        table["node " + std::to_string(N)].assign(N, static_cast<int>(N));
        std::iota(data.begin(), data.end(), static_cast<int>(N));
        return std::accumulate(data.begin(), data.end(), std::uint64_t{0}) + table.begin()->second.size() + next->sum();
    }
};
template <> struct Node<0> {
    std::uint64_t sum() { return 0; }
};

template <std::size_t... Is> auto table(std::index_sequence<Is...>) {
    return std::make_tuple(std::array<std::uint64_t, Is % 7 + 1>{Fibonacci<Is % 90>::value}...);
}

template <class Tuple, std::size_t... Is> std::uint64_t fold(const Tuple &values, std::index_sequence<Is...>) {
    return (std::get<Is>(values)[0] ^ ...);
}

using Value = std::variant<int, double, std::string, std::vector<int>, std::map<int, std::string>>;

int main() {
    auto indices = std::make_index_sequence<160>{};
    std::cout << Node<80>{}.sum() << ' ' << fold(table(indices), indices) << '\n';

    std::vector<Value> values;
    for (int i = 0; i < 20000; ++i) {
        switch (i % 5) {
        case 0: values.emplace_back(i); break;
        case 1: values.emplace_back(i / 3.0); break;
        case 2: values.emplace_back(std::string(i % 500, 'a')); break;
        case 3: values.emplace_back(std::vector<int>(i % 300, i)); break;
        default: values.emplace_back(std::map<int, std::string>{{i, std::to_string(i)}}); break;
        }
    }
    std::size_t total = 0;
    for (auto &value : values)
        total += std::visit([](auto &held) -> std::size_t {
            if constexpr (std::is_arithmetic_v<std::decay_t<decltype(held)>>) return static_cast<std::size_t>(held);
            else return held.size();
        }, value);
    std::cout << total << '\n';

    std::vector<std::thread> threads;
    std::vector<std::size_t> counts(4);
    for (std::size_t part = 0; part < counts.size(); ++part)
        threads.emplace_back([part, &counts] {
            std::unordered_map<std::string, std::shared_ptr<std::string>> map;
            std::regex digits("([0-9])\\1");
            for (int i = 0; i < 3000; ++i) {
                auto key = std::to_string(i * 37 + static_cast<int>(part));
                map[key] = std::make_shared<std::string>(key);
                counts[part] += std::regex_search(key, digits);
            }
            counts[part] += map.size();
        });
    for (auto &thread : threads) thread.join();
    for (auto count : counts) std::cout << count << '\n';

    try {
        std::vector<char> impossible(static_cast<std::size_t>(-1) / 4);
        std::cout << impossible.size() << '\n';
    } catch (const std::bad_alloc &) {
        std::cout << "bad_alloc\n";
    }
}
