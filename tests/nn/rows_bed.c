#include "tests/nn/rows_bed.h"

#include <math.h>

#include "tests/nn/numbers.h"

#define TOLERANCE 1e-6

struct nn_affine affine_at(const struct bed *bed, int first)
{
    return (struct nn_affine){
        .mean = bed->vectors[first],
        .scale = bed->vectors[first + 1],
        .bias = bed->vectors[first + 2],
    };
}

void bed_fill(struct bed *bed)
{
    numbers_fill(1, bed->x, ROWS * C);
    numbers_fill(2, bed->other, ROWS * C);
    numbers_fill(3, bed->y, ROWS * C);
    for (int v = 0; v < VECTORS; v++)
        numbers_fill(4 + (uint32_t)v, bed->vectors[v], C);
    bed->inner = (struct nn_source){
        .kind = NN_SOURCE_SCALED,
        .c = C,
        .x = bed->other,
        .affine = affine_at(bed, OTHER_MEAN),
    };
}

double affine_value(const struct bed *bed, int first, double x, size_t j)
{
    return (x - bed->vectors[first][j]) * bed->vectors[first + 1][j] + bed->vectors[first + 2][j];
}

double rectified(double x)
{
    return x < 0 ? 0 : x;
}

bool is_near(double found, double expected)
{
    return fabs(found - expected) <= TOLERANCE * (1 + fabs(expected));
}
