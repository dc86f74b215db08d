#include "base/trace_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "base/trace_pack.h"

#define FLUSH_BYTES (1u << 16)
#define NS_PER_S    1e9

/* What a line of the file says. In nanoseconds, so that what lies within another in the rings does
 * so in the file: both ends are rounded, not a length. */
struct entry {
    int64_t ns, other_ns; /* of the line; of a beginning its end */
    const struct trace_pack_span *span;
    uint32_t thread;
    char phase; /* 'X', 'b', 'e' */
};

/* A rank as it is written. */
struct writing {
    struct trace_json *json;
    const struct trace_json_rank *rank;
    struct trace_view view;
    char **texts; /* as JSON strings, quotes included */
    struct entry *entries;
    size_t count;
};

int trace_json_open(struct trace_json *json, const char *path, double origin_s, struct err *err)
{
    *json = (struct trace_json){.file.fd = -1, .origin_s = origin_s};
    if (file_new_open(&json->file, path, err) < 0)
        return -1;
    buf_printf(&json->text, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    return 0;
}

void trace_json_release(struct trace_json *json)
{
    file_new_release(&json->file);
    buf_release(&json->text);
    buf_release(&json->lost_of);
}

static int flush(struct trace_json *json, size_t from_bytes, struct err *err)
{
    if (json->text.bytes < from_bytes)
        return 0;
    if (file_new_write(&json->file, json->text.data, json->text.bytes, err) < 0)
        return -1;
    json->text.bytes = 0;
    return 0;
}

/* --- texts --- */

static char *quoted(const char *text)
{
    json_t *const string = json_new_text(text);
    char *const quotes = json_dumps(string, JSON_ENCODE_ANY | JSON_COMPACT);

    json_decref(string);
    if (quotes == NULL)
        abort();
    return quotes;
}

static void quote_texts(struct writing *w)
{
    w->texts = calloc(w->view.text_count, sizeof *w->texts);
    if (w->texts == NULL)
        abort();
    for (size_t i = 0; i < w->view.text_count; i++)
        w->texts[i] = quoted(w->view.texts[i]);
}

/* --- times --- */

static int64_t ns_of(const struct writing *w, double at_s)
{
    const struct trace_json_clock *const a = &w->rank->clock[0], *const b = &w->rank->clock[1];
    const double drift = b->at_s > a->at_s ? (b->offset_s - a->offset_s) / (b->at_s - a->at_s) : 0;

    return llround((at_s - w->json->origin_s + a->offset_s + drift * (at_s - a->at_s)) * NS_PER_S);
}

/* --- order --- */

/* At one moment what ends comes first, then the longer before the shorter: parents before children.
 */
static int earlier(const void *a, const void *b)
{
    const struct entry *const x = a, *const y = b;

    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    if ((x->phase == 'e') != (y->phase == 'e'))
        return x->phase == 'e' ? -1 : 1;
    if (x->other_ns != y->other_ns)
        return x->other_ns > y->other_ns ? -1 : 1;
    if (x->thread != y->thread)
        return x->thread < y->thread ? -1 : 1;
    return x->span > y->span ? -1 : x->span < y->span; /* a parent is recorded after its children */
}

/* An async span lasts a nanosecond at least: its end comes behind its beginning. */
static void add_span(struct writing *w, uint32_t thread, const struct trace_pack_span *span)
{
    struct entry entry = {.ns = ns_of(w, span->begun_s),
                          .other_ns = ns_of(w, span->ended_s),
                          .span = span,
                          .thread = thread,
                          .phase = 'X'};

    if (entry.other_ns < entry.ns)
        entry.other_ns = entry.ns;
    if (span->async != 0) {
        entry.phase = 'b';
        if (entry.other_ns == entry.ns)
            entry.other_ns++;
    }
    w->entries[w->count++] = entry;
    if (entry.phase == 'b') {
        entry.ns = entry.other_ns;
        entry.phase = 'e';
        w->entries[w->count++] = entry;
    }
}

static int sort_spans(struct writing *w, struct err *err)
{
    const struct trace_view *const view = &w->view;

    w->entries = calloc(2 * view->span_count + 1, sizeof *w->entries);
    if (w->entries == NULL)
        return err_set(err, ERR_MEMORY, "no memory to put %zu spans in order", view->span_count);
    for (size_t t = 0; t < view->thread_count; t++)
        for (size_t i = 0; i < view->threads[t]->spans; i++)
            add_span(w, (uint32_t)t, &view->spans[t][i]);
    qsort(w->entries, w->count, sizeof *w->entries, earlier);
    return 0;
}

/* --- lines --- */

static void begin_line(struct trace_json *json)
{
    const bool first = json->text.bytes > 0 && json->text.data[json->text.bytes - 1] == '[';

    buf_printf(&json->text, first ? "\n" : ",\n");
}

static void put_us(struct buf *out, const char *key, int64_t ns)
{
    const uint64_t size = (uint64_t)(ns < 0 ? -ns : ns);

    buf_printf(out, ",\"%s\":%s%" PRIu64 ".%03" PRIu64, key, ns < 0 ? "-" : "", size / 1000,
               size % 1000);
}

static void put_metadata(struct writing *w, size_t tid, const char *what, const char *value)
{
    begin_line(w->json);
    buf_printf(&w->json->text,
               "{\"ph\":\"M\",\"pid\":%d,\"tid\":%zu,\"name\":\"%s\",\"args\":{%s}}", w->rank->rank,
               tid, what, value);
}

static void put_name(struct writing *w, size_t tid, const char *what, const char *name)
{
    char *const quotes = quoted(name);
    struct buf value = {0};

    buf_printf(&value, "\"name\":%s", quotes);
    put_metadata(w, tid, what, buf_text(&value));
    buf_release(&value);
    free(quotes);
}

static void put_index(struct writing *w, size_t tid, const char *what, size_t index)
{
    struct buf value = {0};

    buf_printf(&value, "\"sort_index\":%zu", index);
    put_metadata(w, tid, what, buf_text(&value));
    buf_release(&value);
}

static void put_lost(struct writing *w, const struct trace_pack_thread *thread)
{
    struct trace_json *const json = w->json;
    char *const quotes = quoted(thread->name);

    json->spans += thread->spans;
    json->lost += thread->lost;
    if (thread->lost > 0)
        buf_printf(&json->lost_of, "%s{\"rank\":%d,\"thread\":%s,\"lost\":%" PRIu64 "}",
                   json->lost_of.bytes > 0 ? "," : "", w->rank->rank, quotes, thread->lost);
    free(quotes);
}

static void put_names(struct writing *w)
{
    struct buf name = {0};

    buf_printf(&name, "rank %d on %s", w->rank->rank, w->rank->host);
    put_name(w, 0, "process_name", buf_text(&name));
    put_index(w, 0, "process_sort_index", (size_t)w->rank->rank);
    buf_release(&name);
    for (size_t t = 0; t < w->view.thread_count; t++) {
        put_name(w, t + 1, "thread_name", w->view.threads[t]->name);
        put_index(w, t + 1, "thread_sort_index", t + 1);
        put_lost(w, w->view.threads[t]);
    }
}

static void put_entry(struct writing *w, const struct entry *entry)
{
    const struct trace_pack_span *const span = entry->span;
    struct buf *const out = &w->json->text;

    begin_line(w->json);
    buf_printf(out, "{\"ph\":\"%c\",\"pid\":%d,\"tid\":%" PRIu32, entry->phase, w->rank->rank,
               entry->thread + 1);
    if (entry->phase != 'X')
        buf_printf(out, ",\"id2\":{\"local\":\"0x%" PRIx64 "\"}", span->id);
    put_us(out, "ts", entry->ns);
    if (entry->phase == 'X')
        put_us(out, "dur", entry->other_ns - entry->ns);
    buf_printf(out, ",\"cat\":%s,\"name\":%s", w->texts[span->category], w->texts[span->name]);
    if (span->argument != 0 && entry->phase != 'e')
        buf_printf(out, ",\"args\":{%s:%" PRId64 "}", w->texts[span->argument], span->value);
    buf_printf(out, "}");
}

static int put_rank(struct writing *w, struct err *err)
{
    put_names(w);
    for (size_t i = 0; i < w->count; i++) {
        put_entry(w, &w->entries[i]);
        if (flush(w->json, FLUSH_BYTES, err) < 0)
            return -1;
    }
    return 0;
}

int trace_json_add(struct trace_json *json, const struct trace_json_rank *rank, const void *packed,
                   size_t bytes, struct err *err)
{
    struct writing w = {.json = json, .rank = rank};
    int rc = -1;

    if (trace_view_init(&w.view, packed, bytes, err) < 0)
        goto out;
    if (sort_spans(&w, err) < 0)
        goto out;
    quote_texts(&w);
    rc = put_rank(&w, err);
out:
    if (rc < 0)
        err_wrap(err, "cannot write the trace of rank %d", rank->rank);
    for (size_t i = 0; w.texts != NULL && i < w.view.text_count; i++)
        free(w.texts[i]);
    free(w.texts);
    free(w.entries);
    trace_view_release(&w.view);
    return rc;
}

int trace_json_commit(struct trace_json *json, struct err *err)
{
    buf_printf(&json->text,
               "\n],\"otherData\":{\"program\":\"convoy\",\"spans\":%" PRIu64 ",\"lost\":%" PRIu64
               ",\"lost_of\":[%s]}}\n",
               json->spans, json->lost, buf_text(&json->lost_of));
    if (flush(json, 0, err) < 0)
        return -1;
    return file_new_commit(&json->file, err);
}
