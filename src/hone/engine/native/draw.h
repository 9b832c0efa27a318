/* The next token of a row, by inversion, and its log-probability, which has the bits of the framework's log-softmax.

   Legend: V vocabulary. */

#pragma once
#include <stdint.h>

#include "vectors.h"

/* Numbers whose weights are summed before the search looks at each. */
#define STRIDE 64

typedef struct {
    int64_t token;
    float logprob;
} Draw;

/* log(x) of a normal x, at most one unit in the last place off: SLEEF's `logf_u10`, in pairs of floats. */
static inline float log_exact(float x) {
    int exponent;
    memcpy(&exponent, &(float){x * (1.0f / 0.75f)}, sizeof exponent);
    exponent = (exponent >> 23) - 127;
    float m = ldexpf(x, -exponent), e = (float)exponent;
    float high = 0.69314718246459960938f * e;
    float low = __builtin_fmaf(-1.904654323148236017e-09f, e, __builtin_fmaf(0.69314718246459960938f, e, -high));
    /* n = m - 1, d = m + 1, each with its rounding error; y = n / d */
    float n = m - 1, nv = n + 1, n_low = (-1 - (n - nv)) + (m - nv);
    float d = m + 1, dv = d - 1, d_low = (1 - (d - dv)) + (m - dv);
    float t = 1 / d, y = n * t, u = __builtin_fmaf(t, n, -y);
    float v = __builtin_fmaf(-d_low, t, __builtin_fmaf(-d, t, 1));
    float y_low = __builtin_fmaf(y, v, __builtin_fmaf(n_low, t, u));
    float y2 = y * y;
    float p = __builtin_fmaf(0.3027294874e+0f, y2, 0.3996108174e+0f);
    p = __builtin_fmaf(p, y2, 0.6666694880e+0f);
    float sum = high + 2 * y;
    float sum_low = ((high - sum + 2 * y) + low) + 2 * y_low;
    float rest = y2 * y * p, whole = sum + rest;
    return whole + ((sum - whole + rest) + sum_low);
}

static inline Lanes scaled_at(const float *logits, int i, int size, float temperature) {
    if (i + LANES <= size) return load(logits + i) / temperature;
    float rest[LANES];
    for (int j = 0; j < LANES; j++) rest[j] = i + j < size ? logits[i + j] / temperature : -INFINITY;
    return load(rest);
}

/* `uniform` in [0, 1); `weights` and `sums` are scratch, [V padded to STRIDE] and [V / STRIDE + 1]. */
static Draw draw_row(
    const float *logits, int size, float temperature, int greedy, double uniform, float *weights, double *sums) {
    Lanes most = all(-INFINITY), total_lanes = {};
    for (int i = 0; i < size; i += LANES) {
        Lanes x = scaled_at(logits, i, size, temperature);
        store(weights + i, x);
        most = __builtin_elementwise_max(most, x);
    }
    float largest = __builtin_reduce_max(most);
    for (int i = 0; i < size; i += LANES) {
        Lanes weight = exp_exact(load(weights + i) - largest);
        total_lanes += weight;
        store(weights + i, weight);
    }
    Draw drawn = {0, 0};
    if (greedy) {
        while (drawn.token < size - 1 && logits[drawn.token] / temperature != largest) drawn.token++;
    } else {
        double total = 0;
        int strides = 0;
        for (int start = 0; start < size; start += STRIDE) {
            double sum = 0;
            for (int i = start; i < size && i < start + STRIDE; i++) sum += weights[i];
            sums[strides++] = total += sum;
        }
        double goal = total * uniform;
        int stride = 0;
        while (stride < strides - 1 && sums[stride] <= goal) stride++;
        double reached = stride ? sums[stride - 1] : 0;
        /* rounding may leave the goal just behind the last number */
        for (int i = stride * STRIDE; i < size && i < (stride + 1) * STRIDE && reached <= goal; i++) {
            reached += weights[i];
            if (weights[i] > 0) drawn.token = i;
        }
    }
    drawn.logprob = logits[drawn.token] / temperature - largest - log_exact(folded(total_lanes));
    return drawn;
}
