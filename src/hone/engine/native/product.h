/* Products of a few rows with a matrix, to the bits of the math library's own.

   The library adds the terms of an output in one of two orders, by the matrix's shape:
   chains: one fused chain over the inputs, cut every `run` of them, the parts added one after another;
   quads:  four chains, input i in chain i mod 4, products rounded before they are added, (0 + 2) + (1 + 3).
   In both a row's bits do not depend on how many rows there are. */

#pragma once
#include <stdint.h>

#include "vectors.h"

#define PANEL 16
#define QUAD_OUTPUTS 8

typedef float Panel __attribute__((vector_size(4 * PANEL)));
typedef float Quad __attribute__((vector_size(16)));

enum { CHAINS, QUADS };

typedef struct {
    int inputs, outputs;
    int order;
    int run;
    /* chains: [outputs / PANEL][inputs][PANEL], padded with zeros; quads: [inputs / 4][QUAD_OUTPUTS][4] */
    const float *weight;
} Matrix;

static inline Panel load_panel(const float *from) {
    Panel x;
    memcpy(&x, from, sizeof x);
    return x;
}

/* `rows` x `panels` outputs, both known to the compiler: the sums stay in registers. */
static inline __attribute__((always_inline)) void chains_tile(
    const int rows, const int panels, const Matrix *m, int panel, const float *x, int x_stride, float *out,
    int out_stride) {
    const int inputs = m->inputs;
    const float *weight = m->weight + (int64_t)panel * inputs * PANEL;
    Panel total[4][4];
    for (int start = 0; start < inputs; start += m->run) {
        int stop = start + m->run < inputs ? start + m->run : inputs;
        Panel sum[4][4] = {};
        for (int i = start; i < stop; i++)
            for (int p = 0; p < panels; p++) {
                Panel w = load_panel(weight + ((int64_t)p * inputs + i) * PANEL);
                for (int r = 0; r < rows; r++)
                    sum[r][p] = __builtin_elementwise_fma((Panel){} + x[(int64_t)r * x_stride + i], w, sum[r][p]);
            }
        for (int p = 0; p < panels; p++)
            for (int r = 0; r < rows; r++) total[r][p] = start ? total[r][p] + sum[r][p] : sum[r][p];
    }
    for (int p = 0; p < panels; p++)
        for (int r = 0; r < rows; r++)
            memcpy(out + (int64_t)r * out_stride + (panel + p) * PANEL, &total[r][p], sizeof(Panel));
}

static inline __attribute__((always_inline)) void chains_rows(
    const int rows, const Matrix *m, const float *x, int x_stride, float *out, int out_stride) {
    int panels = (m->outputs + PANEL - 1) / PANEL, p = 0;
    for (; p + 4 <= panels; p += 4) chains_tile(rows, 4, m, p, x, x_stride, out, out_stride);
    for (; p + 2 <= panels; p += 2) chains_tile(rows, 2, m, p, x, x_stride, out, out_stride);
    if (p < panels) chains_tile(rows, 1, m, p, x, x_stride, out, out_stride);
}

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
    int r = 0;
    for (; r + 4 <= rows; r += 4)
        chains_rows(4, m, x + (int64_t)r * x_stride, x_stride, out + (int64_t)r * out_stride, out_stride);
    if (rows - r >= 2) {
        chains_rows(2, m, x + (int64_t)r * x_stride, x_stride, out + (int64_t)r * out_stride, out_stride);
        r += 2;
    }
    if (rows - r) chains_rows(1, m, x + (int64_t)r * x_stride, x_stride, out + (int64_t)r * out_stride, out_stride);
}
