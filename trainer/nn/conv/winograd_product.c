#include "trainer/nn/conv/winograd_product.h"

#include "trainer/nn/conv/ahead.h"
#include "trainer/nn/conv/winograd_tiles.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/size.h"

#define ROWS_AT_ONCE 252 /* of one product: a multiple of NN_TILE_ROWS */

/* Plane of V times point of U, to sum of M. */
struct term {
    size_t plane, point, sum;
    bool first; /* of its point */
    bool add;
};

struct terms {
    struct term term[NN_WINOGRAD_PLANES];
    size_t count;
};

/* Stride 1 has a term for each point. The points of stride 2's U are those of the odd phase, and
 * one that stands for all finite points of the even phase: it is multiplied with each of them. The
 * terms of a point follow one another, and those that sums begin with come before what is added. */
static struct terms terms_of(const struct nn_winograd *transforms)
{
    const size_t side = transforms->side, odd = side - 1, finite = odd - 1, planes = odd + finite;
    struct terms terms = {.count = 0};

    for (size_t point = 0; point < transforms->points; point++) {
        const size_t y = point / side, x = point % side;
        const bool split = transforms->stride > 1;
        const size_t down = split && y == odd ? finite : 1, across = split && x == odd ? finite : 1;

        if (!split) {
            terms.term[terms.count++] = (struct term){point, point, point, true, false};
            continue;
        }
        for (size_t i = y; i < y + down; i++)
            for (size_t j = x; j < x + across; j++)
                terms.term[terms.count++] = (struct term){
                    .plane = i * planes + j,
                    .point = point,
                    .sum = i % odd * odd + j % odd,
                    .first = i == y && j == x,
                    .add = y == odd || x == odd,
                };
    }
    return terms;
}

/* Which tiles have a point? Those that are `tall` are as high as any, `broad` ones as wide. */
struct kind {
    bool tall, broad;
};

/* Tiles [begin, end) of a kind as rows of a product. */
struct list {
    struct kind kind;
    size_t begin, end, rows;
    ptrdiff_t v_at[ROWS_AT_ONCE], m_at[ROWS_AT_ONCE];
};

static struct kind kind_of(const struct nn_winograd_tiles *tiles, size_t sum)
{
    const size_t finite = tiles->transforms->m, y = sum / (finite + 1), x = sum % (finite + 1);

    if (tiles->transforms->stride == 1)
        return (struct kind){false, false};
    return (struct kind){
        .tall = y < finite && y >= nn_winograd_height(tiles, tiles->down - 1),
        .broad = x < finite && x >= nn_winograd_last_width(tiles),
    };
}

static bool has(const struct nn_winograd_product *args, struct kind kind, size_t tile)
{
    const struct nn_winograd_tiles *tiles = args->tiles;
    const size_t row = nn_winograd_block_at(tiles, args->block).begin + tile / tiles->across;

    return !(kind.tall && row % tiles->down + 1 == tiles->down) &&
           !(kind.broad && tile % tiles->across + 1 == tiles->across);
}

/* From tile `begin` on, as many as fit. Rows of the product that stay empty repeat the last one and
 * write to the spare tile. */
static void list_tiles(const struct nn_winograd_product *args, struct kind kind, size_t begin,
                       struct list *list)
{
    const size_t tiles = nn_winograd_tiles_of(args->tiles, args->block);
    const size_t spare = nn_winograd_product_room(args->tiles) - 1;
    size_t tile = begin, rows = 0;

    for (; tile < tiles && rows < ROWS_AT_ONCE; tile++) {
        if (!has(args, kind, tile))
            continue;
        list->v_at[rows] = (ptrdiff_t)(tile * args->v_row);
        list->m_at[rows++] = (ptrdiff_t)(tile * args->m_row);
    }
    for (; rows % NN_TILE_ROWS != 0; rows++) {
        list->v_at[rows] = list->v_at[rows - 1];
        list->m_at[rows] = (ptrdiff_t)(spare * args->m_row);
    }
    list->kind = kind;
    list->begin = begin;
    list->end = tile;
    list->rows = rows;
}

size_t nn_winograd_product_room(const struct nn_winograd_tiles *tiles)
{
    return tiles->tiles + 1;
}

static const float *panel_at(const struct nn_winograd_product *args, size_t point, size_t column)
{
    return args->u + point * args->u_step + (args->begin + column) * args->depth;
}

/* What the product behind the one at `column` of a term finds in L2: a panel of U that was not
 * there yet, or, if it was, a piece of what the caller wants. */
static void choose_ahead(const struct nn_winograd_product *args, const struct term *term,
                         const struct term *next, size_t column, struct nn_ahead *ahead,
                         struct nn_product *product)
{
    const bool last = column + args->panel == args->count;

    if (args->fetch && (last ? next->first : term->first)) {
        product->ahead = last ? panel_at(args, next->point, 0)
                              : panel_at(args, term->point, column + args->panel);
        product->ahead_lines = nn_size_pieces(args->depth * args->panel, NN_LANES);
    } else {
        product->ahead = nn_ahead_next(ahead, &product->ahead_lines);
    }
}

size_t nn_winograd_product_pieces(const struct nn_winograd_product *args)
{
    const struct nn_winograd *transforms = args->tiles->transforms;
    const size_t chunks =
        nn_size_pieces(nn_winograd_tiles_of(args->tiles, args->block), ROWS_AT_ONCE);
    const size_t fetching = args->fetch ? transforms->points : 0; /* terms, first and last ones */

    return (transforms->planes - fetching) * args->count / args->panel * chunks;
}

/* A term over the listed tiles. */
static void multiply_term(const struct nn_winograd_product *args, const struct term *term,
                          const struct term *next, const struct list *list, struct nn_ahead *ahead)
{
    static const ptrdiff_t here[1] = {0};
    struct nn_product product = {
        .rows = list->rows,
        .width = args->panel,
        .segments = 1,
        .run = args->depth,
        .a = args->v + term->plane * args->v_step,
        .a_at = list->v_at,
        .segment_at = here,
        .c_at = list->m_at,
        .add = term->add,
    };

    for (size_t column = 0; column < args->count; column += args->panel) {
        product.b = panel_at(args, term->point, column);
        product.c = args->m + term->sum * args->m_step + column;
        choose_ahead(args, term, next, column, ahead, &product);
        nn_kernels()->product(&product);
    }
}

void nn_winograd_multiply(const struct nn_winograd_product *args, struct nn_ahead *ahead)
{
    const struct terms terms = terms_of(args->tiles->transforms);
    const size_t tiles = nn_winograd_tiles_of(args->tiles, args->block);
    struct list list = {.rows = 0};

    for (size_t i = 0; i < terms.count; i++) {
        const struct term *term = &terms.term[i], *next = &terms.term[(i + 1) % terms.count];
        const struct kind kind = kind_of(args->tiles, term->sum);

        for (size_t tile = 0; tile < tiles; tile = list.end) {
            if (list.end == 0 || list.begin != tile || list.kind.tall != kind.tall ||
                list.kind.broad != kind.broad)
                list_tiles(args, kind, tile, &list);
            if (list.rows > 0)
                multiply_term(args, term, next, &list, ahead);
        }
    }
}
