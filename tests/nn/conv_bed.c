#include "tests/nn/conv_bed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/size.h"
#include "trainer/nn/kernel/threads.h"

#define LINE_BYTES 64 /* where scratch begins */
#define SPARES     100

/* Pages to be used again: to map them takes longer than to fill them. */
static struct guarded spare[SPARES];

static void swap(struct guarded *a, struct guarded *b)
{
    const struct guarded c = *a;

    *a = *b;
    *b = c;
}

static struct guarded pages_new(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guarded g = {.bytes = bytes};

    for (size_t i = 0; i < SPARES; i++)
        if (spare[i].bytes == bytes) {
            g = (struct guarded){0};
            swap(&g, &spare[i]);
            return g;
        }
    g.pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.pages != MAP_FAILED);
    assert_int_equal(mprotect(g.pages + bytes - page, page, PROT_NONE), 0);
    return g;
}

/* The floats begin at a multiple of `alignment` bytes, and end less than that before the guard. */
static struct guarded guarded_new(size_t count, size_t alignment)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t used = nn_size_round_up(count * sizeof(float), alignment);
    struct guarded g = pages_new(nn_size_round_up(used, page) + page);

    g.at = (float *)(void *)(g.pages + g.bytes - page - used);
    return g;
}

static void guarded_free(struct guarded *g)
{
    static size_t next;

    swap(g, &spare[next++ % SPARES]);
    if (g->bytes > 0)
        munmap(g->pages, g->bytes);
}

/* Operands need no alignment, so that they end at the guard. */
static float *numbers(struct bed *bed, size_t count)
{
    struct guarded *array = &bed->arrays[bed->used++];

    assert_true(bed->used <= BED_ARRAYS);
    *array = guarded_new(count, sizeof(float));
    numbers_fill((uint32_t)bed->used, array->at, count);
    return array->at;
}

static struct nn_affine affine(struct bed *bed, size_t c)
{
    struct nn_affine a;

    a.mean = numbers(bed, c);
    a.scale = numbers(bed, c);
    a.bias = numbers(bed, c);
    return a;
}

static struct nn_source source(struct bed *bed, enum nn_source_kind kind, bool both, size_t rows,
                               size_t c)
{
    struct nn_source s = {.kind = kind, .c = c, .x = numbers(bed, rows * c)};

    if (kind == NN_SOURCE_SCALED || kind == NN_SOURCE_JOINED)
        s.affine = affine(bed, c);
    if (kind == NN_SOURCE_JOINED || kind == NN_SOURCE_GRADIENT)
        s.other = numbers(bed, rows * c);
    if (kind == NN_SOURCE_JOINED && both)
        s.other_affine = affine(bed, c);
    if (kind == NN_SOURCE_GRADIENT) {
        s.mean = numbers(bed, c);
        s.share = numbers(bed, c);
        s.pull = numbers(bed, c);
        s.slope = numbers(bed, c);
    }
    return s;
}

/* The source's rows as read; bed->read is that of the source that stores. */
static float *rows_of(struct bed *bed, const struct nn_source *s, size_t rows)
{
    float *out = numbers(bed, rows * s->c);
    struct nn_source quiet = *s;

    quiet.store = NULL;
    nn_source_read(&quiet, 0, rows, 0, s->c, out, s->c);
    return out;
}

static void let_store(struct bed *bed, struct nn_source *s, size_t rows, bool in_place)
{
    bed->read = rows_of(bed, s, rows);
    s->store = in_place ? (float *)(uintptr_t)s->x : numbers(bed, rows * s->c);
    bed->stored = s->store;
}

static void open_sink(struct bed *bed, const struct use *use, size_t rows, size_t c)
{
    struct nn_sink *sink = &bed->sink;

    *sink = (struct nn_sink){.kind = use->sink, .c = c, .y = bed->result, .add = use->add};
    sink->sums = numbers(bed, bed->blocks * NN_BLOCK_SUMS * c);
    sink->block_rows = (uint32_t *)(void *)numbers(bed, bed->blocks);
    sink->relu = use->relu;
    if (use->sink == NN_SINK_FINISH) {
        sink->bias = numbers(bed, c);
        sink->residual = use->residual ? numbers(bed, rows * c) : NULL;
    }
    if (use->sink != NN_SINK_MASK)
        return;
    sink->norms = use->norms;
    sink->out = use->by_output ? numbers(bed, rows * c) : NULL;
    sink->other = use->by_join ? numbers(bed, rows * c) : NULL;
    sink->affine = affine(bed, c);
    for (int i = 0; i < 2; i++) {
        sink->norm_x[i] = numbers(bed, rows * c);
        sink->norm_mean[i] = numbers(bed, c);
    }
}

void bed_open(struct bed *bed, const struct form *form, const struct use *use,
              const struct nn_conv_algorithm *algorithm)
{
    struct nn_conv *conv = &bed->conv;

    *bed = (struct bed){.n = form->n};
    *conv = nn_conv_make(form->c, form->h, form->w, form->k, form->r, form->stride);
    bed->x_rows = (size_t)form->n * form->h * form->w;
    bed->y_rows = (size_t)form->n * conv->oh * conv->ow;
    bed->x_count = bed->x_rows * form->c;
    bed->y_count = bed->y_rows * form->k;
    bed->w_count = (size_t)form->k * form->r * form->r * form->c;
    bed->result_count = use->direction == NN_FORWARD         ? bed->y_count
                        : use->direction == NN_BACKWARD_DATA ? bed->x_count
                                                             : bed->w_count;
    bed->result = numbers(bed, bed->result_count);
    bed->before = numbers(bed, bed->result_count);
    bed->w = numbers(bed, bed->w_count);
    bed->scale = use->scale ? numbers(bed, (size_t)form->k) : NULL;
    bed->x = source(bed, use->x, use->both, bed->x_rows, (size_t)form->c);
    bed->dy = source(bed, use->dy, use->both, bed->y_rows, (size_t)form->k);
    if (use->store && use->direction == NN_FORWARD)
        let_store(bed, &bed->x, bed->x_rows, use->in_place);
    else if (use->store)
        let_store(bed, &bed->dy, bed->y_rows, use->in_place);
    if (use->direction == NN_BACKWARD_WEIGHTS)
        return;
    bed->blocks = algorithm->size(conv, use->direction, form->n).blocks;
    if (use->direction == NN_FORWARD)
        open_sink(bed, use, bed->y_rows, (size_t)form->k);
    else
        open_sink(bed, use, bed->x_rows, (size_t)form->c);
}

void bed_close(struct bed *bed)
{
    for (size_t i = 0; i < bed->used; i++)
        guarded_free(&bed->arrays[i]);
}

static void poison(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = NAN;
}

static void prepare_result(struct bed *bed, const struct use *use)
{
    if (use->add)
        memcpy(bed->result, bed->before, bed->result_count * sizeof(float));
    else
        poison(bed->result, bed->result_count);
}

/* With filters that the first call packs and the second one finds, and scratch without room for
 * them: a copy of the result, which the caller frees. */
static float *run_with_kept_filters(struct bed *bed, const struct use *use,
                                    const struct nn_conv_algorithm *algorithm,
                                    const struct nn_conv_forward *args, struct nn_scratch scratch)
{
    const size_t filters = algorithm->size(&bed->conv, NN_FORWARD, bed->n).filters;
    struct guarded kept = guarded_new(filters, LINE_BYTES);
    struct guarded shared = guarded_new(scratch.shared_floats - filters, LINE_BYTES);
    struct nn_conv_packed packed = {.floats = kept.at};
    struct nn_conv_forward forward = *args;
    float *copy = malloc(bed->result_count * sizeof(float));

    assert_non_null(copy);
    forward.packed = &packed;
    scratch.shared = shared.at;
    scratch.shared_floats -= filters;
    poison(kept.at, filters);
    for (int call = 0; call < 2; call++) {
        poison(scratch.shared, scratch.shared_floats);
        prepare_result(bed, use);
        algorithm->forward(&forward, &scratch);
        assert_true(packed.ready);
        if (call == 1)
            assert_memory_equal(copy, bed->result, bed->result_count * sizeof(float));
        memcpy(copy, bed->result, bed->result_count * sizeof(float));
    }
    guarded_free(&kept);
    guarded_free(&shared);
    return copy;
}

static void run_forward(struct bed *bed, const struct use *use,
                        const struct nn_conv_algorithm *algorithm, const struct nn_scratch *scratch)
{
    const struct nn_conv_forward args = {.conv = &bed->conv,
                                         .n = bed->n,
                                         .x = bed->x,
                                         .w = bed->w,
                                         .scale = bed->scale,
                                         .y = bed->sink};
    float *kept = NULL;

    /* What a source stores takes the place of what it reads. */
    if (algorithm->size(&bed->conv, NN_FORWARD, bed->n).filters > 0 && bed->x.store == NULL)
        kept = run_with_kept_filters(bed, use, algorithm, &args, *scratch);
    prepare_result(bed, use);
    algorithm->forward(&args, scratch);
    if (kept != NULL)
        assert_memory_equal(kept, bed->result, bed->result_count * sizeof(float));
    free(kept);
}

void bed_run(struct bed *bed, const struct use *use, const struct nn_conv_algorithm *algorithm,
             int threads)
{
    const struct nn_conv_size size = algorithm->size(&bed->conv, use->direction, bed->n);
    const struct nn_conv_backward_data data = {&bed->conv, bed->n, bed->dy, bed->w, bed->sink};
    const struct nn_conv_backward_weights weights = {&bed->conv, bed->n, bed->x, bed->dy,
                                                     bed->result};
    const size_t private = nn_size_round_up(size.private, LINE_BYTES / sizeof(float));
    struct guarded shared = guarded_new(size.shared, LINE_BYTES);
    struct guarded all_private = guarded_new(private * (size_t)threads, LINE_BYTES);
    const struct nn_scratch scratch = {.shared = shared.at,
                                       .private = all_private.at,
                                       .shared_floats = size.shared,
                                       .private_floats = private,
                                       .threads = threads};

    nn_threads_init(threads);
    poison(scratch.shared, scratch.shared_floats);
    poison(scratch.private, scratch.private_floats * (size_t)scratch.threads);
    prepare_result(bed, use);
    if (use->direction == NN_FORWARD)
        run_forward(bed, use, algorithm, &scratch);
    else if (use->direction == NN_BACKWARD_DATA)
        algorithm->backward_data(&data, &scratch);
    else
        algorithm->backward_weights(&weights, &scratch);
    guarded_free(&shared);
    guarded_free(&all_private);
}

/* One tap at one output: the definition of all three directions. */
static void exact_tap(const struct bed *bed, enum nn_direction direction, const float *x,
                      const float *dy, size_t in, size_t out, size_t tap, double *result)
{
    const size_t c = (size_t)bed->conv.c, taps = (size_t)bed->conv.r * bed->conv.r;

    for (size_t k = 0; k < (size_t)bed->conv.k; k++) {
        const size_t y = out * (size_t)bed->conv.k + k, w = (k * taps + tap) * c;

        if (direction == NN_FORWARD)
            for (size_t i = 0; i < c; i++)
                result[y] += (double)x[in * c + i] * bed->w[w + i];
        else if (direction == NN_BACKWARD_DATA)
            for (size_t i = 0; i < c; i++)
                result[in * c + i] += (double)dy[y] * bed->w[w + i];
        else
            for (size_t i = 0; i < c; i++)
                result[w + i] += (double)dy[y] * x[in * c + i];
    }
}

static void exact_pixel(const struct bed *bed, enum nn_direction direction, const float *x,
                        const float *dy, size_t out, double *result)
{
    const struct nn_conv *conv = &bed->conv;
    const size_t rows = (size_t)conv->oh * conv->ow;
    const int y = (int)(out % rows) / conv->ow * conv->stride - conv->pad;
    const int x0 = (int)(out % rows) % conv->ow * conv->stride - conv->pad;

    for (int tap = 0; tap < conv->r * conv->r; tap++) {
        const int iy = y + tap / conv->r, ix = x0 + tap % conv->r;

        if (iy >= 0 && iy < conv->h && ix >= 0 && ix < conv->w)
            exact_tap(bed, direction, x, dy,
                      (out / rows * (size_t)conv->h + (size_t)iy) * (size_t)conv->w + (size_t)ix,
                      out, (size_t)tap, result);
    }
}

static double exact_sink(const struct nn_sink *sink, double y, size_t i)
{
    const size_t j = i % sink->c;

    if (sink->kind == NN_SINK_FINISH) {
        y += (double)sink->bias[j] + (sink->residual != NULL ? sink->residual[i] : 0);
        return sink->relu && y < 0 ? 0 : y;
    }
    if (sink->kind == NN_SINK_MASK) {
        const struct nn_affine *a = &sink->affine;
        const float scaled = (sink->norm_x[0][i] - a->mean[j]) * a->scale[j] + a->bias[j];
        const float open = sink->out != NULL     ? sink->out[i]
                           : sink->other != NULL ? scaled + sink->other[i]
                                                 : scaled;

        return open <= 0 ? 0 : y;
    }
    return y;
}

double *bed_exact(const struct bed *bed, const struct use *use)
{
    double *result = calloc(bed->result_count + 1, sizeof(*result));
    struct bed rows = *bed;
    const float *x = rows_of(&rows, &bed->x, bed->x_rows);
    const float *dy = rows_of(&rows, &bed->dy, bed->y_rows);

    for (size_t out = 0; out < bed->y_rows; out++)
        exact_pixel(bed, use->direction, x, dy, out, result);
    for (size_t i = 0; i < bed->result_count; i++) {
        if (use->scale)
            result[i] *= bed->scale[i % (size_t)bed->conv.k];
        if (use->add)
            result[i] += bed->before[i];
        if (use->direction != NN_BACKWARD_WEIGHTS)
            result[i] = exact_sink(&bed->sink, result[i], i);
    }
    guarded_free(&rows.arrays[rows.used - 1]);
    guarded_free(&rows.arrays[rows.used - 2]);
    return result;
}

/* Sum number `which` of a channel over all rows of the result, exactly; *size: of its terms. For
 * NN_SINK_MEASURE 0 is the sum, 1 that of squares. */
static double exact_sum(const struct bed *bed, int which, size_t channel, double *size)
{
    const struct nn_sink *sink = &bed->sink;
    double sum = 0;

    *size = 0;
    for (size_t i = channel; i < bed->result_count; i += sink->c) {
        double term = bed->result[i];

        if (sink->kind == NN_SINK_MEASURE && which == 1)
            term *= term;
        else if (which > 0)
            term *= (double)sink->norm_x[which - 1][i] - sink->norm_mean[which - 1][channel];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* The same from the blocks. */
static double merged_sum(const struct bed *bed, int which, size_t channel)
{
    const struct nn_sink *sink = &bed->sink;
    double sum = 0;

    for (size_t b = 0; b < bed->blocks; b++) {
        const float *sums = sink->sums + b * NN_BLOCK_SUMS * sink->c + channel;
        const double pivot = sums[2 * sink->c], rows = sink->block_rows[b];

        if (sink->kind == NN_SINK_MASK)
            sum += sums[(size_t)which * sink->c];
        else if (which == 0)
            sum += sums[0] + rows * pivot;
        else
            sum += sums[sink->c] + 2 * pivot * sums[0] + rows * pivot * pivot;
    }
    return sum;
}

int bed_sums_differ(const struct bed *bed, const struct use *use, const char *what)
{
    const int count = use->sink == NN_SINK_MEASURE                  ? 2
                      : use->sink == NN_SINK_MASK && use->norms > 0 ? 1 + use->norms
                                                                    : 0;
    size_t rows = 0;

    if (use->direction == NN_BACKWARD_WEIGHTS || count == 0)
        return 0;
    for (size_t b = 0; b < bed->blocks; b++)
        rows += bed->sink.block_rows[b];
    if (rows != bed->result_count / bed->sink.c) {
        fprintf(stderr, "%s: the blocks have %zu rows\n", what, rows);
        return 1;
    }
    for (int which = 0; which < count; which++)
        for (size_t i = 0; i < bed->sink.c; i++) {
            double size;
            const double exact = exact_sum(bed, which, i, &size);
            const double merged = merged_sum(bed, which, i);

            if (!(fabs(exact - merged) <= 1e-5 * size)) {
                fprintf(stderr, "%s: sum %d of channel %zu is %g, not %g\n", what, which, i, merged,
                        exact);
                return 1;
            }
        }
    return 0;
}
