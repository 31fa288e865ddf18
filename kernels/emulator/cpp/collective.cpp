// Collectives of a warp: who has arrived, and what each lane gets. The last lane to arrive does the work for all.
#include "worker.h"

#include <string.h>

#ifdef EMULATOR_THREAD
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace emulator {
namespace {

const char* const NAMES[COLLECTIVES] = {
    "__syncwarp", "a shuffle", "a vote", "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync",
    "mma_m16n8k16", "mma_m8n8k4",
};

bool same(Place a, Place b) { return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0); }

void shuffle(Warp& warp, const Gathering& g) {
    u64 values[LANES];
    for (u32 lane = 0; lane < LANES; lane++) {
        if (!(g.arrived >> lane & 1)) continue;
        const u32 source = warp.threads[lane].source;
        if (!(g.arrived >> source & 1)) {
            fault(g.place, "lane %u of warp %u shuffles from lane %u, which did not take part (mask %08x, took part %08x)", lane,
                  warp.threads[lane].warp, source, g.mask, g.arrived);
        }
        values[lane] = warp.threads[source].value;
    }
    for (u32 lane = 0; lane < LANES; lane++) {
        if (g.arrived >> lane & 1) warp.threads[lane].value = values[lane];
    }
}

void reduce(Warp& warp, const Gathering& g) {
    u32 result = g.what == REDUCE_MIN ? 0xffffffffu : 0;
    for (u32 lane = 0; lane < LANES; lane++) {
        if (!(g.arrived >> lane & 1)) continue;
        const u32 value = (u32)warp.threads[lane].value;
        switch (g.what) {
            case BALLOT: result |= value << lane; break;
            case REDUCE_ADD: result += value; break;
            case REDUCE_MIN: result = value < result ? value : result; break;
            default: result = value > result ? value : result;
        }
    }
    for (u32 lane = 0; lane < LANES; lane++) {
        if (g.arrived >> lane & 1) warp.threads[lane].value = result;
    }
}

// Does the work and makes the lanes ready, but for the one that runs.
void complete(Warp& warp, u32 number) {
    const Gathering g = warp.gatherings[number];
    warp.gatherings[number] = warp.gatherings[--warp.gathering_count];
    switch (g.what) {
        case SYNC_WARP: warp.generation++; break;
        case SHUFFLE: shuffle(warp, g); break;
        case MMA_16816:
        case MMA_884:
            if (g.arrived != 0xffffffffu) fault(g.place, "%s without all lanes of the warp: %08x", NAMES[g.what], g.arrived);
            multiply(g.what, warp);
            break;
        default: reduce(warp, g);
    }
    for (u32 lane = 0; lane < LANES; lane++) {
        Thread& t = warp.threads[lane];
        if ((g.arrived >> lane & 1) && &t != running) make_ready(t);
    }
}

}  // namespace

u64 collective(Collective what, u32 mask, u64 value, u32 source, Place place) {
    Thread& me = current();
    Warp& warp = warp_of(me);
    const u32 bit = 1u << me.lane;
    if (!(mask & bit)) fault(place, "%s whose mask %08x leaves out lane %u, which calls it", NAMES[what], mask, me.lane);
    me.value = value, me.source = source;
    u32 number = 0;
    while (number < warp.gathering_count && warp.gatherings[number].mask != mask) number++;
    Gathering& g = warp.gatherings[number];
    if (number == warp.gathering_count) {
        g = {what, mask, 0, place};
        warp.gathering_count++;
    } else if (g.what != what || !same(g.place, place)) {
        fault(place, "lanes of warp %u part: lane %u is at %s, lanes %08x wait at %s:%d for %s", me.warp, me.lane, NAMES[what],
              g.arrived, base(g.place.file), g.place.line, NAMES[g.what]);
    }
    g.arrived |= bit;
#ifdef EMULATOR_THREAD
    char* order = &warp.order[warp.generation % 2];
    if (what == SYNC_WARP) __tsan_release(order);
#endif
    if (g.arrived == (mask & warp.alive)) {
        complete(warp, number);
        if (me.block->shuffled) reschedule();
    } else {
        wait(NAMES[what], place, mask);
    }
#ifdef EMULATOR_THREAD
    if (what == SYNC_WARP) __tsan_acquire(order);
#endif
    return me.value;
}

void lane_ended(Warp& warp) {
    for (u32 i = warp.gathering_count; i-- > 0;) {
        const Gathering& g = warp.gatherings[i];
        if (g.arrived == (g.mask & warp.alive)) complete(warp, i);
    }
}

}  // namespace emulator
