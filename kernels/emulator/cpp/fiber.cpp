// Fibers: stacks, switched by hand, and what sanitizers must be told of it. Who runs next is not decided here.
#include "worker.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef EMULATOR_ADDRESS
extern "C" void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
extern "C" void __asan_poison_memory_region(const volatile void* at, size_t bytes);
extern "C" void __asan_unpoison_memory_region(const volatile void* at, size_t bytes);
#endif
#ifdef EMULATOR_THREAD
extern "C" void* __tsan_get_current_fiber();
extern "C" void* __tsan_create_fiber(unsigned flags);
extern "C" void __tsan_destroy_fiber(void* fiber);
extern "C" void __tsan_switch_to_fiber(void* fiber, unsigned flags);
#endif

extern "C" {
// Leaves this stack, noting where in `from`, and goes on with the other one.
void emulator_switch(void** from, void* to);
// Where a fiber begins; calls emulator_run.
void emulator_start();
}

// Only what a call must preserve is saved. The first switch to a fiber "returns" into emulator_start.
#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, .-emulator_switch
.globl emulator_start
.type emulator_start, @function
emulator_start:
    xorl %ebp, %ebp
    call emulator_run
    ud2
.size emulator_start, .-emulator_start
.section .note.GNU-stack,"",@progbits
.text
)");
static constexpr size_t SAVED = 7, RETURN = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, %function
emulator_switch:
    stp x29, x30, [sp, #-160]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x29, x30, [sp], #160
    ret
.size emulator_switch, .-emulator_switch
.globl emulator_start
.type emulator_start, %function
emulator_start:
    mov x29, xzr
    mov x30, xzr
    bl emulator_run
    brk #1
.size emulator_start, .-emulator_start
.section .note.GNU-stack,"",%progbits
.text
)");
static constexpr size_t SAVED = 20, RETURN = 1;
#else
#error "the emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace emulator {

__thread Thread* running;
__thread Worker* own_worker;

namespace {

constexpr u64 CANARY = 0x5afe57ac5afe57acull;

u8* bottom_of(u32 thread) { return worker().stacks + (size_t)(thread + 1) * worker().stack_bytes; }

}  // namespace

bool take_stacks(Worker& w) {
    // One more than threads: what the first of them writes below its stack is found too.
    const size_t bytes = w.stack_bytes * (MAX_THREADS + 1);
    void* stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w.stacks = stacks == MAP_FAILED ? nullptr : (u8*)stacks;
    return w.stacks;
}

void drop_stacks(Worker& w) {
    forget_fibers(w);
    munmap(w.stacks, w.stack_bytes * (MAX_THREADS + 1));
}

void prepare_stack(Thread& t) {
    Worker& w = worker();
    const u32 n = t.index.x;
    u8* bottom = bottom_of(n);
    *(u64*)bottom = CANARY;
    // Tops a little apart, or the lanes' frames would share a few lines of the cache.
    void** top = (void**)(bottom + w.stack_bytes - n % 61 * 192);
    top = (void**)((size_t)top & ~(size_t)63) - 2;
    top -= SAVED;
    for (size_t i = 0; i < SAVED; i++) top[i] = nullptr;
    top[RETURN] = (void*)&emulator_start;
    t.stack = top;
    t.fake_stack = nullptr;
    unpoison(bottom, w.stack_bytes);
#ifdef EMULATOR_THREAD
    if (!t.fiber) t.fiber = __tsan_create_fiber(0);
#endif
}

bool stack_overflowed(const Thread& t) { return *(const u64*)bottom_of(t.index.x) != CANARY; }

void enter(Thread& first) {
    Worker& w = worker();
    running = &first;
    w.bottom = nullptr;
#ifdef EMULATOR_ADDRESS
    __sanitizer_start_switch_fiber(&w.fake_stack, bottom_of(first.index.x), w.stack_bytes);
#endif
#ifdef EMULATOR_THREAD
    w.fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(first.fiber, 1);
#endif
    emulator_switch(&w.stack, first.stack);
#ifdef EMULATOR_ADDRESS
    __sanitizer_finish_switch_fiber(w.fake_stack, nullptr, nullptr);
#endif
}

void entered() {
#ifdef EMULATOR_ADDRESS
    Worker& w = worker();
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    // The first fiber comes from the caller's stack.
    if (!w.bottom) w.bottom = bottom, w.size = size;
#endif
}

void go(Thread* from, Thread* next) {
    Worker& w = worker();
    running = next;
    void* nowhere;
    void** save = from ? &from->stack : &nowhere;
#ifdef EMULATOR_ADDRESS
    if (next) __sanitizer_start_switch_fiber(from ? &from->fake_stack : nullptr, bottom_of(next->index.x), w.stack_bytes);
    else __sanitizer_start_switch_fiber(from ? &from->fake_stack : nullptr, w.bottom, w.size);
#endif
#ifdef EMULATOR_THREAD
    __tsan_switch_to_fiber(next ? next->fiber : w.fiber, 1);
#endif
    emulator_switch(save, next ? next->stack : w.stack);
#ifdef EMULATOR_ADDRESS
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void poison(void* at, size_t bytes) {
#ifdef EMULATOR_ADDRESS
    __asan_poison_memory_region(at, bytes);
#endif
}

void unpoison(void* at, size_t bytes) {
#ifdef EMULATOR_ADDRESS
    __asan_unpoison_memory_region(at, bytes);
#endif
}

void forget_fibers(Worker& w) {
#ifdef EMULATOR_THREAD
    for (Thread& t : w.threads) {
        if (t.fiber) __tsan_destroy_fiber(t.fiber);
        t.fiber = nullptr;
    }
#endif
}

}  // namespace emulator
