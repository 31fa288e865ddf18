// What the emulator knows while a block runs: its threads, their warps, and how they wait for each other. Included by
// the kernels (through emulator.h) and by the machine itself. CUDA's names are in emulator.h, not here.
#pragma once
#include <stddef.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

namespace emulator {

constexpr u32 LANES = 32;
constexpr u32 MAX_THREADS = 1024;

// Where a call stands in a kernel's source.
struct Place {
    const char* file;
    int line;
};
#define EMULATOR_PLACE emulator::Place place = {__builtin_FILE(), __builtin_LINE()}

struct Index3 {
    u32 x, y, z;
};

// A copy of 16 bytes to shared memory that was asked for and is not there yet.
struct Copy {
    void* to;
    const void* from;  // null: zeros
    u32 group;
};

struct Block;

// A CUDA thread: a fiber with a stack of its own.
struct Thread {
    Index3 index;
    Block* block;
    u32 lane, warp;
    void* stack;  // where it stands while it does not run
    // What it waits for; null while it runs or is ready.
    const char* waits;
    Place place;
    u32 mask;
    // What it brings to a collective, and takes from it.
    u64 value;
    u32 source;
    // Asynchronous copies: what is under way, the groups closed so far.
    Copy* copies;
    u32 copy_count, copy_room, groups;
    // Sanitizers' own notes.
    void* fake_stack;
    void* fiber;
};

// A block while it runs; one at a time on a processor thread.
struct Block {
    Index3 index, size, grid;
    u8* dynamic;
    bool shuffled;
};

extern __thread Thread* running;

inline Thread& current() { return *running; }

// Ends the launch with a message: where, which block and thread, and what happened.
[[noreturn]] void fault(Place place, const char* format, ...) __attribute__((format(printf, 2, 3), cold));

// With probability 1 / n under shuffled schedules, else never.
bool perhaps(u32 n);
// Another thread may go on first: under shuffled schedules.
void yield();

enum Collective : u32 { SYNC_WARP, SHUFFLE, BALLOT, REDUCE_ADD, REDUCE_MIN, REDUCE_MAX, MMA_16816, MMA_884, COLLECTIVES };

// Waits for the lanes of `mask`, exchanges `value`, returns this lane's result.
u64 collective(Collective what, u32 mask, u64 value, u32 source, Place place);

// Waits for all threads of the block. Returns how many brought a true `vote`.
u32 barrier(bool vote, Place place);

// Static shared memory: the same piece for all threads of a block that ask with the same key.
void* shared_piece(const void* key, size_t bytes, Place place);
template <class T> inline T& shared(const void* key, EMULATOR_PLACE) { return *(T*)shared_piece(key, sizeof(T), place); }

// Operands of a matrix product, in the registers of a lane.
struct Fragments {
    float* d;
    const u32 *a, *b;
};

// What a launch needs to know of a kernel.
struct Entry {
    const char* name;
    void (*call)(const u64* arguments);
    const char* kinds;  // a letter per parameter: p pointer, i 32 bits, f float, l 64 bits
    u32 threads;
};

template <int Threads> using Kernel = void;

template <class T> struct Kind;
template <class T> struct Kind<T*> { static constexpr char letter = 'p'; };
template <> struct Kind<u32> { static constexpr char letter = 'i'; };
template <> struct Kind<int> { static constexpr char letter = 'i'; };
template <> struct Kind<float> { static constexpr char letter = 'f'; };
template <> struct Kind<u64> { static constexpr char letter = 'l'; };

template <class T> inline T argument(u64 bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <size_t... I> struct Indices {};
template <size_t N, size_t... I> struct UpTo : UpTo<N - 1, N - 1, I...> {};
template <size_t... I> struct UpTo<0, I...> { using type = Indices<I...>; };

template <auto F> struct Call;
template <class... A, void (*F)(A...)> struct Call<F> {
    static constexpr char kinds[] = {Kind<A>::letter..., 0};
    template <size_t... I> static void unpack(const u64* arguments, Indices<I...>) { F(argument<A>(arguments[I])...); }
    static void call(const u64* arguments) { unpack(arguments, typename UpTo<sizeof...(A)>::type()); }
};

template <auto F> constexpr Entry entry(const char* name, u32 threads) { return {name, &Call<F>::call, Call<F>::kinds, threads}; }

}  // namespace emulator
