/* Log-softmax of a row of logits, to the framework's bits. */

#pragma once
#include "vectors.h"

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

static inline Lanes logits_at(const float *logits, int i, int size) {
    if (i + LANES <= size) return load(logits + i);
    float rest[LANES];
    for (int j = 0; j < LANES; j++) rest[j] = i + j < size ? logits[i + j] : -INFINITY;
    return load(rest);
}

/* A logit's log-probability is itself - largest - log_sum. */
typedef struct {
    float largest, log_sum;
} Normaliser;

static inline Normaliser normaliser(const float *logits, int size) {
    Lanes most = all(-INFINITY), sums = {};
    for (int i = 0; i < size; i += LANES) most = __builtin_elementwise_max(most, logits_at(logits, i, size));
    float largest = __builtin_reduce_max(most);
    for (int i = 0; i < size; i += LANES) sums += exp_exact(logits_at(logits, i, size) - largest);
    return (Normaliser){largest, log_exact(folded(sums))};
}
