/* The head of a training pass: log-probabilities of target tokens, and what becomes of their gradient; see `head.py`.

   Done in stages that can be divided, as those of `layer.c`.

   Legend: T rows, h hidden, V vocabulary, K targets of a row, R rank. */

#include "softmax.h"
#include "training.h"

/* The adapter's A is [R, h] and its B [V, R]; without one, R is 0. The gradients may be null. */
typedef struct {
    int rank, order;
    float scale;
    const float *a, *b;
    float *da, *db;
} HeadPart;

typedef struct {
    int rows, hidden, vocabulary, targets;
    Projection projection;
    HeadPart part;
    /* [T, h], [T, K] */
    const float *x;
    const int64_t *goals;
    float *logprobs;
    const float *dlogprobs;
    float *dx;
    /* [T, V in whole panels], which become those of the loss with respect to them */
    float *logits;
    /* [T, R in whole panels] */
    float *inner, *dinner;
    /* the adapter's matrices as the passes read them */
    float *packed;
    /* whether `logits` and `inner` are those of the forward pass still */
    int kept;
} HeadPass;

static float *packed_b(const HeadPass *p) { return p->packed + (int64_t)whole_panels(p->part.rank) * p->hidden; }

static float *padded_b(const HeadPass *p) {
    return packed_b(p) + (int64_t)whole_panels(p->vocabulary) * p->part.rank;
}

/* Floats of `packed`. */
int64_t hone_head_packed(int rank, int hidden, int vocabulary) {
    int64_t V = whole_panels(vocabulary), padded = rank % PANEL ? whole_panels(rank) : 0;
    return (int64_t)whole_panels(rank) * hidden + V * rank + vocabulary * padded;
}

static void pack(const HeadPass *p) {
    int R = p->part.rank, V = p->vocabulary;
    if (!R) return;
    pack_a(p->part.a, R, p->hidden, p->part.order, p->packed);
    pack_panels(p->part.b, V, R, R, p->part.scale, packed_b(p));
    if (R % PANEL) pad_rows(p->part.b, V, R, padded_b(p));
}

static void compute_logits(const HeadPass *p, int first, int last) {
    int h = p->hidden, V = whole_panels(p->vocabulary), R = p->part.rank, row = whole_panels(R);
    float *logits = p->logits + (int64_t)first * V;
    const float *x = p->x + (int64_t)first * h;
    product(&p->projection.packed, x, h, last - first, logits, V);
    if (!R) return;
    Matrix a = {h, R, p->part.order, run_of(h), p->packed};
    float *inner = p->inner + (int64_t)first * row;
    product(&a, x, h, last - first, inner, row);
    multiply(inner, row, last - first, packed(packed_b(p), R), V / PANEL, R, run_of(R), (Out){logits, V, 1, 1});
}

static void forward(const HeadPass *p, int first, int last) {
    int V = whole_panels(p->vocabulary), K = p->targets;
    for (int block = first; block < last; block += TOGETHER) {
        int stop = block + TOGETHER < last ? block + TOGETHER : last;
        compute_logits(p, block, stop);
        for (int64_t t = block; t < stop; t++) {
            const float *logits = p->logits + t * V;
            Normaliser all = normaliser(logits, p->vocabulary);
            for (int64_t k = t * K; k < (t + 1) * K; k++)
                p->logprobs[k] = logits[p->goals[k]] - all.largest - all.log_sum;
        }
    }
}

static int is_idle(const HeadPass *p, int64_t t) {
    for (int64_t k = t * p->targets; k < (t + 1) * p->targets; k++)
        if (p->dlogprobs[k] != 0) return 0;
    return 1;
}

/* d logp[target] / d logits = onehot(target) - softmax. What fills the last panel becomes 0. */
static void to_gradient(const HeadPass *p, int64_t t) {
    int size = p->vocabulary, V = whole_panels(size), K = p->targets;
    float *logits = p->logits + t * V, total = 0;
    Normaliser each = normaliser(logits, size);
    for (int64_t k = t * K; k < (t + 1) * K; k++) total += p->dlogprobs[k];
    for (int i = 0; i < V; i += LANES)
        store(logits + i, -total * exp_exact(logits_at(logits, i, size) - each.largest - each.log_sum));
    for (int64_t k = t * K; k < (t + 1) * K; k++) logits[p->goals[k]] += p->dlogprobs[k];
}

static void backward(const HeadPass *p, int first, int last) {
    int h = p->hidden, V = whole_panels(p->vocabulary), R = p->part.rank, row = whole_panels(R);
    for (int start = first, stop; start < last; start = stop) {
        int idle = is_idle(p, start);
        for (stop = start + 1; stop < last && stop < start + TOGETHER && is_idle(p, stop) == idle;) stop++;
        int rows = stop - start;
        float *dlogits = p->logits + (int64_t)start * V, *dx = p->dx + (int64_t)start * h;
        if (idle) { /* of a prompt, say: zeros without products */
            memset(dx, 0, (int64_t)rows * h * sizeof(float));
            memset(dlogits, 0, (int64_t)rows * V * sizeof(float));
            if (R) memset(p->dinner + (int64_t)start * row, 0, (int64_t)rows * row * sizeof(float));
            if (R && !p->kept) memset(p->inner + (int64_t)start * row, 0, (int64_t)rows * row * sizeof(float));
            continue;
        }
        if (!p->kept) compute_logits(p, start, stop);
        for (int t = start; t < stop; t++) to_gradient(p, t);
        Right weight = as_it_lies(p->projection.weight, h);
        multiply(dlogits, V, rows, weight, h / PANEL, p->vocabulary, SUMMED, (Out){dx, h, 0, 0});
        if (!R) continue;
        float *dinner = p->dinner + (int64_t)start * row;
        Right b = as_it_lies(R % PANEL ? padded_b(p) : p->part.b, row);
        multiply(dlogits, V, rows, b, row / PANEL, p->vocabulary, SUMMED, (Out){dinner, row, 0, 0});
        multiply(dinner, row, rows, as_it_lies(p->part.a, h), h / PANEL, R, SUMMED, (Out){dx, h, 1, p->part.scale});
    }
}

/* The adapter's gradients; `scratch` is R * V in whole panels. */
static void gather(const HeadPass *p, float *scratch) {
    int h = p->hidden, V = whole_panels(p->vocabulary), R = p->part.rank, row = whole_panels(R);
    Out to = {p->part.da, h, 1, p->part.scale};
    multiply_columns(p->dinner, row, R, as_it_lies(p->x, h), h / PANEL, p->rows, SUMMED, to);
    gather_b(p->inner, row, R, p->logits, V, p->vocabulary, p->rows, p->part.scale, p->part.db, scratch);
}

enum { PACK, FORWARD, BACKWARD, GRADIENTS };

/* A stage, of the rows first:last where it goes by rows. */
void hone_head(const HeadPass *p, int stage, int first, int last, float *scratch) {
    switch (stage) {
    case PACK: pack(p); break;
    case FORWARD: forward(p, first, last); break;
    case BACKWARD: backward(p, first, last); break;
    case GRADIENTS: gather(p, scratch); break;
    }
}
