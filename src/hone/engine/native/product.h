/* Products of a few rows with a matrix, to the bits of the math library's own.

   The library adds the terms of an output in one of two orders, by the matrix's shape:
   chains: one fused chain over the inputs, cut every `run` of them, the parts added one after another;
   quads:  four chains, input i in chain i mod 4, products rounded before they are added, (0 + 2) + (1 + 3).
   In both a row's bits do not depend on how many rows there are. */

#pragma once
#include <stdint.h>

#include "tile.h"

#define QUAD_OUTPUTS 8

typedef float Quad __attribute__((vector_size(16)));

enum { CHAINS, QUADS };

typedef struct {
    int inputs, outputs;
    int order;
    int run;
    /* chains: [outputs / PANEL][inputs][PANEL], padded with zeros; quads: [inputs / 4][QUAD_OUTPUTS][4] */
    const float *weight;
} Matrix;

/* All outputs side by side, four lanes each. */
static inline void quads_row(const Matrix *m, const float *x, float *out) {
    Panel sum[QUAD_OUTPUTS / 4] = {};
    for (int i = 0; i < m->inputs; i += 4) {
        Quad quad;
        memcpy(&quad, x + i, sizeof quad);
        Panel each = __builtin_shufflevector(quad, quad, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
        for (int p = 0; p < QUAD_OUTPUTS / 4; p++) sum[p] += each * load_panel(m->weight + i * QUAD_OUTPUTS + p * PANEL);
    }
    float lanes[QUAD_OUTPUTS][4];
    memcpy(lanes, sum, sizeof lanes);
    for (int o = 0; o < m->outputs; o++) out[o] = (lanes[o][0] + lanes[o][2]) + (lanes[o][1] + lanes[o][3]);
}

/* x [rows, inputs] times the matrix; a row of `out` has room for whole panels. */
static void product(const Matrix *m, const float *x, int x_stride, int rows, float *out, int out_stride) {
    if (m->order == QUADS) {
        for (int r = 0; r < rows; r++) quads_row(m, x + (int64_t)r * x_stride, out + (int64_t)r * out_stride);
        return;
    }
    Out all = {out, out_stride, 0, 0};
    multiply(x, x_stride, rows, packed(m->weight, m->inputs), whole_panels(m->outputs) / PANEL, m->inputs, m->run, all);
}
