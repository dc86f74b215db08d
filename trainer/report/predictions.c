#include "trainer/report/predictions.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "trainer/report/csv.h"

void report_predictions_begin(enum report_format format, struct buf *out)
{
    if (format == REPORT_CSV)
        buf_printf(out, "picture,rank,label,class,probability,error\n");
}

/* --- text --- */

static void add_plain(struct buf *out, const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        buf_append(out, (unsigned char)*c < 0x20 || *c == 0x7f ? "?" : c, 1);
}

static void add_text(const struct report_prediction *p, struct buf *out)
{
    add_plain(out, p->picture);
    if (p->error != NULL) {
        buf_printf(out, ": error: ");
        add_plain(out, p->error);
    }
    for (int i = 0; p->error == NULL && i < p->count; i++) {
        buf_printf(out, i == 0 ? ": " : ", ");
        add_plain(out, p->guesses[i].name);
        buf_printf(out, " %.6f", p->guesses[i].probability);
    }
    buf_append(out, "\n", 1);
}

/* --- CSV --- */

static void add_csv(const struct report_prediction *p, struct buf *out)
{
    if (p->error != NULL) {
        report_csv_text(out, p->picture);
        buf_printf(out, ",,,,,");
        report_csv_text(out, p->error);
        buf_append(out, "\n", 1);
        return;
    }
    for (int i = 0; i < p->count; i++) {
        report_csv_text(out, p->picture);
        buf_printf(out, ",%d,%d,", i + 1, p->guesses[i].label);
        report_csv_text(out, p->guesses[i].name);
        buf_printf(out, ",%.9g,\n", p->guesses[i].probability);
    }
}

/* --- JSON lines --- */

static json_t *guesses_of(const struct report_prediction *p)
{
    json_t *const guesses = json_array();

    for (int i = 0; i < p->count; i++)
        json_array_append_new(guesses, json_pack("{s:o, s:i, s:f}", "class",
                                                 json_new_text(p->guesses[i].name), "label",
                                                 p->guesses[i].label, "probability",
                                                 p->guesses[i].probability));
    return guesses;
}

static void add_json(const struct report_prediction *p, struct buf *out)
{
    json_t *const line = json_pack("{s:o}", "picture", json_new_text(p->picture));
    char *text;

    if (p->error != NULL)
        json_object_set_new(line, "error", json_new_text(p->error));
    else
        json_object_set_new(line, "guesses", guesses_of(p));
    text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(line);
    if (text == NULL)
        abort();
    buf_printf(out, "%s\n", text);
    free(text);
}

void report_prediction_add(enum report_format format, const struct report_prediction *prediction,
                           struct buf *out)
{
    if (format == REPORT_TEXT)
        add_text(prediction, out);
    else if (format == REPORT_CSV)
        add_csv(prediction, out);
    else
        add_json(prediction, out);
}
