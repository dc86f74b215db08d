#include "trainer/report/tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "trainer/report/csv.h"

/* Nothing of nothing has no share: the field stays empty. */
static void add_share(struct buf *out, int64_t of, int64_t whole)
{
    if (whole > 0)
        buf_printf(out, ",%.6f", (double)of / (double)whole);
    else
        buf_append(out, ",", 1);
}

static void classes_text(const struct report_tables *t, struct buf *out)
{
    buf_printf(out, "label,class,pictures,correct,correct5,guessed,accuracy,accuracy5,precision\n");
    for (int c = 0; c < t->classes; c++) {
        buf_printf(out, "%d,", c);
        report_csv_text(out, t->names[c]);
        buf_printf(out, ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64, t->pictures[c],
                   t->correct[c], t->correct5[c], t->guessed[c]);
        add_share(out, t->correct[c], t->pictures[c]);
        add_share(out, t->correct5[c], t->pictures[c]);
        add_share(out, t->correct[c], t->guessed[c]);
        buf_append(out, "\n", 1);
    }
}

static void confusion_text(const struct report_tables *t, struct buf *out)
{
    buf_printf(out, "class");
    for (int c = 0; c < t->classes; c++) {
        buf_append(out, ",", 1);
        report_csv_text(out, t->names[c]);
    }
    buf_append(out, "\n", 1);
    for (int label = 0; label < t->classes; label++) {
        report_csv_text(out, t->names[label]);
        for (int c = 0; c < t->classes; c++)
            buf_printf(out, ",%" PRId64, t->confusion[(size_t)label * (size_t)t->classes + c]);
        buf_append(out, "\n", 1);
    }
}

static int remove_file(const char *folder, const char *name, struct err *err)
{
    struct buf path = {0};
    int rc = 0;

    buf_printf(&path, "%s/%s", folder, name);
    if (unlink(buf_text(&path)) < 0 && errno != ENOENT)
        rc = err_set_errno(err, ERR_IO, errno, "cannot remove '%s'", buf_text(&path));
    buf_release(&path);
    return rc;
}

static int write_text(const char *folder, const char *name, struct buf *text, struct err *err)
{
    struct buf path = {0};
    int rc = 0;

    buf_printf(&path, "%s/%s", folder, name);
    rc = file_replace(buf_text(&path), text->data, text->bytes, err);
    buf_release(&path);
    buf_release(text);
    return rc;
}

int report_tables_write(const struct report_tables *tables, const char *folder, struct err *err)
{
    struct buf text = {0};

    if (file_make_folder(folder, err) < 0)
        return -1;
    classes_text(tables, &text);
    if (write_text(folder, "classes.csv", &text, err) < 0)
        return -1;
    if (tables->confusion == NULL) /* one that is there is of other classes */
        return remove_file(folder, "confusion.csv", err);
    confusion_text(tables, &text);
    return write_text(folder, "confusion.csv", &text, err);
}

/* Is class a known less than b? Of equals the one with more pictures comes first, then by label. */
static bool is_worse(const struct report_tables *t, int a, int b)
{
    const double x = (double)t->correct[a] / (double)t->pictures[a],
                 y = (double)t->correct[b] / (double)t->pictures[b];

    if (x != y)
        return x < y;
    return t->pictures[a] != t->pictures[b] ? t->pictures[a] > t->pictures[b] : a < b;
}

/* The worst class behind `last` in that order (-1: of all), or -1. */
static int next_worst(const struct report_tables *t, int last)
{
    int worst = -1;

    for (int c = 0; c < t->classes; c++) {
        if (t->correct[c] == t->pictures[c] || (last >= 0 && !is_worse(t, last, c)))
            continue;
        if (worst < 0 || is_worse(t, c, worst))
            worst = c;
    }
    return worst;
}

static void add_taken_for(const struct report_tables *t, int label, struct buf *out)
{
    const int64_t *const row = t->confusion + (size_t)label * (size_t)t->classes;
    int most = -1;

    for (int c = 0; c < t->classes; c++)
        if (c != label && row[c] > 0 && (most < 0 || row[c] > row[most]))
            most = c;
    if (most >= 0)
        buf_printf(out, ", %" PRId64 " taken for '%s'", row[most], t->names[most]);
}

void report_tables_worst(const struct report_tables *t, int lines, struct buf *out)
{
    for (int c = next_worst(t, -1); c >= 0 && lines > 0; c = next_worst(t, c), lines--) {
        buf_printf(out, "%5.1f %% of %" PRId64 " '%s'",
                   100 * (double)t->correct[c] / (double)t->pictures[c], t->pictures[c],
                   t->names[c]);
        if (t->confusion != NULL)
            add_taken_for(t, c, out);
        buf_append(out, "\n", 1);
    }
}
