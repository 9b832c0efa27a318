/* Products of matrices that lie anywhere, in tiles whose sums stay in registers.

   Every output is one fused chain over the inputs, cut every `run` of them, the parts added one after another; so its
   bits do not depend on how many rows and columns there are. */

#pragma once
#include <stdint.h>

#include "vectors.h"

#define PANEL 16

typedef float Panel __attribute__((vector_size(4 * PANEL)));

/* x[r][i] lies at `at + r * row + i * inner`. */
typedef struct {
    const float *at;
    int64_t row, inner;
} Left;

/* Outputs p * PANEL and on, of input i, lie at `at + p * panel + i * inner`. */
typedef struct {
    const float *at;
    int64_t inner, panel;
} Right;

/* Outputs a row apart; they are set, or `scale` times the products is added. */
typedef struct {
    float *at;
    int64_t row;
    int add;
    float scale;
} Out;

static inline Panel load_panel(const float *from) {
    Panel x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline int larger(int a, int b) { return a > b ? a : b; }

static inline int whole_panels(int size) { return (size + PANEL - 1) / PANEL * PANEL; }

/* A matrix with rows of whole panels, as it lies. */
static inline Right as_it_lies(const float *weight, int64_t row) { return (Right){weight, row, PANEL}; }

/* What `pack_panels` made of one. */
static inline Right packed(const float *panels, int inputs) { return (Right){panels, PANEL, (int64_t)inputs * PANEL}; }

#if LANES == 16
#define MOST_ROWS 8
#define MOST_PANELS 4
#define MOST_SUMS 16
#else
#define MOST_ROWS 4
#define MOST_PANELS 1
#define MOST_SUMS 4
#endif

/* `rows` x `panels` outputs, both known to the compiler. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int panels, Left x, Right w, int inputs, int run, Out out) {
    Panel total[MOST_ROWS][MOST_PANELS];
    for (int start = 0; start < inputs; start += run) {
        int stop = start + run < inputs ? start + run : inputs;
        Panel sum[MOST_ROWS][MOST_PANELS] = {};
        for (int i = start; i < stop; i++)
            for (int p = 0; p < panels; p++) {
                Panel weight = load_panel(w.at + i * w.inner + p * w.panel);
                for (int r = 0; r < rows; r++)
                    sum[r][p] = __builtin_elementwise_fma((Panel){} + x.at[r * x.row + i * x.inner], weight, sum[r][p]);
            }
        for (int p = 0; p < panels; p++)
            for (int r = 0; r < rows; r++) total[r][p] = start ? total[r][p] + sum[r][p] : sum[r][p];
    }
    for (int p = 0; p < panels; p++)
        for (int r = 0; r < rows; r++) {
            float *to = out.at + r * out.row + p * PANEL;
            if (out.add) total[r][p] = __builtin_elementwise_fma((Panel){} + out.scale, total[r][p], load_panel(to));
            memcpy(to, &total[r][p], sizeof(Panel));
        }
}

static inline Left left_from(Left x, int64_t row) { return (Left){x.at + row * x.row, x.row, x.inner}; }
static inline Right right_from(Right w, int64_t panel) { return (Right){w.at + panel * w.panel, w.inner, w.panel}; }
static inline Out out_from(Out out, int64_t row, int64_t panel) {
    return (Out){out.at + row * out.row + panel * PANEL, out.row, out.add, out.scale};
}

/* Some panels of all rows: as many rows at a time as there are registers for. */
static inline __attribute__((always_inline)) void tall_tiles(
    const int panels, Left x, int rows, Right w, int inputs, int run, Out out) {
    int r = 0;
    for (; MOST_SUMS / panels >= 8 && r + 8 <= rows; r += 8)
        tile(8, panels, left_from(x, r), w, inputs, run, out_from(out, r, 0));
    for (; r + 4 <= rows; r += 4) tile(4, panels, left_from(x, r), w, inputs, run, out_from(out, r, 0));
    for (; r + 2 <= rows; r += 2) tile(2, panels, left_from(x, r), w, inputs, run, out_from(out, r, 0));
    if (r < rows) tile(1, panels, left_from(x, r), w, inputs, run, out_from(out, r, 0));
}

static inline __attribute__((always_inline)) void tiles(
    const int widest, Left x, int rows, Right w, int panels, int inputs, int run, Out out) {
    int p = 0;
    for (; widest >= 4 && p + 4 <= panels; p += 4)
        tall_tiles(4, x, rows, right_from(w, p), inputs, run, out_from(out, 0, p));
    for (; widest >= 2 && p + 2 <= panels; p += 2)
        tall_tiles(2, x, rows, right_from(w, p), inputs, run, out_from(out, 0, p));
    for (; p < panels; p++) tall_tiles(1, x, rows, right_from(w, p), inputs, run, out_from(out, 0, p));
}

/* Rows of x times w. */
static inline void multiply(
    const float *x, int64_t x_row, int rows, Right w, int panels, int inputs, int run, Out out) {
    tiles(MOST_PANELS, (Left){x, x_row, 1}, rows, w, panels, inputs, run, out);
}

/* Columns of x times w: sums over the rows that both have. */
static inline void multiply_columns(
    const float *x, int64_t x_row, int columns, Right w, int panels, int rows, int run, Out out) {
    tiles(MOST_PANELS < 2 ? 1 : 2, (Left){x, 1, x_row}, columns, w, panels, rows, run, out);
}
