/* The next token of a row, by inversion, and its log-probability, which has the bits of the framework's log-softmax.

   Legend: V vocabulary. */

#pragma once
#include <stdint.h>

#include "softmax.h"

/* Numbers whose weights are summed before the search looks at each. */
#define STRIDE 64

typedef struct {
    int64_t token;
    float logprob;
} Draw;

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
