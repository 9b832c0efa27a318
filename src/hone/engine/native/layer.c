/* A dense layer of a training pass, forward and backward, over packed rows of many sequences and adapters. The forward
   pass has the bits of decoding, see `step.c`; what becomes of a row in the backward pass, and the order in which an
   adapter's gradient is summed up, do not depend on who else is there.

   A layer is done in stages. All but the first of each pass can be divided: by rows, by heads of sequences, or by
   gradients, without changing a bit.

   Legend: T rows, h hidden, H heads, K key-value heads, d head size, M intermediate size, R rank, S sites. */

#include "dense.h"
#include "training.h"
#include "whole_attention.h"

#define GROUPS 4
#define MOST_SITES 3

enum { QKV, O, GATE_UP, DOWN };

typedef struct {
    int hidden, heads, kv_heads, head_dim, intermediate, has_qk_norm;
    float eps_sum, head_eps_sum, scale;
} Shape;

typedef struct {
    int index;
    const float *attention_norm, *qk_norm, *mlp_norm;
    Projection projection[GROUPS];
} FrozenLayer;

/* Where a group's matrices lie in an adapter's flat vector: A [S*R, I], and of each site B [outputs, R]. No sites: the
   adapter has none. `order` is in which A's product adds. */
typedef struct {
    int sites, order;
    int64_t a, b[MOST_SITES];
} Place;

/* The rows `start:stop` use an adapter. `gradient`, which may be null, is as long as `weights`; `places` are those of
   all layers' groups. `inner` and `packed` say where its own begin in what all adapters share. */
typedef struct {
    int start, stop, rank;
    float scale;
    const float *weights;
    float *gradient;
    const Place *places;
    int64_t inner, packed;
} Part;

/* Sequence s is the rows `starts[s]:starts[s + 1]`; cos and sin are [T, d]. */
typedef struct {
    int rows, sequences, parts;
    const int *starts;
    const float *cos, *sin;
    Part *part;
    int64_t inner, packed;
} Batch;

typedef struct {
    const Shape *shape;
    const FrozenLayer *layer;
    const Batch *batch;
    const float *x;
    float *out;
    const float *dout;
    float *dx;
    float *saved, *packed, *work;
} LayerPass;

/* --- where things lie --------------------------------------------------------------------------------------------- */

static int qkv_size(const Shape *s) { return (s->heads + 2 * s->kv_heads) * s->head_dim; }
static int mixed_size(const Shape *s) { return s->heads * s->head_dim; }

/* Queries and keys are turned where they are, unless a norm's backward pass wants to see what they were. */
static int turned_row(const Shape *s) { return s->has_qk_norm ? (s->heads + s->kv_heads) * s->head_dim : qkv_size(s); }

/* What the forward pass leaves to the backward pass, by row. */
typedef struct {
    float *inverse, *normed, *head_inverse, *qkv, *turned, *mixed, *logsumexp;
    float *middle, *middle_inverse, *middle_normed, *gate_up, *active, *inner;
    int64_t size;
} Saved;

static float *take(float *base, int64_t *size, int64_t floats) {
    float *found = base + *size;
    *size += floats;
    return found;
}

static Saved saved_at(const Shape *s, const Batch *batch, float *base) {
    int64_t T = batch->rows, n = 0;
    Saved at;
    at.normed = take(base, &n, T * s->hidden);
    at.qkv = take(base, &n, T * qkv_size(s));
    at.turned = s->has_qk_norm ? take(base, &n, T * turned_row(s)) : at.qkv;
    at.mixed = take(base, &n, T * mixed_size(s));
    at.middle = take(base, &n, T * s->hidden);
    at.middle_normed = take(base, &n, T * s->hidden);
    at.gate_up = take(base, &n, T * 2 * s->intermediate);
    at.active = take(base, &n, T * s->intermediate);
    at.inner = take(base, &n, batch->inner);
    at.inverse = take(base, &n, T);
    at.middle_inverse = take(base, &n, T);
    at.head_inverse = take(base, &n, s->has_qk_norm ? T * (s->heads + s->kv_heads) : 0);
    at.logsumexp = take(base, &n, T * s->heads);
    at.size = n;
    return at;
}

/* What the backward pass takes besides, by row; it writes over what it has read for the last time. */
typedef struct {
    float *dgate_up, *dmiddle, *dmixed, *dqkv, *dinner;
    int64_t size;
} Work;

static Work work_at(const Shape *s, const Batch *batch, const Saved *saved, float *base) {
    int64_t T = batch->rows, n = 0;
    Work at = {.dgate_up = saved->gate_up, .dmiddle = saved->middle};
    at.dmixed = take(base, &n, T * mixed_size(s));
    at.dqkv = take(base, &n, T * qkv_size(s));
    at.dinner = take(base, &n, batch->inner);
    at.size = n;
    return at;
}

static int outputs_of(const Shape *s, int group, int site) {
    if (group == QKV) return (site ? s->kv_heads : s->heads) * s->head_dim;
    return group == GATE_UP ? s->intermediate : s->hidden;
}

static int inputs_of(const Shape *s, int group) {
    return group == O ? mixed_size(s) : group == DOWN ? s->intermediate : s->hidden;
}

static const int sites_of[GROUPS] = {3, 1, 2, 1};

/* Floats between the rows of x A^T: each site's can be written in whole panels. */
static int inner_row(int rank, int group) { return whole_panels((sites_of[group] - 1) * rank + whole_panels(rank)); }

static int64_t inner_before(const Part *part, int group) {
    int64_t floats = 0;
    for (int g = 0; g < group; g++) floats += inner_row(part->rank, g);
    return part->inner + floats * (part->stop - part->start);
}

static float *inner_at(float *inner, const Part *part, int group, int row) {
    return inner + inner_before(part, group) + (int64_t)(row - part->start) * inner_row(part->rank, group);
}

/* Packed, an adapter's group is A, then each site's B; the second pass has B alone. */
static int64_t a_floats(const Shape *s, const Part *part, int group) {
    return (int64_t)whole_panels(sites_of[group] * part->rank) * inputs_of(s, group);
}

static int64_t b_floats(const Shape *s, const Part *part, int group, int site) {
    return (int64_t)outputs_of(s, group, site) * whole_panels(part->rank);
}

static int64_t group_floats(const Shape *s, const Part *part, int group) {
    int64_t floats = a_floats(s, part, group);
    for (int site = 0; site < sites_of[group]; site++) floats += b_floats(s, part, group, site);
    return floats;
}

static float *a_at(const LayerPass *p, const Part *part, int group) {
    float *at = p->packed + part->packed;
    for (int g = 0; g < group; g++) at += group_floats(p->shape, part, g);
    return at;
}

static float *b_at(const LayerPass *p, const Part *part, int group, int site) {
    float *at = a_at(p, part, group) + a_floats(p->shape, part, group);
    for (int before = 0; before < site; before++) at += b_floats(p->shape, part, group, before);
    return at;
}

static const Place *place_of(const LayerPass *p, const Part *part, int group) {
    return part->places + p->layer->index * GROUPS + group;
}

/* How many rows from `start` on, before `last`, an adapter has something to add to. */
static int rows_from(int start, int last, const Part *part, const Place *place) {
    int stop = last < part->stop ? last : part->stop;
    return place->sites && stop > start ? stop - start : 0;
}

/* --- projections -------------------------------------------------------------------------------------------------- */

/* All adapters' matrices as the forward pass reads them. */
static void pack_forward(const LayerPass *p) {
    for (int e = 0; e < p->batch->parts; e++)
        for (int group = 0; group < GROUPS; group++) {
            const Part *part = p->batch->part + e;
            const Place *place = place_of(p, part, group);
            int R = part->rank, inputs = inputs_of(p->shape, group);
            if (!place->sites) continue;
            pack_a(part->weights + place->a, place->sites * R, inputs, place->order, a_at(p, part, group));
            for (int site = 0; site < place->sites; site++) {
                const float *b = part->weights + place->b[site];
                pack_panels(b, outputs_of(p->shape, group, site), R, R, part->scale, b_at(p, part, group, site));
            }
        }
}

/* The rows first:last of out = x W^T plus what the adapters add; keeps x A^T. */
static void project(
    const LayerPass *p, const Saved *saved, int group, const float *x, float *out, int64_t out_row, int first,
    int last) {
    const Matrix *base = &p->layer->projection[group].packed;
    int64_t x_row = base->inputs;
    product(base, x + first * x_row, x_row, last - first, out + first * out_row, out_row);
    for (int e = 0; e < p->batch->parts; e++) {
        const Part *part = p->batch->part + e;
        const Place *place = place_of(p, part, group);
        int start = larger(first, part->start), rows = rows_from(start, last, part, place);
        if (!rows) continue;
        int R = part->rank, row = inner_row(R, group), column = 0;
        Matrix a = {base->inputs, place->sites * R, place->order, run_of(base->inputs), a_at(p, part, group)};
        float *inner = inner_at(saved->inner, part, group, start);
        product(&a, x + start * x_row, x_row, rows, inner, row);
        for (int site = 0; site < place->sites; site++) {
            int outputs = outputs_of(p->shape, group, site);
            Out to = {out + start * out_row + column, out_row, 1, 1};
            Right b = packed(b_at(p, part, group, site), R);
            multiply(inner + site * R, row, rows, b, outputs / PANEL, R, run_of(R), to);
            column += outputs;
        }
    }
}

/* B in rows of whole panels. */
static Right b_as_it_lies(const LayerPass *p, const Part *part, const Place *place, int group, int site) {
    if (part->rank % PANEL == 0) return as_it_lies(part->weights + place->b[site], part->rank);
    return as_it_lies(b_at(p, part, group, site), whole_panels(part->rank));
}

static void pack_backward(const LayerPass *p) {
    for (int e = 0; e < p->batch->parts; e++)
        for (int group = 0; group < GROUPS; group++) {
            const Part *part = p->batch->part + e;
            const Place *place = place_of(p, part, group);
            for (int site = 0; part->rank % PANEL && site < place->sites; site++) {
                const float *b = part->weights + place->b[site];
                pad_rows(b, outputs_of(p->shape, group, site), part->rank, b_at(p, part, group, site));
            }
        }
}

/* d loss / d x of the rows first:last, unless it is null, and their d loss / d (x A^T). `dx` is those rows alone. */
static void project_back(
    const LayerPass *p, const Work *work, int group, const float *dout, int64_t dout_row, float *dx, int first,
    int last) {
    const Projection *base = &p->layer->projection[group];
    int inputs = base->packed.inputs, outputs = base->packed.outputs;
    if (dx) {
        Right weight = as_it_lies(base->weight, inputs);
        Out to = {dx, inputs, 0, 0};
        multiply(dout + first * dout_row, dout_row, last - first, weight, inputs / PANEL, outputs, SUMMED, to);
    }
    for (int e = 0; e < p->batch->parts; e++) {
        const Part *part = p->batch->part + e;
        const Place *place = place_of(p, part, group);
        int start = larger(first, part->start), rows = rows_from(start, last, part, place);
        if (!rows) continue;
        int R = part->rank, row = inner_row(R, group), column = 0;
        float *dinner = inner_at(work->dinner, part, group, start);
        for (int site = 0; site < place->sites; site++) {
            int of_site = outputs_of(p->shape, group, site);
            const float *from = dout + start * dout_row + column;
            Right b = b_as_it_lies(p, part, place, group, site);
            Out to = {dinner + site * R, row, 0, 0};
            multiply(from, dout_row, rows, b, whole_panels(R) / PANEL, of_site, SUMMED, to);
            column += of_site;
        }
        if (!dx) continue;
        Right a = as_it_lies(part->weights + place->a, inputs);
        Out to = {dx + (int64_t)(start - first) * inputs, inputs, 1, part->scale};
        multiply(dinner, row, rows, a, inputs / PANEL, place->sites * R, SUMMED, to);
    }
}

/* An adapter's gradient of A or, from site 1 on, of a site's B. `scratch` is R floats for each output. */
static void gather(
    const LayerPass *p, const Saved *saved, const Work *work, const Part *part, int group, int matrix, const float *x,
    const float *dout, int64_t dout_row, float *scratch) {
    const Place *place = place_of(p, part, group);
    int R = part->rank, row = inner_row(R, group), rows = part->stop - part->start, inputs = inputs_of(p->shape, group);
    if (matrix == 0) {
        const float *dinner = inner_at(work->dinner, part, group, part->start);
        Right own = as_it_lies(x + (int64_t)part->start * inputs, inputs);
        Out to = {part->gradient + place->a, inputs, 1, part->scale};
        multiply_columns(dinner, row, place->sites * R, own, inputs / PANEL, rows, SUMMED, to);
        return;
    }
    int site = matrix - 1, outputs = outputs_of(p->shape, group, site), column = 0;
    for (int before = 0; before < site; before++) column += outputs_of(p->shape, group, before);
    const float *inner = inner_at(saved->inner, part, group, part->start) + site * R;
    const float *from = dout + part->start * dout_row + column;
    float *gradient = part->gradient + place->b[site];
    gather_b(inner, row, R, from, dout_row, outputs, rows, part->scale, gradient, scratch);
}

/* --- stages: forward ---------------------------------------------------------------------------------------------- */

/* From x to queries, keys and values. */
static void before(const LayerPass *p, int first, int last) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    int h = s->hidden, d = s->head_dim, heads = s->heads + s->kv_heads, qkv_row = qkv_size(s), to_row = turned_row(s);
    const float *weight = p->layer->qk_norm;
    for (int block = first; block < last; block += TOGETHER) {
        int stop = block + TOGETHER < last ? block + TOGETHER : last;
        for (int64_t t = block; t < stop; t++)
            saved.inverse[t] = norm(p->x + t * h, p->layer->attention_norm, s->eps_sum, h, saved.normed + t * h);
        project(p, &saved, QKV, saved.normed, saved.qkv, qkv_row, block, stop);
        for (int64_t t = block; t < stop; t++)
            for (int head = 0; head < heads; head++) {
                const float *x = saved.qkv + t * qkv_row + head * d;
                float plain[MOST_HEAD];
                if (s->has_qk_norm)
                    saved.head_inverse[t * heads + head] = norm(x, weight + head * d, s->head_eps_sum, d, plain);
                else
                    memcpy(plain, x, d * sizeof(float));
                rotate(plain, p->batch->cos + t * d, p->batch->sin + t * d, d, saved.turned + t * to_row + head * d);
            }
    }
}

/* A key-value head of a sequence: number `sequence * K + head`. */
static Heads heads_of(const LayerPass *p, const Saved *saved, int number) {
    const Shape *s = p->shape;
    int sequence = number / s->kv_heads, head = number % s->kv_heads, group = s->heads / s->kv_heads, d = s->head_dim;
    int64_t start = p->batch->starts[sequence], qk_row = turned_row(s), v_row = qkv_size(s), mixed_row = mixed_size(s);
    return (Heads){
        .length = p->batch->starts[sequence + 1] - (int)start,
        .group = group,
        .d = d,
        .scale = s->scale,
        .q = saved->turned + start * qk_row + head * group * d,
        .k = saved->turned + start * qk_row + (s->heads + head) * d,
        .v = saved->qkv + start * v_row + (s->heads + s->kv_heads + head) * d,
        .qk_row = qk_row,
        .v_row = v_row,
        .mixed = saved->mixed + start * mixed_row + head * group * d,
        .logsumexp = saved->logsumexp + start * s->heads + head * group,
        .mixed_row = mixed_row,
        .logsumexp_row = s->heads,
    };
}

static void attend_heads(const LayerPass *p, int first, int last, float *scratch) {
    Saved saved = saved_at(p->shape, p->batch, p->saved);
    for (int number = first; number < last; number++) {
        Heads heads = heads_of(p, &saved, number);
        attend_whole(&heads, scratch);
    }
}

/* From what the attention gave to the layer's output. */
static void after(const LayerPass *p, int first, int last) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    int h = s->hidden, M = s->intermediate;
    for (int block = first; block < last; block += TOGETHER) {
        int stop = block + TOGETHER < last ? block + TOGETHER : last;
        project(p, &saved, O, saved.mixed, saved.middle, h, block, stop);
        for (int64_t t = block; t < stop; t++) {
            float *middle = saved.middle + t * h;
            add(middle, p->x + t * h, h);
            saved.middle_inverse[t] = norm(middle, p->layer->mlp_norm, s->eps_sum, h, saved.middle_normed + t * h);
        }
        project(p, &saved, GATE_UP, saved.middle_normed, saved.gate_up, 2 * M, block, stop);
        for (int64_t t = block; t < stop; t++) gated(saved.gate_up + t * 2 * M, M, saved.active + t * M);
        project(p, &saved, DOWN, saved.active, p->out, h, block, stop);
        for (int64_t t = block; t < stop; t++) add(p->out + t * h, saved.middle + t * h, h);
    }
}

/* --- stages: backward --------------------------------------------------------------------------------------------- */

/* d loss / d x of y = x * inverse(x) * weight, plus `more`. */
static void norm_back(
    const float *x, const float *dy, const float *weight, float inverse, int size, const float *more, float *dx) {
    Lanes sum = {};
    for (int i = 0; i < size; i += LANES) sum = fma_lanes(load(x + i), load(dy + i) * load(weight + i), sum);
    float share = folded(sum) * inverse * inverse * inverse;
    for (int i = 0; i < size; i += LANES) {
        Lanes g = load(dy + i) * load(weight + i) * inverse - load(x + i) * share;
        store(dx + i, more ? load(more + i) + g : g);
    }
}

/* d loss / d gate and d up, of silu(gate) * up. */
static void gated_back(const float *gate_up, const float *dactive, int size, float *dgate_up) {
    for (int i = 0; i < size; i += LANES) {
        Lanes gate = load(gate_up + i), up = load(gate_up + size + i), d = load(dactive + i);
        Lanes open = 1.0f / (1.0f + exp_exact(-gate)), silu = gate * open;
        store(dgate_up + i, d * up * (open + silu * (1.0f - open)));
        store(dgate_up + size + i, d * silu);
    }
}

/* From the layer's output back to what the attention gave. */
static void after_back(const LayerPass *p, int first, int last, float *scratch) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    Work work = work_at(s, p->batch, &saved, p->work);
    int h = s->hidden, M = s->intermediate;
    for (int block = first; block < last; block += TOGETHER) {
        int stop = block + TOGETHER < last ? block + TOGETHER : last;
        float *dactive = scratch, *dnormed = scratch + TOGETHER * M;
        project_back(p, &work, DOWN, p->dout, h, dactive, block, stop);
        for (int64_t t = block; t < stop; t++)
            gated_back(saved.gate_up + t * 2 * M, dactive + (t - block) * M, M, work.dgate_up + t * 2 * M);
        project_back(p, &work, GATE_UP, work.dgate_up, 2 * M, dnormed, block, stop);
        for (int64_t t = block; t < stop; t++)
            norm_back(
                saved.middle + t * h, dnormed + (t - block) * h, p->layer->mlp_norm, saved.middle_inverse[t], h,
                p->dout + t * h, work.dmiddle + t * h);
        project_back(p, &work, O, work.dmiddle, h, work.dmixed + (int64_t)block * mixed_size(s), block, stop);
    }
}

static void attend_heads_back(const LayerPass *p, int first, int last, float *scratch) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    Work work = work_at(s, p->batch, &saved, p->work);
    int d = s->head_dim, drow = qkv_size(s);
    for (int number = first; number < last; number++) {
        Heads heads = heads_of(p, &saved, number);
        int head = number % s->kv_heads;
        float *dqkv = work.dqkv + (int64_t)p->batch->starts[number / s->kv_heads] * drow;
        float *dq = dqkv + head * heads.group * d, *dk = dqkv + (s->heads + head) * d, *dv = dk + s->kv_heads * d;
        attend_whole_back(&heads, work.dmixed + (heads.mixed - saved.mixed), dq, dk, dv, drow, scratch);
    }
}

/* From queries, keys and values back to x. */
static void before_back(const LayerPass *p, int first, int last, float *scratch) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    Work work = work_at(s, p->batch, &saved, p->work);
    int h = s->hidden, d = s->head_dim, half = d / 2, heads = s->heads + s->kv_heads, qkv_row = qkv_size(s);
    const float *weight = p->layer->qk_norm;
    for (int block = first; block < last; block += TOGETHER) {
        int stop = block + TOGETHER < last ? block + TOGETHER : last;
        for (int64_t t = block; t < stop; t++) {
            const float *cos = p->batch->cos + t * d, *sin = p->batch->sin + t * d;
            for (int head = 0; head < heads; head++) {
                const float *x = saved.qkv + t * qkv_row + head * d;
                float *own = work.dqkv + t * qkv_row + head * d, back[MOST_HEAD];
                for (int i = 0; i < half; i++) {
                    back[i] = own[i] * cos[i] - own[i + half] * sin[i];
                    back[i + half] = own[i + half] * cos[i + half] - own[i] * sin[i + half];
                }
                if (s->has_qk_norm)
                    norm_back(x, back, weight + head * d, saved.head_inverse[t * heads + head], d, 0, own);
                else
                    memcpy(own, back, d * sizeof(float));
            }
        }
        float *dnormed = p->dx ? scratch : 0;
        project_back(p, &work, QKV, work.dqkv, qkv_row, dnormed, block, stop);
        for (int64_t t = block; dnormed && t < stop; t++)
            norm_back(
                p->x + t * h, dnormed + (t - block) * h, p->layer->attention_norm, saved.inverse[t], h,
                work.dmiddle + t * h, p->dx + t * h);
    }
}

/* Every `step`th of the adapters' matrices from number `first` on. */
static void gradients(const LayerPass *p, int first, int step, float *scratch) {
    const Shape *s = p->shape;
    Saved saved = saved_at(s, p->batch, p->saved);
    Work work = work_at(s, p->batch, &saved, p->work);
    const float *x[GROUPS] = {saved.normed, saved.mixed, saved.middle_normed, saved.active};
    const float *dout[GROUPS] = {work.dqkv, work.dmiddle, work.dgate_up, p->dout};
    int dout_row[GROUPS] = {qkv_size(s), s->hidden, 2 * s->intermediate, s->hidden}, number = 0;
    for (int e = 0; e < p->batch->parts; e++) {
        const Part *part = p->batch->part + e;
        for (int group = 0; part->gradient && group < GROUPS; group++)
            for (int matrix = 0; matrix <= place_of(p, part, group)->sites; matrix++)
                if (place_of(p, part, group)->sites && number++ % step == first)
                    gather(p, &saved, &work, part, group, matrix, x[group], dout[group], dout_row[group], scratch);
    }
}

/* --- what is called ----------------------------------------------------------------------------------------------- */

enum { FORWARD, PACK, BEFORE, ATTEND, AFTER, BACKWARD, PACK_BACK, AFTER_BACK, ATTEND_BACK, BEFORE_BACK, GRADIENTS };

typedef struct {
    int64_t saved, packed, work, scratch;
} Sizes;

/* Lays out what the adapters share, and says how many floats everything takes; each thread has a scratch of its own. */
void hone_layer_sizes(const Shape *s, Batch *batch, Sizes *sizes) {
    int longest = 0;
    int64_t gathered = 0;
    batch->inner = batch->packed = 0;
    for (int sequence = 0; sequence < batch->sequences; sequence++)
        longest = larger(longest, batch->starts[sequence + 1] - batch->starts[sequence]);
    for (int e = 0; e < batch->parts; e++) {
        Part *part = batch->part + e;
        part->inner = batch->inner;
        batch->inner = inner_before(part, GROUPS);
        part->packed = batch->packed;
        for (int group = 0; group < GROUPS; group++) batch->packed += group_floats(s, part, group);
        int64_t most = (int64_t)part->rank * larger(larger(mixed_size(s), s->intermediate), s->hidden);
        if (most > gathered) gathered = most;
    }
    Saved saved = saved_at(s, batch, 0);
    sizes->saved = saved.size;
    sizes->packed = batch->packed;
    sizes->work = work_at(s, batch, &saved, 0).size;
    int64_t together = (int64_t)TOGETHER * (s->hidden + s->intermediate);
    sizes->scratch = attend_scratch(longest, s->head_dim);
    if (gathered > sizes->scratch) sizes->scratch = gathered;
    if (together > sizes->scratch) sizes->scratch = together;
}

/* A stage of the rows or heads first:last, or of every `last`th gradient from `first` on; or a whole pass. */
void hone_layer(const LayerPass *p, int stage, int first, int last, float *scratch) {
    int rows = p->batch->rows, heads = p->batch->sequences * p->shape->kv_heads;
    switch (stage) {
    case FORWARD:
        pack_forward(p);
        before(p, 0, rows);
        attend_heads(p, 0, heads, scratch);
        after(p, 0, rows);
        break;
    case PACK: pack_forward(p); break;
    case BEFORE: before(p, first, last); break;
    case ATTEND: attend_heads(p, first, last, scratch); break;
    case AFTER: after(p, first, last); break;
    case BACKWARD:
        pack_backward(p);
        after_back(p, 0, rows, scratch);
        attend_heads_back(p, 0, heads, scratch);
        before_back(p, 0, rows, scratch);
        gradients(p, 0, 1, scratch);
        break;
    case PACK_BACK: pack_backward(p); break;
    case AFTER_BACK: after_back(p, first, last, scratch); break;
    case ATTEND_BACK: attend_heads_back(p, first, last, scratch); break;
    case BEFORE_BACK: before_back(p, first, last, scratch); break;
    case GRADIENTS: gradients(p, first, last, scratch); break;
    }
}
