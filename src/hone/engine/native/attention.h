/* One position's attention over the cached positions of its sequence, to the bits of the framework's fused kernel.

   Legend: G query heads of a key-value head, d head size. */

#pragma once
#include <stdint.h>

#include "vectors.h"

#define BLOCK 16
#define MOST_GROUP 4
#define MOST_HEAD 192

/* Positions that the kernel takes at a time, and how many of them a product sums in one go. */
#define TILE 512
#define RUN 192

typedef struct {
    /* [slots, 2 * kv_heads, d]: the keys of a position, then its values */
    const float *entries;
    int64_t position_stride;
    const int64_t *blocks;
} Pages;

static inline const float *entry(const Pages *pages, int position) {
    return pages->entries + (pages->blocks[position / BLOCK] * BLOCK + position % BLOCK) * pages->position_stride;
}

/* scores [G, TILE] of `count` positions from `start`: scale * q k, one chain of additions each. What fills the last
   vector is -inf. */
static inline __attribute__((always_inline)) void scores_of(
    const Pages *pages, const float *q, const int group, int key, int d, float scale, int start, int count,
    float scores[][TILE]) {
    for (int first = 0; first < count; first += LANES) {
        int some = count - first < LANES ? count - first : LANES;
        Lanes sums[MOST_GROUP] = {};
        for (int j = 0; j < d; j += LANES) {
            Lanes keys[LANES];
            for (int i = 0; i < LANES; i++) keys[i] = load(entry(pages, start + first + (i < some ? i : 0)) + key + j);
            transpose(keys);
            for (int g = 0; g < group; g++)
                for (int i = 0; i < LANES; i++) sums[g] = fma_lanes(all(q[g * d + j + i]), keys[i], sums[g]);
        }
        for (int g = 0; g < group; g++) {
            store(scores[g] + first, sums[g] * scale);
            for (int i = some; i < LANES; i++) scores[g][first + i] = -INFINITY;
        }
    }
}

/* What `attend` says, for a group known to the compiler: the sums stay in registers. */
static inline __attribute__((always_inline)) void attend_group(
    const Pages *pages, const float *q, const int group, int key, int value, int d, float scale, int length,
    float *out) {
    float scores[MOST_GROUP][TILE], largest[MOST_GROUP], sum[MOST_GROUP] = {};
    for (int g = 0; g < group; g++) largest[g] = -INFINITY;
    for (int start = 0; start < length; start += TILE) {
        int count = length - start < TILE ? length - start : TILE;
        scores_of(pages, q, group, key, d, scale, start, count, scores);
        for (int g = 0; g < group; g++) {
            Lanes most = all(largest[g]), sums = {};
            for (int i = 0; i < count; i += LANES) most = __builtin_elementwise_max(most, load(scores[g] + i));
            float now = __builtin_reduce_max(most);
            for (int i = 0; i < count; i += LANES) {
                Lanes weight = exp_quick(load(scores[g] + i) - now);
                sums += weight;
                store(scores[g] + i, weight);
            }
            float before = start ? expf(largest[g] - now) : 0;
            sum[g] = __builtin_fmaf(before, sum[g], folded(sums));
            largest[g] = now;
            for (int i = 0; start && i < d; i++) out[g * d + i] *= before;
        }
        for (int first = 0; first < count; first += RUN) {
            int stop = first + RUN < count ? first + RUN : count;
            for (int part = 0; part < d; part += 2 * LANES) {
                Lanes mixed[MOST_GROUP][2] = {};
                int vectors = d - part < 2 * LANES ? 1 : 2;
                for (int i = first; i < stop; i++) {
                    const float *from = entry(pages, start + i) + value + part;
                    for (int v = 0; v < vectors; v++) {
                        Lanes values = load(from + v * LANES);
                        for (int g = 0; g < group; g++) mixed[g][v] = fma_lanes(all(scores[g][i]), values, mixed[g][v]);
                    }
                }
                for (int g = 0; g < group; g++)
                    for (int v = 0; v < vectors; v++) {
                        float *to = out + g * d + part + v * LANES;
                        store(to, start || first ? load(to) + mixed[g][v] : mixed[g][v]);
                    }
            }
        }
    }
    for (int g = 0; g < group; g++)
        for (int i = 0; i < d; i++) out[g * d + i] *= 1 / sum[g];
}

/* softmax(q k^T scale) v over `length` positions, [G, d]; d is a multiple of LANES. `key` and `value` say where in a
   position's entry the heads' key and value begin. */
static void attend(
    const Pages *pages, const float *q, int group, int key, int value, int d, float scale, int length, float *out) {
    for (int some; group; group -= some, q += some * d, out += some * d) {
        some = group >= 4 ? 4 : group >= 2 ? 2 : 1;
        if (some == 4)
            attend_group(pages, q, 4, key, value, d, scale, length, out);
        else if (some == 2)
            attend_group(pages, q, 2, key, value, d, scale, length, out);
        else
            attend_group(pages, q, 1, key, value, d, scale, length, out);
    }
}
