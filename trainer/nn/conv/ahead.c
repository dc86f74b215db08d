#include "trainer/nn/conv/ahead.h"

#include "trainer/nn/conv/strip.h"
#include "trainer/nn/kernel/sink.h"
#include "trainer/nn/kernel/size.h"

#define LINE_BYTES 64

void nn_ahead_add_rows(struct nn_ahead *ahead, const float *x, size_t c, size_t from, size_t to)
{
    const size_t bytes = from < to ? (to - from) * c * sizeof(*x) : 0;

    if (bytes == 0 || ahead->ranges == NN_AHEAD_RANGES)
        return;
    ahead->range[ahead->ranges].at = (const char *)(x + from * c);
    ahead->range[ahead->ranges++].lines = nn_size_pieces(bytes, LINE_BYTES);
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
    if (sink->kind == NN_SINK_FINISH && sink->residual != NULL)
        nn_ahead_add_rows(ahead, sink->residual, sink->c, from, to);
    if (sink->kind != NN_SINK_MASK)
        return;
    if (sink->out != NULL)
        nn_ahead_add_rows(ahead, sink->out, sink->c, from, to);
    else if (sink->other != NULL && sink->other_affine.mean == NULL) /* else it is norm_x[1] */
        nn_ahead_add_rows(ahead, sink->other, sink->c, from, to);
    for (int i = 0; i < sink->norms; i++)
        nn_ahead_add_rows(ahead, sink->norm_x[i], sink->c, from, to);
}

static size_t pieces_of(const struct nn_ahead *ahead, size_t piece)
{
    size_t pieces = 0;

    for (size_t i = 0; i < ahead->ranges; i++)
        pieces += nn_size_pieces(ahead->range[i].lines, piece);
    return pieces;
}

void nn_ahead_cut(struct nn_ahead *ahead, size_t calls)
{
    const size_t most = nn_size_most(calls, ahead->ranges);

    ahead->piece = 1;
    if (ahead->ranges == 0)
        return;
    ahead->piece = nn_size_most(pieces_of(ahead, 1) / most, 1);
    while (pieces_of(ahead, ahead->piece) > most)
        ahead->piece += ahead->piece / 8 + 1;
}

const void *nn_ahead_next(struct nn_ahead *ahead, size_t *lines)
{
    const char *at;
    size_t last;

    *lines = 0;
    if (ahead->ranges == 0)
        return NULL;
    last = ahead->ranges - 1;
    at = ahead->range[last].at;
    *lines = nn_size_least(ahead->piece, ahead->range[last].lines);
    ahead->range[last].at += *lines * LINE_BYTES;
    ahead->range[last].lines -= *lines;
    ahead->ranges -= ahead->range[last].lines == 0;
    return at;
}
