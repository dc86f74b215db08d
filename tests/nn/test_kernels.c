/*
 * tests/nn/test_kernels.c -- the kernels of every instruction set that this CPU has: against sums
 * in double, between pages that may not be touched, and bits.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "tests/nn/numbers.h"
#include "trainer/nn/kernel/kernels.h"
#include "trainer/nn/kernel/peak.h"

#define ROWS_MAX     24
#define SEGMENTS_MAX 9
#define TOLERANCE    2e-5 /* of the results' root mean square */
#define UNTOUCHED    12345.0f

static const char *const set_names[] = {"generic", "avx2", "avx512"};
#define SETS (sizeof(set_names) / sizeof(*set_names))

/* Floats with pages that may not be touched directly before or directly behind them. */
struct guarded {
    float *at;
    size_t count, bytes; /* bytes of the pages between the two guards */
    char *pages;
};

enum side { AT_BEGINNING, AT_END, SIDES };

static struct guarded guarded_new(size_t count, enum side side)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), used = count * sizeof(float);
    struct guarded g = {.count = count, .bytes = (used + page - 1) / page * page};

    g.pages = mmap(NULL, g.bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.pages != MAP_FAILED);
    assert_int_equal(mprotect(g.pages + page, g.bytes, PROT_READ | PROT_WRITE), 0);
    g.at = (float *)(void *)(g.pages + page + (side == AT_END ? g.bytes - used : 0));
    return g;
}

static void guarded_free(struct guarded *g)
{
    munmap(g->pages, g->bytes + 2 * (size_t)sysconf(_SC_PAGESIZE));
}

/* A copy of a table directly in front of a page that may not be touched. */
static struct guarded guarded_table(const ptrdiff_t *entries, size_t count)
{
    struct guarded g = guarded_new(count * sizeof(*entries) / sizeof(float), AT_END);

    memcpy(g.at, entries, count * sizeof(*entries));
    return g;
}

static const ptrdiff_t *table_of(const struct guarded *g)
{
    return (const ptrdiff_t *)(const void *)g->at;
}

/* Where rows and segments of A lie, and rows of C. */
enum order { IN_ORDER, BACKWARDS, OVERLAPPING, ALL_THE_SAME, ORDERS };

static const char *const order_names[] = {"in order", "backwards", "overlapping", "all the same"};

struct shape {
    size_t rows, segments, run;
};

static const struct shape shapes[] = {
    {6, 1, 1},  {6, 1, 3},   {12, 1, 4},  {6, 2, 5},   {18, 3, 1},  {6, 7, 21},  {24, 9, 16},
    {12, 1, 7}, {12, 1, 16}, {24, 1, 32}, {12, 9, 64}, {6, 1, 255}, {18, 4, 63}, {12, 2, 288},
};
#define SHAPES (sizeof(shapes) / sizeof(*shapes))

struct tables {
    ptrdiff_t a_at[ROWS_MAX], segment_at[SEGMENTS_MAX], c_at[ROWS_MAX];
    size_t a_count, c_count; /* floats from the first to the last that a product reads, or writes */
    ptrdiff_t a_base;        /* where `a` points in A: entries may be negative */
};

static void lay_out(struct tables *t, const struct shape *shape, size_t width, enum order order)
{
    const ptrdiff_t run = (ptrdiff_t)shape->run, segments = (ptrdiff_t)shape->segments;
    const ptrdiff_t rows = (ptrdiff_t)shape->rows, depth = run * segments;
    const ptrdiff_t row_step = order == OVERLAPPING ? (run + 1) / 2 : depth;
    ptrdiff_t last = 0;

    for (ptrdiff_t i = 0; i < rows; i++) {
        t->a_at[i] = order == ALL_THE_SAME ? 3 : order == BACKWARDS ? -i * depth : i * row_step;
        t->c_at[i] = (order == BACKWARDS ? rows - 1 - i : i) * (ptrdiff_t)(width + 1);
    }
    for (ptrdiff_t s = 0; s < segments; s++)
        t->segment_at[s] = (order == BACKWARDS ? segments - 1 - s : s) * run;
    t->a_base = order == BACKWARDS ? (rows - 1) * depth : 0;
    for (ptrdiff_t i = 0; i < rows; i++)
        if (t->a_base + t->a_at[i] > last)
            last = t->a_base + t->a_at[i];
    t->a_count = (size_t)(last + depth);
    t->c_count = shape->rows * (width + 1) - 1; /* one float between rows, none behind the last */
}

/* The largest error of a product over the results' root mean square. */
static double error_of_product(const struct nn_product *p, const float *before)
{
    double worst = 0, squares = 0;

    for (size_t row = 0; row < p->rows; row++) {
        for (size_t j = 0; j < p->width; j++) {
            double sum = p->add ? (double)before[p->c_at[row] + (ptrdiff_t)j] : 0;

            for (size_t l = 0; l < p->segments * p->run; l++) {
                const float *a = p->a + p->a_at[row] + p->segment_at[l / p->run] + l % p->run;

                sum += (double)*a * (double)p->b[l * p->width + j];
            }
            worst = fmax(worst, fabs(sum - (double)p->c[p->c_at[row] + (ptrdiff_t)j]));
            squares += sum * sum;
        }
    }
    return worst / sqrt(squares / (double)(p->rows * p->width));
}

static int gaps_changed(const struct nn_product *p)
{
    int changed = 0;

    for (size_t row = 0; row + 1 < p->rows; row++)
        changed += p->c[row * (p->width + 1) + p->width] != UNTOUCHED;
    return changed;
}

static double one_product(const struct nn_kernels *kernels, const struct shape *shape, size_t width,
                          enum order order, enum side side, bool add)
{
    struct tables t;
    struct guarded a, b, c, a_at, segment_at, c_at;
    struct nn_product p;
    float *before;
    double error;

    lay_out(&t, shape, width, order);
    a = guarded_new(t.a_count, side);
    b = guarded_new(shape->segments * shape->run * width, side);
    c = guarded_new(t.c_count, side);
    a_at = guarded_table(t.a_at, shape->rows);
    segment_at = guarded_table(t.segment_at, shape->segments);
    c_at = guarded_table(t.c_at, shape->rows);
    numbers_fill(1, a.at, a.count);
    numbers_fill(2, b.at, b.count);
    before = numbers_new(3, c.count);
    for (size_t row = 0; row + 1 < shape->rows; row++)
        before[row * (width + 1) + width] = UNTOUCHED;
    memcpy(c.at, before, c.count * sizeof(float));
    p = (struct nn_product){.rows = shape->rows,
                            .width = width,
                            .segments = shape->segments,
                            .run = shape->run,
                            .a = a.at + t.a_base,
                            .a_at = table_of(&a_at),
                            .segment_at = table_of(&segment_at),
                            .b = b.at,
                            .c = c.at,
                            .c_at = table_of(&c_at),
                            .add = add,
                            .ahead = add ? b.at : NULL,
                            .ahead_lines = add ? b.count / NN_LANES : 0};
    kernels->product(&p);
    error = error_of_product(&p, before);
    if (gaps_changed(&p) > 0)
        error = INFINITY;
    free(before);
    guarded_free(&a);
    guarded_free(&b);
    guarded_free(&c);
    guarded_free(&a_at);
    guarded_free(&segment_at);
    guarded_free(&c_at);
    return error;
}

/* The widths of panels that a set asks for. */
static size_t widths_of(const struct nn_kernels *kernels, size_t widths[3])
{
    size_t count = 0;

    for (size_t n = 16; n <= 64; n *= 2)
        if (kernels->panel_width(n) == n)
            widths[count++] = n;
    return count;
}

static double products_of(const struct nn_kernels *kernels, size_t width, const struct shape *shape)
{
    double worst = 0;

    for (enum order order = 0; order < ORDERS; order++) {
        for (enum side side = 0; side < SIDES; side++) {
            for (int add = 0; add < 2; add++) {
                const double error = one_product(kernels, shape, width, order, side, add);

                if (!(error <= TOLERANCE))
                    printf("%s: product %zu x %zu, %zu x %zu deep, %s, add %d: error %.1e\n",
                           kernels->name, shape->rows, width, shape->segments, shape->run,
                           order_names[order], add, error);
                worst = fmax(worst, error);
            }
        }
    }
    return worst;
}

static void products_match_sums_in_double_and_touch_nothing_else(void **state)
{
    double worst_of_all = 0;

    (void)state;
    for (size_t i = 0; i < SETS; i++) {
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);
        size_t widths[3] = {0};
        const size_t count = kernels == NULL ? 0 : widths_of(kernels, widths);

        for (size_t w = 0; w < count; w++) {
            double worst = 0;

            for (size_t s = 0; s < SHAPES; s++)
                worst = fmax(worst, products_of(kernels, widths[w], &shapes[s]));
            printf("product %-8s %2zu wide: error %.1e\n", kernels->name, widths[w], worst);
            worst_of_all = fmax(worst_of_all, worst);
        }
    }
    assert_true(worst_of_all <= TOLERANCE);
}

/* Row i of the first product has the same operands as row places[i] of the second. */
static int rows_whose_bits_moved(const struct nn_kernels *kernels, size_t width, size_t run,
                                 const size_t places[2 * NN_TILE_ROWS])
{
    enum { ROWS = 2 * NN_TILE_ROWS };
    ptrdiff_t a_at[2][ROWS], c_at[ROWS];
    const ptrdiff_t none = 0;
    float *a = numbers_new(4, ROWS * run), *b = aligned_alloc(64, run * width * sizeof(float));
    float *c[2];
    int moved = 0;

    numbers_fill(5, b, run * width);
    for (size_t i = 0; i < ROWS; i++) {
        a_at[0][i] = (ptrdiff_t)(i * run);
        c_at[i] = (ptrdiff_t)(i * width);
    }
    for (size_t i = 0; i < ROWS; i++)
        a_at[1][i] = a_at[0][places[i]];
    for (int k = 0; k < 2; k++) {
        c[k] = numbers_new(6, ROWS * width);
        kernels->product(&(struct nn_product){.rows = ROWS,
                                              .width = width,
                                              .segments = 1,
                                              .run = run,
                                              .a = a,
                                              .a_at = a_at[k],
                                              .segment_at = &none,
                                              .b = b,
                                              .c = c[k],
                                              .c_at = c_at});
    }
    for (size_t i = 0; i < ROWS; i++)
        moved += memcmp(c[1] + i * width, c[0] + places[i] * width, width * sizeof(float)) != 0;
    free(a);
    free(b);
    free(c[0]);
    free(c[1]);
    return moved;
}

static void bits_of_a_row_depend_on_neither_its_place_nor_its_neighbours(void **state)
{
    static const size_t places[][2 * NN_TILE_ROWS] = {
        {11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0},
        {7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 7},
    };
    static const size_t runs[] = {1, 3, 4, 21, 64, 255};
    int moved = 0;

    (void)state;
    for (size_t i = 0; i < SETS; i++) {
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);
        size_t widths[3] = {0};
        const size_t count = kernels == NULL ? 0 : widths_of(kernels, widths);

        for (size_t w = 0; w < count; w++)
            for (size_t r = 0; r < sizeof(runs) / sizeof(*runs); r++)
                for (size_t k = 0; k < sizeof(places) / sizeof(*places); k++)
                    moved += rows_whose_bits_moved(kernels, widths[w], runs[r], places[k]);
    }
    assert_int_equal(moved, 0);
}

/* Column j of the second product has the same operands as column j + 1 of the first. */
static int columns_whose_bits_moved(const struct nn_kernels *kernels, size_t width, size_t run)
{
    static const ptrdiff_t none[NN_TILE_ROWS];
    ptrdiff_t c_at[NN_TILE_ROWS];
    float *a = numbers_new(7, run), *b = aligned_alloc(64, 2 * run * width * sizeof(float));
    float *turned = b + run * width, *c = numbers_new(8, 2 * NN_TILE_ROWS * width);
    int moved = 0;

    numbers_fill(9, b, run * width);
    for (size_t l = 0; l < run; l++)
        for (size_t j = 0; j < width; j++)
            turned[l * width + j] = b[l * width + (j + 1) % width];
    for (size_t i = 0; i < NN_TILE_ROWS; i++)
        c_at[i] = (ptrdiff_t)(i * width);
    for (size_t k = 0; k < 2; k++)
        kernels->product(&(struct nn_product){.rows = NN_TILE_ROWS,
                                              .width = width,
                                              .segments = 1,
                                              .run = run,
                                              .a = a,
                                              .a_at = none,
                                              .segment_at = none,
                                              .b = k == 0 ? b : turned,
                                              .c = c + k * NN_TILE_ROWS * width,
                                              .c_at = c_at});
    for (size_t j = 0; j < width; j++)
        moved += memcmp(&c[NN_TILE_ROWS * width + j], &c[(j + 1) % width], sizeof(float)) != 0;
    free(a);
    free(b);
    free(c);
    return moved;
}

static void bits_of_a_column_do_not_depend_on_its_place(void **state)
{
    int moved = 0;

    (void)state;
    for (size_t i = 0; i < SETS; i++) {
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);
        size_t widths[3] = {0};
        const size_t count = kernels == NULL ? 0 : widths_of(kernels, widths);

        for (size_t w = 0; w < count; w++)
            moved += columns_whose_bits_moved(kernels, widths[w], 16) +
                     columns_whose_bits_moved(kernels, widths[w], 147);
    }
    assert_int_equal(moved, 0);
}

struct outer_shape {
    size_t tiles, pixels, a_step, b_gap; /* b_gap: floats of B between pixels */
    bool adjacent;                       /* tiles of A lie side by side, else behind one another */
};

static const struct outer_shape outer_shapes[] = {
    {1, 1, 6, 0, false},    {2, 3, 6, 0, false},   {1, 4, 7, 16, false},  {3, 4, 64, 0, true},
    {2, 15, 6, 16, false},  {1, 49, 13, 0, false}, {5, 196, 36, 0, true}, {2, 144, 6, 48, false},
    {20, 128, 6, 0, false}, {4, 255, 33, 0, true}, {3, 257, 6, 0, false}, {7, 2, 48, 16, true},
};
#define OUTER_SHAPES (sizeof(outer_shapes) / sizeof(*outer_shapes))

static double error_of_outer(const struct nn_outer *p, const float *before)
{
    double worst = 0, squares = 0;

    for (size_t i = 0; i < p->tiles * NN_TILE_ROWS; i++) {
        const float *a = p->a + i / NN_TILE_ROWS * p->a_tile + i % NN_TILE_ROWS;

        for (size_t j = 0; j < p->width; j++) {
            double sum = p->add ? (double)before[i * p->width + j] : 0;

            for (size_t l = 0; l < p->pixels; l++)
                sum += (double)a[l * p->a_step] * (double)p->b[l * p->b_step + j];
            worst = fmax(worst, fabs(sum - (double)p->c[i * p->width + j]));
            squares += sum * sum;
        }
    }
    return worst / sqrt(squares / (double)(p->tiles * NN_TILE_ROWS * p->width));
}

static double one_outer(const struct nn_kernels *kernels, const struct outer_shape *shape,
                        size_t width, enum side side, bool add)
{
    const size_t b_step = width + shape->b_gap;
    const size_t tile_floats = (shape->pixels - 1) * shape->a_step + NN_TILE_ROWS;
    const size_t a_tile = shape->adjacent ? NN_TILE_ROWS : tile_floats + 1;
    struct guarded a = guarded_new((shape->tiles - 1) * a_tile + tile_floats, side);
    struct guarded b = guarded_new((shape->pixels - 1) * b_step + width, side);
    struct guarded c = guarded_new(shape->tiles * NN_TILE_ROWS * width, side);
    float *before = numbers_new(3, c.count);
    struct nn_outer p = {.tiles = shape->tiles,
                         .pixels = shape->pixels,
                         .width = width,
                         .a = a.at,
                         .a_tile = a_tile,
                         .a_step = shape->a_step,
                         .b = b.at,
                         .b_step = b_step,
                         .c = c.at,
                         .add = add,
                         .ahead = add ? a.at : NULL,
                         .ahead_lines = add ? a.count / NN_LANES : 0};
    double error;

    numbers_fill(1, a.at, a.count);
    numbers_fill(2, b.at, b.count);
    memcpy(c.at, before, c.count * sizeof(float));
    kernels->outer(&p);
    error = error_of_outer(&p, before);
    free(before);
    guarded_free(&a);
    guarded_free(&b);
    guarded_free(&c);
    return error;
}

static double outers_of(const struct nn_kernels *kernels, size_t width,
                        const struct outer_shape *shape)
{
    double worst = 0;

    for (enum side side = 0; side < SIDES; side++) {
        for (int add = 0; add < 2; add++) {
            const double error = one_outer(kernels, shape, width, side, add);

            if (!(error <= TOLERANCE))
                printf("%s: outer %zu tiles, %zu pixels, %zu wide, add %d: error %.1e\n",
                       kernels->name, shape->tiles, shape->pixels, width, add, error);
            worst = fmax(worst, error);
        }
    }
    return worst;
}

static void outer_products_match_sums_in_double_and_touch_nothing_else(void **state)
{
    static const size_t widths[] = {16, 32, 48, 64, 112, 128};
    double worst_of_all = 0;

    (void)state;
    for (size_t i = 0; i < SETS; i++) {
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);
        double worst = 0;

        for (size_t w = 0; kernels != NULL && w < sizeof(widths) / sizeof(*widths); w++)
            for (size_t s = 0; s < OUTER_SHAPES; s++)
                worst = fmax(worst, outers_of(kernels, widths[w], &outer_shapes[s]));
        if (kernels != NULL)
            printf("outer   %-8s: error %.1e\n", kernels->name, worst);
        worst_of_all = fmax(worst_of_all, worst);
    }
    assert_true(worst_of_all <= TOLERANCE);
}

static void panel_widths_divide_the_columns(void **state)
{
    (void)state;
    for (size_t i = 0; i < SETS; i++) {
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);

        for (size_t n = 1; kernels != NULL && n < 600; n++) {
            const size_t columns = (n + NN_LANES - 1) / NN_LANES * NN_LANES;

            assert_int_equal(kernels->panel_width(n) % NN_LANES, 0);
            assert_int_equal(columns % kernels->panel_width(n), 0);
        }
    }
}

/* What nn_kernels() chooses in a process of its own, where CONVOY_ISA is `name`. */
static bool chosen_is(const char *name, const struct nn_kernels *expected)
{
    int status = -1;
    const pid_t child = fork();

    if (child == 0) {
        if (name == NULL)
            unsetenv("CONVOY_ISA");
        else
            setenv("CONVOY_ISA", name, 1);
        _exit(nn_kernels() == expected && nn_kernels() == expected ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void convoy_isa_names_the_kernels(void **state)
{
    const struct nn_kernels *generic = nn_kernels_find("generic"), *best = generic;

    (void)state;
    assert_non_null(generic);
    for (size_t i = 0; i < SETS; i++) { /* each is better than those before it */
        const struct nn_kernels *kernels = nn_kernels_find(set_names[i]);

        assert_true(chosen_is(set_names[i], kernels != NULL ? kernels : generic));
        best = kernels != NULL ? kernels : best;
    }
    assert_true(chosen_is(NULL, best));
    assert_true(chosen_is("", best));
    assert_true(chosen_is("sse9", generic));
}

static void a_wrong_convoy_isa_is_refused(void **state)
{
    struct err err = {0};

    (void)state;
    unsetenv("CONVOY_ISA");
    assert_int_equal(nn_kernels_check(&err), 0);
    for (size_t i = 0; i < SETS; i++) {
        const bool is_here = nn_kernels_find(set_names[i]) != NULL;

        setenv("CONVOY_ISA", set_names[i], 1);
        assert_int_equal(nn_kernels_check(&err), is_here ? 0 : -1);
    }
    setenv("CONVOY_ISA", "sse9", 1);
    assert_int_equal(nn_kernels_check(&err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_string_equal(err.msg, "CONVOY_ISA is 'sse9': one of generic, avx2, avx512, or unset for "
                                 "the best here");
    unsetenv("CONVOY_ISA");
}

static void the_peak_is_a_speed(void **state)
{
    const double gflops = nn_kernels_peak_gflops();

    (void)state;
    printf("peak %.1f GFLOP/s with %s\n", gflops, nn_kernels()->name);
    assert_true(gflops > 0.1 && gflops < 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_sums_in_double_and_touch_nothing_else),
        cmocka_unit_test(bits_of_a_row_depend_on_neither_its_place_nor_its_neighbours),
        cmocka_unit_test(bits_of_a_column_do_not_depend_on_its_place),
        cmocka_unit_test(outer_products_match_sums_in_double_and_touch_nothing_else),
        cmocka_unit_test(panel_widths_divide_the_columns),
        cmocka_unit_test(convoy_isa_names_the_kernels), /* before nn_kernels() has chosen */
        cmocka_unit_test(a_wrong_convoy_isa_is_refused),
        cmocka_unit_test(the_peak_is_a_speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
