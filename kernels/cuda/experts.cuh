// What the kernels of experts have in common: who goes where. Which experts a row goes through is decided by experts.cu;
// the others find it in memory, so that their grids are for the worst case and blocks without work leave at once.
#pragma once
#include "ptx.cuh"

// A part of an expert's weights: as in the arguments of a product. `rows` is 0 if the expert has no such part; `bias` is
// that of all its parts, or null.
struct Card {
    const u8 *quants, *scales, *supers;
    const float* bias;
    float unscale;
    u32 kind, rows, first, shift;
};

// Neighbouring choices of one expert, as many as a block takes: from choice `first` on. `rows` is 0 if nobody is here.
struct Run {
    u32 expert, first, rows;
};

// What a block of a run is about; false if it has nothing to do, or not with weights of this kind.
template <int F> DEVICE bool has_work(const Run* runs, const Card* cards, u32 run_number, Run& run, Card& card) {
    run = runs[run_number];
    if (run.rows == 0) return false;
    card = cards[run.expert];
    return card.kind == F && card.rows != 0;
}
