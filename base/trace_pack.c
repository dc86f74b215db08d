#include "base/trace_pack.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* --- packing --- */

int trace_packer_begin(struct trace_packer *packer, size_t threads, size_t spans, struct err *err)
{
    const struct trace_pack_head head = {.threads = threads};

    assert(packer->out->bytes == 0 && packer->texts == NULL);
    if (buf_reserve(packer->out,
                    sizeof head + threads * sizeof(struct trace_pack_thread) +
                        spans * sizeof(struct trace_pack_span),
                    err) < 0)
        return err_wrap(err, "cannot pack a trace");
    buf_append(packer->out, &head, sizeof head);
    return 0;
}

void trace_packer_thread(struct trace_packer *packer, const char *name, uint64_t lost,
                         uint64_t spans)
{
    struct trace_pack_thread thread = {.lost = lost, .spans = spans};

    snprintf(thread.name, sizeof thread.name, "%s", name);
    buf_append(packer->out, &thread, sizeof thread);
}

/* There are as many texts as a program has places to record at, some hundred; the newest are looked
 * at first, as what follows is like what was. */
static uint32_t number_of(struct trace_packer *packer, const char *text)
{
    if (text == NULL)
        return 0;
    for (size_t i = packer->text_count; i > 0; i--)
        if (packer->texts[i - 1] == text)
            return (uint32_t)i;
    packer->texts = realloc(packer->texts, (packer->text_count + 1) * sizeof *packer->texts);
    if (packer->texts == NULL)
        abort();
    packer->texts[packer->text_count++] = text;
    return (uint32_t)packer->text_count;
}

void trace_packer_span(struct trace_packer *packer, const struct trace_span *span)
{
    const struct trace_pack_span packed = {.begun_s = span->begun_s,
                                           .ended_s = span->ended_s,
                                           .value = span->value,
                                           .id = span->id,
                                           .category = number_of(packer, span->category),
                                           .name = number_of(packer, span->name),
                                           .argument = number_of(packer, span->argument),
                                           .async = span->async};

    buf_append(packer->out, &packed, sizeof packed);
}

void trace_packer_end(struct trace_packer *packer)
{
    struct trace_pack_head head;

    memcpy(&head, packer->out->data, sizeof head);
    head.texts = packer->text_count + 1;
    head.texts_at = packer->out->bytes;
    memcpy(packer->out->data, &head, sizeof head);
    buf_append(packer->out, "", 1);
    for (size_t i = 0; i < packer->text_count; i++)
        buf_append(packer->out, packer->texts[i], strlen(packer->texts[i]) + 1);
    free(packer->texts);
    packer->texts = NULL;
}

/* --- reading --- */

static void *array(size_t count, size_t bytes)
{
    void *const made = calloc(count + 1, bytes);

    if (made == NULL)
        abort();
    return made;
}

static bool spans_are_good(const struct trace_view *view, const struct trace_pack_span *spans,
                           size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (spans[i].category >= view->text_count || spans[i].name >= view->text_count ||
            spans[i].argument >= view->text_count)
            return false;
    return true;
}

static bool read_threads(struct trace_view *view, const unsigned char *at, const unsigned char *end)
{
    for (size_t i = 0; i < view->thread_count; i++) {
        const struct trace_pack_thread *const thread = (const void *)at;
        size_t count;

        if ((size_t)(end - at) < sizeof *thread)
            return false;
        at += sizeof *thread;
        count = thread->spans;
        if (memchr(thread->name, '\0', sizeof thread->name) == NULL ||
            count > (size_t)(end - at) / sizeof *view->spans[i])
            return false;
        view->threads[i] = thread;
        view->spans[i] = (const void *)at;
        view->span_count += count;
        at += count * sizeof *view->spans[i];
        if (!spans_are_good(view, view->spans[i], count))
            return false;
    }
    return at == end;
}

static bool read_texts(struct trace_view *view, const char *at, size_t bytes)
{
    for (size_t i = 0; i < view->text_count; i++) {
        const char *const nul = memchr(at, '\0', bytes);

        if (nul == NULL)
            return false;
        view->texts[i] = at;
        bytes -= (size_t)(nul + 1 - at);
        at = nul + 1;
    }
    return bytes == 0;
}

static bool read_all(struct trace_view *view, const unsigned char *packed, size_t bytes)
{
    struct trace_pack_head head;

    if (bytes < sizeof head)
        return false;
    memcpy(&head, packed, sizeof head);
    if (head.texts_at > bytes || head.texts_at < sizeof head || head.texts == 0 ||
        head.texts > bytes || head.threads > bytes)
        return false;
    view->thread_count = head.threads;
    view->text_count = head.texts;
    view->threads = array(head.threads, sizeof *view->threads);
    view->spans = array(head.threads, sizeof *view->spans);
    view->texts = array(head.texts, sizeof *view->texts);
    return read_texts(view, (const char *)packed + head.texts_at, bytes - head.texts_at) &&
           read_threads(view, packed + sizeof head, packed + head.texts_at);
}

int trace_view_init(struct trace_view *view, const void *packed, size_t bytes, struct err *err)
{
    *view = (struct trace_view){0};
    if (read_all(view, packed, bytes))
        return 0;
    trace_view_release(view);
    return err_set(err, ERR_INTERNAL, "%zu bytes are no packed trace", bytes);
}

void trace_view_release(struct trace_view *view)
{
    free(view->threads);
    free(view->spans);
    free(view->texts);
    *view = (struct trace_view){0};
}
