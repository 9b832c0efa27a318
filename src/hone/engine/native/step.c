/* The next token's logits of every running sequence of a dense model, row by row without anything between the
   operations; see `step.py` of the sampler for the same in the framework's operations, whose bits these are.

   Legend: T rows, h hidden, H heads, K key-value heads, d head size, M intermediate size, V vocabulary, R rank. */

#include <stdint.h>

#include "attention.h"
#include "dense.h"
#include "draw.h"
#include "pack.h"

typedef struct {
    const float *attention_norm, *qk_norm, *mlp_norm;
    Matrix qkv, o, gate_up, down;
    /* the cache, [slots, 2K, d] */
    float *entries;
} Layer;

typedef struct {
    int hidden, heads, kv_heads, head_dim, intermediate, vocabulary, layers;
    float eps_sum, head_eps_sum, scale;
    const float *embedding, *cos, *sin, *final_norm;
    const Layer *layer;
    Matrix head;
} Model;

#define MOST_SITES 3

/* What an adapter adds to one group of projections: a stacked over `sites`, each with a b of its own, scaled. No sites:
   nothing. */
typedef struct {
    int sites;
    Matrix a, b[MOST_SITES];
} Pair;

/* The adapter of the rows `start:stop`; pairs for qkv, o, gate_up, down of each layer, then the head. */
typedef struct {
    int start, stop;
    const Pair *pairs;
} Span;

typedef struct {
    int count, spans;
    const int64_t *tokens, *positions, *slots;
    /* [T, blocks] */
    const int64_t *blocks;
    int64_t blocks_stride;
    const Span *span;
} Rows;

/* out [T, stride] = x W^T, plus what the adapters add. */
static void project(
    const Matrix *m, const Rows *rows, int group, const float *x, int x_stride, float *out, int out_stride,
    float *scratch) {
    product(m, x, x_stride, rows->count, out, out_stride);
    for (int s = 0; s < rows->spans; s++) {
        const Span *span = rows->span + s;
        const Pair *pair = span->pairs + group;
        int count = span->stop - span->start, rank = whole_panels(pair->a.outputs), column = 0;
        if (!pair->sites) continue;
        float *inner = scratch, *added = scratch + (int64_t)count * rank;
        product(&pair->a, x + (int64_t)span->start * x_stride, x_stride, count, inner, rank);
        for (int site = 0; site < pair->sites; site++) {
            const Matrix *b = pair->b + site;
            product(b, inner + site * b->inputs, rank, count, added, out_stride);
            for (int r = 0; r < count; r++)
                add(out + (int64_t)(span->start + r) * out_stride + column, added + (int64_t)r * out_stride, b->outputs);
            column += b->outputs;
        }
    }
}

/* Norms and rotates the heads of one row, where they lie. */
static void turn(const Model *m, const Layer *layer, int64_t position, float *heads) {
    int d = m->head_dim;
    float plain[MOST_HEAD];
    for (int head = 0; head < m->heads + m->kv_heads; head++) {
        float *x = heads + (int64_t)head * d;
        if (layer->qk_norm)
            norm(x, layer->qk_norm + (int64_t)head * d, m->head_eps_sum, d, plain);
        else
            memcpy(plain, x, d * sizeof(float));
        rotate(plain, m->cos + position * d, m->sin + position * d, d, x);
    }
}

static void attention(const Model *m, const Layer *layer, const Rows *rows, int row, const float *qkv, float *out) {
    int d = m->head_dim, group = m->heads / m->kv_heads, entry = 2 * m->kv_heads * d;
    memcpy(layer->entries + rows->slots[row] * entry, qkv + m->heads * d, entry * sizeof(float));
    Pages pages = {layer->entries, entry, rows->blocks + row * rows->blocks_stride};
    for (int head = 0; head < m->kv_heads; head++) {
        int first = head * group * d, key = head * d, length = (int)rows->positions[row] + 1;
        attend(&pages, qkv + first, group, key, key + m->kv_heads * d, d, m->scale, length, out + first);
    }
}

/* Floats between the rows of what a projection of a layer makes, and of what its second ones read. */
static int wide_of(const Model *m) {
    int qkv = (m->heads + 2 * m->kv_heads) * m->head_dim;
    return whole_panels(larger(larger(qkv, 2 * m->intermediate), m->hidden));
}

static int mixed_of(const Model *m) { return whole_panels(larger(m->heads * m->head_dim, m->intermediate)); }

/* Floats of scratch for so many rows; `rank` is that of the largest stack of matrices A. */
int64_t hone_scratch(const Model *m, int rows, int rank) {
    int64_t added = larger(wide_of(m), whole_panels(m->vocabulary)) + whole_panels(rank);
    return rows * (2 * whole_panels(m->hidden) + mixed_of(m) + wide_of(m) + added);
}

/* What the head reads after each row's token, [T, h padded to panels]; keys and values go into the cache, so rows may
   look at those before them. */
void hone_hidden(const Model *m, const Rows *rows, float *scratch, float *normed) {
    int T = rows->count, h = m->hidden, M = m->intermediate;
    int hidden = whole_panels(h), wide = wide_of(m), mixed_stride = mixed_of(m);
    float *x = scratch, *mixed = x + (int64_t)T * hidden;
    float *out = mixed + (int64_t)T * mixed_stride, *more = out + (int64_t)T * wide;
    for (int t = 0; t < T; t++) memcpy(x + (int64_t)t * hidden, m->embedding + rows->tokens[t] * h, h * sizeof(float));
    for (int i = 0; i < m->layers; i++) {
        const Layer *layer = m->layer + i;
        for (int t = 0; t < T; t++) norm(x + (int64_t)t * hidden, layer->attention_norm, m->eps_sum, h, normed + (int64_t)t * hidden);
        project(&layer->qkv, rows, 4 * i, normed, hidden, out, wide, more);
        for (int t = 0; t < T; t++) {
            turn(m, layer, rows->positions[t], out + (int64_t)t * wide);
            attention(m, layer, rows, t, out + (int64_t)t * wide, mixed + (int64_t)t * mixed_stride);
        }
        project(&layer->o, rows, 4 * i + 1, mixed, mixed_stride, out, wide, more);
        for (int t = 0; t < T; t++) {
            add(x + (int64_t)t * hidden, out + (int64_t)t * wide, h);
            norm(x + (int64_t)t * hidden, layer->mlp_norm, m->eps_sum, h, normed + (int64_t)t * hidden);
        }
        project(&layer->gate_up, rows, 4 * i + 2, normed, hidden, out, wide, more);
        for (int t = 0; t < T; t++) gated(out + (int64_t)t * wide, M, mixed + (int64_t)t * mixed_stride);
        project(&layer->down, rows, 4 * i + 3, mixed, mixed_stride, out, wide, more);
        for (int t = 0; t < T; t++) add(x + (int64_t)t * hidden, out + (int64_t)t * wide, h);
    }
    for (int t = 0; t < T; t++) norm(x + (int64_t)t * hidden, m->final_norm, m->eps_sum, h, normed + (int64_t)t * hidden);
}

/* Logits after each row's token, [T, V padded to panels]. */
void hone_step(const Model *m, const Rows *rows, float *scratch, float *logits) {
    int hidden = whole_panels(m->hidden);
    float *normed = scratch, *more = normed + (int64_t)rows->count * hidden;
    hone_hidden(m, rows, more, normed);
    project(&m->head, rows, 4 * m->layers, normed, hidden, logits, whole_panels(m->vocabulary), more);
}

/* What this was compiled from. */
const char *hone_source(void) { return HONE_SOURCE; }

/* As `product` says; x and out are rows of so many floats. */
void hone_product(const Matrix *m, const float *x, int x_stride, int rows, float *out, int out_stride) {
    product(m, x, x_stride, rows, out, out_stride);
}

/* As `pack_panels` says. */
void hone_pack(const float *weight, int outputs, int inputs, int64_t stride, float scale, float *packed) {
    pack_panels(weight, outputs, inputs, stride, scale, packed);
}

int64_t hone_draw_scratch(int size) { return size + 2 * STRIDE + 2 * (size / STRIDE + 2); }

/* One token for each row of logits [rows, size], whose rows are `stride` floats apart. `greedy`, a byte for each, may be
   null. `scratch` is that many floats. */
void hone_draw(
    const float *logits, int64_t stride, int size, int rows, const float *temperatures, const uint8_t *greedy,
    const double *uniforms, float *scratch, int64_t *tokens, float *logprobs) {
    double *sums = (double *)scratch;
    float *weights = scratch + 2 * (size / STRIDE + 2);
    for (int r = 0; r < rows; r++) {
        Draw drawn =
            draw_row(logits + r * stride, size, temperatures[r], greedy && greedy[r], uniforms[r], weights, sums);
        tokens[r] = drawn.token;
        logprobs[r] = drawn.logprob;
    }
}
