/* Causal attention of whole sequences, forward and backward; the forward pass to the bits of `attention.h`, and so of
   decoding.

   Legend: L positions, G query heads of a key-value head, d head size. */

#pragma once
#include "attention.h"
#include "pack.h"

/* Positions that look at the same keys at a time; a tile is a multiple. */
#define QUERIES 16
#define BACK_QUERIES 32

/* One key-value head of one sequence, its query heads and what becomes of them; heads lie d apart, and the rows of the
   same kind equally far. */
typedef struct {
    int length, group, d;
    float scale;
    const float *q, *k, *v;
    int64_t qk_row, v_row;
    float *mixed, *logsumexp;
    int64_t mixed_row, logsumexp_row;
} Heads;

/* Floats between the rows of scores. */
static inline int scores_row(int length) { return whole_panels(length) < TILE ? whole_panels(length) : TILE; }

/* Floats that `attend_whole` and its backward pass take. */
static inline int64_t attend_scratch(int length, int d) {
    return (int64_t)whole_panels(length) * 2 * d + 2 * BACK_QUERIES * scores_row(length);
}

/* From scores to weights, with what the row has summed up so far. What is past `count` counts nothing. */
static inline float weigh(float *scores, int count, float scale, int start, float *largest, float *sum) {
    int whole = (count + LANES - 1) / LANES * LANES;
    Lanes most = all(*largest), sums = {};
    for (int i = 0; i < whole; i += LANES) store(scores + i, load(scores + i) * scale);
    for (int i = count; i < whole; i++) scores[i] = -INFINITY;
    for (int i = 0; i < whole; i += LANES) most = __builtin_elementwise_max(most, load(scores + i));
    float now = __builtin_reduce_max(most);
    for (int i = 0; i < whole; i += LANES) {
        Lanes weight = exp_quick(load(scores + i) - now);
        sums += weight;
        store(scores + i, weight);
    }
    float before = start ? expf(*largest - now) : 0;
    *sum = __builtin_fmaf(before, *sum, folded(sums));
    *largest = now;
    return before;
}

/* Fills `mixed` and `logsumexp`. */
static void attend_whole(const Heads *h, float *scratch) {
    int L = h->length, d = h->d, row = scores_row(L);
    float *keys = scratch, *values = keys + (int64_t)whole_panels(L) * d, *scores = values + (int64_t)L * d;
    pack_panels(h->k, L, d, h->qk_row, 1, keys);
    for (int t = 0; t < L; t++) memcpy(values + (int64_t)t * d, h->v + t * h->v_row, d * sizeof(float));
    for (int first = 0; first < L; first += QUERIES)
        for (int g = 0; g < h->group; g++) {
            int rows = L - first < QUERIES ? L - first : QUERIES, last = first + rows;
            float *mixed = h->mixed + first * h->mixed_row + g * d, largest[QUERIES], sum[QUERIES] = {};
            for (int r = 0; r < rows; r++) largest[r] = -INFINITY;
            for (int start = 0; start < last; start += TILE) {
                int count = last - start < TILE ? last - start : TILE, panels = whole_panels(count) / PANEL;
                const float *q = h->q + first * h->qk_row + g * d;
                Right k = packed(keys + (int64_t)start * d, d);
                multiply(q, h->qk_row, rows, k, panels, d, d, (Out){scores, row, 0, 0});
                for (int r = 0; r < rows; r++) {
                    int own = first + r + 1 - start < count ? first + r + 1 - start : count;
                    float before = weigh(scores + r * row, own, h->scale, start, &largest[r], &sum[r]);
                    for (int i = (own + LANES - 1) / LANES * LANES; i < count; i++) scores[r * row + i] = 0;
                    for (int i = 0; start && i < d; i++) mixed[r * h->mixed_row + i] *= before;
                }
                for (int run = 0; run < count; run += RUN) {
                    int some = count - run < RUN ? count - run : RUN;
                    Right v = as_it_lies(values + (int64_t)(start + run) * d, d);
                    Out out = {mixed, h->mixed_row, start || run, 1};
                    multiply(scores + run, row, rows, v, d / PANEL, some, some, out);
                }
            }
            for (int r = 0; r < rows; r++) {
                for (int i = 0; i < d; i++) mixed[r * h->mixed_row + i] *= 1 / sum[r];
                h->logsumexp[(first + r) * h->logsumexp_row + g] = largest[r] + logf(sum[r]);
            }
        }
}

/* d loss / d q, k and v, which lie as q, k and v do, but all in rows of `drow`; from d loss / d mixed. */
static void attend_whole_back(
    const Heads *h, const float *dmixed, float *dq, float *dk, float *dv, int64_t drow, float *scratch) {
    int L = h->length, d = h->d, row = scores_row(L);
    float *keys = scratch, *values = keys + (int64_t)whole_panels(L) * d;
    float *weights = values + (int64_t)whole_panels(L) * d, *dscores = weights + BACK_QUERIES * row;
    pack_panels(h->k, L, d, h->qk_row, 1, keys);
    pack_panels(h->v, L, d, h->v_row, 1, values);
    for (int t = 0; t < L; t++) {
        memset(dk + t * drow, 0, d * sizeof(float));
        memset(dv + t * drow, 0, d * sizeof(float));
    }
    for (int first = 0; first < L; first += BACK_QUERIES)
        for (int g = 0; g < h->group; g++) {
            int rows = L - first < BACK_QUERIES ? L - first : BACK_QUERIES, last = first + rows;
            const float *q = h->q + first * h->qk_row + g * d, *out = h->mixed + first * h->mixed_row + g * d;
            const float *dout = dmixed + first * h->mixed_row + g * d;
            const float *logsumexp = h->logsumexp + first * h->logsumexp_row + g;
            float share[BACK_QUERIES];
            for (int r = 0; r < rows; r++) share[r] = dot(dout + r * h->mixed_row, out + r * h->mixed_row, d);
            for (int start = 0; start < last; start += TILE) {
                int count = last - start < TILE ? last - start : TILE, panels = whole_panels(count) / PANEL;
                Right k = packed(keys + (int64_t)start * d, d), v = packed(values + (int64_t)start * d, d);
                multiply(q, h->qk_row, rows, k, panels, d, d, (Out){weights, row, 0, 0});
                multiply(dout, h->mixed_row, rows, v, panels, d, d, (Out){dscores, row, 0, 0});
                for (int r = 0; r < rows; r++) {
                    int own = first + r + 1 - start < count ? first + r + 1 - start : count;
                    Lanes sum = all(logsumexp[r * h->logsumexp_row]), even = all(share[r]);
                    float *to = weights + r * row, *dto = dscores + r * row;
                    for (int i = 0; i < own; i += LANES) {
                        Lanes weight = exp_quick(load(to + i) * h->scale - sum);
                        store(to + i, weight);
                        store(dto + i, weight * (load(dto + i) - even) * h->scale);
                    }
                    for (int i = own; i < count; i++) to[i] = dto[i] = 0;
                }
                Right plain_k = as_it_lies(h->k + start * h->qk_row, h->qk_row);
                Out to_q = {dq + first * drow + g * d, drow, start, 1};
                multiply(dscores, row, rows, plain_k, d / PANEL, count, RUN, to_q);
                Out to_k = {dk + start * drow, drow, 1, 1}, to_v = {dv + start * drow, drow, 1, 1};
                multiply_columns(dscores, row, count, as_it_lies(q, h->qk_row), d / PANEL, rows, RUN, to_k);
                multiply_columns(weights, row, count, as_it_lies(dout, h->mixed_row), d / PANEL, rows, RUN, to_v);
            }
        }
}
