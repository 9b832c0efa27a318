/* Vectors of floats, and the functions of them whose bits the framework's own have.

   LANES is the width of the framework's vectors on this kind of processor. No product and sum is
   fused unless it says `fma`. */

#pragma once
#include <math.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif

typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef int IntLanes __attribute__((vector_size(4 * LANES)));

static inline Lanes load(const float *from) {
    Lanes x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline void store(float *to, Lanes x) { memcpy(to, &x, sizeof x); }

static inline Lanes all(float x) { return (Lanes){} + x; }

static inline Lanes fma_lanes(Lanes a, Lanes b, Lanes c) { return __builtin_elementwise_fma(a, b, c); }

#if LANES == 16
#define interleaved_low(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define interleaved_high(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define interleaved_low(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define interleaved_high(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#endif

/* Rows become columns: what lies half apart is interleaved, as often as it takes. */
static inline void transpose(Lanes x[LANES]) {
    Lanes y[LANES];
    for (int size = 1; size < LANES; size *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = interleaved_low(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = interleaved_high(x[i], x[i + LANES / 2]);
        }
        memcpy(x, y, sizeof y);
    }
}

static inline Lanes lanes_of_bits(IntLanes bits) { return (Lanes)bits; }

/* Sums lanes i and i + half, until one is left. */
static inline float folded(Lanes x) {
    float part[LANES];
    store(part, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

typedef float Eight __attribute__((vector_size(32)));

/* The sum of x[i]^2: four interleaved sums of eight lanes, then these, then the lanes in their order; the framework sums
   like that on wider processors too. Long sums cascade: what sixteen steps gave goes to the next of four levels. */
static inline float sum_of_squares(const float *x, int size) {
    int vectors = size / 8, steps = vectors / 4;
    Eight sums[4][4] = {};
    for (int step = 0; step < steps;) {
        for (int j = 0; j < 4; j++) {
            Eight v;
            memcpy(&v, x + (step * 4 + j) * 8, sizeof v);
            sums[0][j] += v * v;
        }
        step++;
        for (int level = 1; level < 4 && step % (1 << 4 * level) == 0; level++)
            for (int j = 0; j < 4; j++) {
                sums[level][j] += sums[level - 1][j];
                sums[level - 1][j] = (Eight){};
            }
    }
    for (int level = 1; level < 4; level++)
        for (int j = 0; j < 4; j++) sums[0][j] += sums[level][j];
    for (int i = steps * 4; i < vectors; i++) {
        Eight v;
        memcpy(&v, x + i * 8, sizeof v);
        sums[0][0] += v * v;
    }
    Eight lanes = sums[0][0] + sums[0][1] + sums[0][2] + sums[0][3];
    float sum = 0;
    for (int i = vectors * 8; i < size; i++) sum += x[i] * x[i];
    for (int i = 0; i < 8; i++) sum += lanes[i];
    return sum;
}

/* The sum of x[i] y[i], `size` being a multiple of LANES; in no order that anybody else has. */
static inline float dot(const float *x, const float *y, int size) {
    Lanes sum = {};
    for (int i = 0; i < size; i += LANES) sum = fma_lanes(load(x + i), load(y + i), sum);
    return folded(sum);
}

/* e^x, at most one unit in the last place off: the reduction and the polynomial of SLEEF's `expf_u10`. */
static inline Lanes exp_exact(Lanes x) {
    Lanes turns = __builtin_elementwise_roundeven(x * 1.44269504088896340736f);
    Lanes s = fma_lanes(turns, all(-0.693145751953125f), x);
    s = fma_lanes(turns, all(-1.428606765330187045e-06f), s);
    Lanes u = all(0.000198527617612853646278381f);
    u = fma_lanes(u, s, all(0.00139304355252534151077271f));
    u = fma_lanes(u, s, all(0.00833336077630519866943359f));
    u = fma_lanes(u, s, all(0.0416664853692054748535156f));
    u = fma_lanes(u, s, all(0.166666671633720397949219f));
    u = fma_lanes(u, s, all(0.5f));
    u = 1.0f + fma_lanes(s * s, u, s);
    turns = __builtin_elementwise_max(__builtin_elementwise_min(turns, all(300)), all(-300));
    IntLanes power = __builtin_convertvector(turns, IntLanes);
    IntLanes half = power >> 1;
    u = u * lanes_of_bits((half + 127) << 23) * lanes_of_bits((power - half + 127) << 23);
    IntLanes too_small = x < -104.0f, too_large = x > 104.0f;
    return lanes_of_bits(((IntLanes)u & ~too_small & ~too_large) | ((IntLanes)all(INFINITY) & too_large));
}

/* e^x for x <= 0, some units in the last place off: what the framework's attention takes. */
static inline Lanes exp_quick(Lanes x) {
    const Lanes least = lanes_of_bits((IntLanes){} + (int)0xc2aeac50);
    IntLanes too_small = x < least;
    Lanes source = __builtin_elementwise_max(x, least);
    Lanes turns = __builtin_elementwise_floor(fma_lanes(source, all(1.44269502f), all(0.5f)));
    Lanes s = fma_lanes(-turns, all(0.693147182f), source);
    Lanes u = fma_lanes(s, all(0.00828929059f), all(0.0418978221f));
    u = fma_lanes(s, u, all(0.166676521f));
    u = fma_lanes(s, u, all(0.499991506f));
    u = fma_lanes(s, u, all(0.999999701f));
    u = fma_lanes(s, u, all(1.0f));
    IntLanes power = __builtin_convertvector(turns - 1.0f, IntLanes);
    Lanes scale = lanes_of_bits(((power + 127) << 23) & ~too_small);
    return u * scale * 2.0f;
}
