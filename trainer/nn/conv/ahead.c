#include "trainer/nn/conv/ahead.h"

#include "trainer/nn/conv/strip.h"
#include "trainer/nn/kernel/sink.h"

#define LINE_BYTES 64

static void add_range(struct nn_ahead *ahead, const float *from, const float *to)
{
    if (to <= from || ahead->ranges == NN_AHEAD_RANGES)
        return;
    ahead->range[ahead->ranges].at = (const char *)from;
    ahead->range[ahead->ranges++].end = (const char *)to;
}

void nn_ahead_add_rows(struct nn_ahead *ahead, const float *x, size_t c, size_t from, size_t to)
{
    add_range(ahead, x + from * c, x + to * c);
}

void nn_ahead_add(struct nn_ahead *ahead, const struct nn_source *source, size_t from, size_t to)
{
    nn_ahead_add_rows(ahead, source->x, source->c, from, to);
    if (source->kind != NN_SOURCE_PLAIN && source->other != NULL)
        nn_ahead_add_rows(ahead, source->other, source->c, from, to);
}

void nn_ahead_add_block(struct nn_ahead *ahead, const struct nn_strips *strips,
                        const struct nn_block *block, const struct nn_block *next,
                        const struct nn_source *source)
{
    const size_t height = (size_t)strips->in_h, width = (size_t)strips->in_w;

    if (!nn_strips_skip(strips)) {
        nn_ahead_add(ahead, source, nn_strips_end(strips, block), nn_strips_end(strips, next));
        return;
    }
    for (size_t image = next->image; image < next->image + next->images; image++)
        for (size_t line = next->line; line < next->line + next->lines; line++) {
            const size_t row = (image * height + line * (size_t)strips->step) * width;

            nn_ahead_add(ahead, source, row, row + width);
        }
}

void nn_ahead_add_sink(struct nn_ahead *ahead, const struct nn_sink *sink, size_t from, size_t to)
{
    const size_t begin = from * sink->c, end = to * sink->c;

    if (sink->kind == NN_SINK_FINISH && sink->residual != NULL)
        add_range(ahead, sink->residual + begin, sink->residual + end);
    if (sink->kind != NN_SINK_MASK)
        return;
    if (sink->out != NULL)
        add_range(ahead, sink->out + begin, sink->out + end);
    else if (sink->other != NULL && sink->other_affine.mean == NULL) /* else it is norm_x[1] */
        add_range(ahead, sink->other + begin, sink->other + end);
    for (int i = 0; i < sink->norms; i++)
        add_range(ahead, sink->norm_x[i] + begin, sink->norm_x[i] + end);
}

static size_t lines_left(const struct nn_ahead *ahead, size_t range)
{
    const size_t bytes = (size_t)(ahead->range[range].end - ahead->range[range].at);

    return (bytes + LINE_BYTES - 1) / LINE_BYTES;
}

void nn_ahead_cut(struct nn_ahead *ahead, size_t pieces)
{
    size_t lines = 0;

    for (size_t i = 0; i < ahead->ranges; i++)
        lines += lines_left(ahead, i);
    ahead->lines = (lines + pieces - 1) / pieces;
}

const void *nn_ahead_next(struct nn_ahead *ahead, size_t *lines)
{
    return nn_ahead_take(ahead, 1, lines);
}

const void *nn_ahead_take(struct nn_ahead *ahead, size_t pieces, size_t *lines)
{
    const size_t wanted = pieces * ahead->lines;
    const size_t last = ahead->ranges - 1;
    const char *at;
    size_t left;

    *lines = 0;
    if (ahead->ranges == 0)
        return NULL;
    at = ahead->range[last].at;
    left = lines_left(ahead, last);
    *lines = wanted < left ? wanted : left;
    ahead->range[last].at += *lines * LINE_BYTES;
    ahead->ranges -= *lines == left;
    return at;
}
