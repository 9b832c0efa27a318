/* What a dense layer does with its rows besides products and attention, to the framework's bits.

   Legend: d head size, M intermediate size. */

#pragma once
#include "tile.h"

/* 1 / sqrt(sum(x^2) + eps), eps being `size` times the model's. */
static inline float inverse_length(const float *x, float eps_sum, int size) {
    return 1 / sqrtf(sum_of_squares(x, size) + eps_sum);
}

/* Returns the inverse length. */
static inline float norm(const float *x, const float *weight, float eps_sum, int size, float *restrict out) {
    float inverse = inverse_length(x, eps_sum, size);
    for (int i = 0; i < size; i++) out[i] = x[i] * inverse * weight[i];
    return inverse;
}

static inline void add(float *x, const float *y, int size) {
    for (int i = 0; i < size; i++) x[i] += y[i];
}

/* Turns a head by its position's angles; the pairs are (i, i + d/2). */
static inline void rotate(const float *x, const float *cos, const float *sin, int d, float *restrict out) {
    int half = d / 2;
    for (int i = 0; i < half; i++) {
        float low = x[i], high = x[i + half];
        out[i] = __builtin_fmaf(high, sin[i], low * cos[i]);
        out[i + half] = __builtin_fmaf(low, sin[i + half], high * cos[i + half]);
    }
}

/* silu(gate) * up. The framework takes two vectors at a time, and what is left one by one. */
static inline void gated(const float *gate_up, int size, float *out) {
    int vectors = size / (2 * LANES) * (2 * LANES);
    for (int i = 0; i < vectors; i += LANES) {
        Lanes gate = load(gate_up + i);
        store(out + i, gate / (1.0f + exp_exact(-gate)) * load(gate_up + size + i));
    }
    for (int i = vectors; i < size; i++) out[i] = gate_up[i] / (1.0f + expf(-gate_up[i])) * gate_up[size + i];
}

