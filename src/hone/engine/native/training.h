/* What layers and head of a training pass have in common. */

#pragma once
#include "pack.h"

/* Rows that are done together, so that what they read and make stays near. */
#define TOGETHER 64

/* Terms of a sum in a row, where nobody's bits are asked for. */
#define SUMMED 256

/* A projection of the base model, packed and as it lies [O, I]. */
typedef struct {
    Matrix packed;
    const float *weight;
} Projection;

/* As the math library does. */
static inline int run_of(int inputs) { return inputs <= 192 ? inputs : inputs <= 384 ? (inputs + 1) / 2 : 192; }

/* A [outputs, inputs], for a product that adds in that order. */
static inline void pack_a(const float *a, int outputs, int inputs, int order, float *packed) {
    if (order == QUADS)
        pack_quads(a, outputs, inputs, packed);
    else
        pack_panels(a, outputs, inputs, inputs, 1, packed);
}

/* weight [rows, columns] with zeros after each row, up to whole panels. */
static inline void pad_rows(const float *weight, int rows, int columns, float *padded) {
    int row = whole_panels(columns);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(padded + r * row, weight + r * columns, columns * sizeof(float));
        memset(padded + r * row + columns, 0, (row - columns) * sizeof(float));
    }
}

/* gradient [outputs, R] += scale * dout^T inner, summed over `rows`; outputs are whole panels in `dout`. `scratch` is
   R * whole_panels(outputs) floats. */
static inline void gather_b(
    const float *inner, int64_t inner_row, int R, const float *dout, int64_t dout_row, int outputs, int rows,
    float scale, float *gradient, float *scratch) {
    if (R % PANEL == 0) {
        Out to = {gradient, R, 1, scale};
        multiply_columns(dout, dout_row, outputs, as_it_lies(inner, inner_row), R / PANEL, rows, SUMMED, to);
        return;
    }
    int row = whole_panels(outputs);
    Out to = {scratch, row, 0, 0};
    multiply_columns(inner, inner_row, R, as_it_lies(dout, dout_row), row / PANEL, rows, SUMMED, to);
    for (int64_t o = 0; o < outputs; o++)
        for (int r = 0; r < R; r++) gradient[o * R + r] += scale * scratch[(int64_t)r * row + o];
}
