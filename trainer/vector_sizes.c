/* trainer/vector_sizes.c -- see vector_sizes.h. */
#include "trainer/vector_sizes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define BYTES_MAX 4e9 /* MPI counts floats in int, and two of such vectors fit few hosts */

static double unit_of(const char *text, const char **end)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
                 {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"B", 1}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strncmp(text, units[i].name, strlen(units[i].name)) == 0) {
            *end = text + strlen(units[i].name);
            return units[i].bytes;
        }
    *end = text;
    return 1;
}

int train_vector_sizes_read(const char *text, struct train_vector_sizes *sizes, struct err *err)
{
    const char *at = text;

    *sizes = (struct train_vector_sizes){0};
    do {
        const char *const digits = at;
        char *unit = NULL;
        const double number = strtod(digits, &unit), bytes = number * unit_of(unit, &at);

        if (strchr("0123456789", *digits) == NULL || (*at != ',' && *at != '\0') ||
            !(bytes >= 4 && bytes <= BYTES_MAX) || bytes != 4 * floor(bytes / 4))
            return err_set(err, ERR_USAGE,
                           "'%.100s' is no list of sizes such as 64kB,1MB,100MB: each 4 bytes to 4 "
                           "GB, and a multiple of 4 bytes",
                           text);
        for (int i = 0; i < sizes->count; i++)
            if (sizes->bytes[i] == (size_t)bytes)
                return err_set(err, ERR_USAGE, "'%.100s' has %zu bytes twice", text,
                               sizes->bytes[i]);
        if (sizes->count == TRAIN_VECTOR_SIZES_MAX)
            return err_set(err, ERR_USAGE, "more than %d sizes", TRAIN_VECTOR_SIZES_MAX);
        sizes->bytes[sizes->count++] = (size_t)bytes;
    } while (*at++ == ',');
    return 0;
}
