/* Weights as tiles read them. */

#pragma once
#include "product.h"

/* scale * weight [outputs, inputs], whose rows are `stride` floats apart, as [outputs / PANEL][inputs][PANEL], padded
   with zeros. */
static inline void pack_panels(
    const float *weight, int outputs, int inputs, int64_t stride, float scale, float *packed) {
    for (int first = 0; first < outputs; first += PANEL) {
        float *panel = packed + (int64_t)first * inputs;
        for (int half = 0; half < PANEL; half += LANES) {
            int o = first + half, rows = outputs - o < LANES ? outputs - o : LANES, i = 0;
            for (; rows == LANES && i + LANES <= inputs; i += LANES) {
                Lanes x[LANES];
                for (int r = 0; r < LANES; r++) x[r] = scale * load(weight + (o + r) * stride + i);
                transpose(x);
                for (int r = 0; r < LANES; r++) store(panel + (int64_t)(i + r) * PANEL + half, x[r]);
            }
            for (; i < inputs; i++)
                for (int r = 0; r < LANES; r++)
                    panel[(int64_t)i * PANEL + half + r] = r < rows ? scale * weight[(o + r) * stride + i] : 0;
        }
    }
}

/* weight [outputs, inputs] as `quads_row` reads it. */
static inline void pack_quads(const float *weight, int outputs, int inputs, float *packed) {
    for (int i = 0; i < inputs; i++)
        for (int o = 0; o < QUAD_OUTPUTS; o++)
            packed[(i / 4 * QUAD_OUTPUTS + o) * 4 + i % 4] = o < outputs ? weight[o * inputs + i] : 0;
}
