#include "trainer/data/index/numbers.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "trainer/data/index/index.h"

bool data_number_read(const char *text, size_t bytes, int32_t *label)
{
    size_t i = 0, digits = 0;
    int32_t value = 0;

    while (i < bytes && isspace((unsigned char)text[i]))
        i++;
    for (; i < bytes && isdigit((unsigned char)text[i]); i++, digits++) {
        value = value * 10 + (text[i] - '0');
        if (value > DATA_LABEL_MAX)
            return false;
    }
    if (i < bytes && text[i] == '.')
        for (i++; i < bytes && text[i] == '0';)
            i++;
    while (i < bytes && isspace((unsigned char)text[i]))
        i++;
    if (digits == 0 || i < bytes)
        return false;
    *label = value;
    return true;
}

static void tell_missing(const struct data_index *index)
{
    bool *there = calloc((size_t)index->classes + 1, sizeof *there);
    int missing = 0, first = -1;

    if (there == NULL)
        abort();
    for (size_t i = 0; i < index->count; i++)
        there[index->samples[i].label] = true;
    for (int c = 0; c < index->classes; c++)
        if (!there[c]) {
            first = missing == 0 ? c : first;
            missing++;
        }
    if (missing > 0)
        log_warn("of %d classes of '%s', 0 to %d, %d have no picture; the first is %d: labels "
                 "count from 0",
                 index->classes, index->root, index->classes - 1, missing, first);
    free(there);
}

static int digits_of(int classes)
{
    return snprintf(NULL, 0, "%d", classes > 0 ? classes - 1 : 0);
}

char **data_numbers_names(int classes)
{
    char **const names = calloc((size_t)classes + 1, sizeof *names);

    if (names == NULL)
        abort();
    for (int c = 0; c < classes; c++)
        if (asprintf(&names[c], "%0*d", digits_of(classes), c) < 0)
            abort();
    return names;
}

bool data_numbers_are(char *const *class_names, int classes)
{
    char name[16];

    for (int c = 0; c < classes; c++) {
        snprintf(name, sizeof name, "%0*d", digits_of(classes), c);
        if (strcmp(class_names[c], name) != 0)
            return false;
    }
    return true;
}

void data_numbers_name(struct data_index *index, bool whole)
{
    int32_t largest = 0;

    for (size_t i = 0; i < index->count; i++)
        largest = index->samples[i].label > largest ? index->samples[i].label : largest;
    index->classes = largest + 1;
    index->class_names = data_numbers_names(index->classes);
    if (whole)
        tell_missing(index);
}

static bool is_number(const char *name)
{
    return name[0] != '\0' && name[strspn(name, "0123456789")] == '\0';
}

static const char *without_zeros(const char *name)
{
    while (name[0] == '0' && name[1] != '\0')
        name++;
    return name;
}

int data_numbers_find(char *const *class_names, int classes, const char *name)
{
    if (!is_number(name))
        return -1;
    for (int c = 0; c < classes; c++)
        if (is_number(class_names[c]) &&
            strcmp(without_zeros(class_names[c]), without_zeros(name)) == 0)
            return c;
    return -1;
}
