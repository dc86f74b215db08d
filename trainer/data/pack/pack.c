#include "trainer/data/pack/pack.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/pack/ahead.h"
#include "trainer/data/pack/packing.h"
#include "trainer/data/pack/source.h"
#include "trainer/data/pack/target.h"
#include "trainer/data/pack/writer.h"
#include "trainer/data/picture/codec.h"
#include "trainer/data/set/folder.h"
#include "trainer/data/set/root.h"

/* The pack as a whole: its splits, and what training's classes are. */
struct pack {
    const struct data_pack_options *options;
    struct data_target target;
    char **class_names; /* (classes) of the first split; NULL until it is packed */
    int classes;
    struct data_packing notes[DATA_SPLITS]; /* of each split, to be removed at the end */
    size_t note_count;
    size_t finished;  /* shards that are whole */
    bool resumes;     /* an earlier pack's are there */
    bool is_anothers; /* the target, by now */
    bool source_is_wrong;
};

/* One that there will be. */
struct shard {
    size_t first, count; /* its samples */
    uint64_t tar_bytes;  /* of one that is there already; else 0 */
};

/* One set of samples on its way into shards. */
struct split {
    struct pack *pack;
    const char *folder; /* below the target */
    const struct data_packing *note;
    struct data_source source;
    struct data_writer writer;
    struct shard *shards;
    size_t shard_count;
    uint64_t *samples; /* (sample_count) those that are to be read */
    size_t sample_count;
    struct data_left bad;  /* neither JPEG nor PNG */
    uint64_t bytes, total; /* for the bar: read; to be read */
    double begun_s;
};

static void split_release(struct split *split)
{
    data_writer_release(&split->writer);
    data_source_close(&split->source);
    free(split->shards);
    free(split->samples);
    free(split->bad.first);
}

static void show(const struct split *split)
{
    const double seconds = clock_now_s() - split->begun_s;
    const double rate = seconds > 0 ? (double)split->bytes / seconds : 0;
    char line[256];

    if (log_bar_width() == 0)
        return;
    snprintf(line, sizeof line,
             "packing %.120s: %3.0f %%  %.1f of %.1f MB  %.1f MB/s  %zu of %zu shards",
             split->folder,
             split->total > 0 ? 100.0 * (double)split->bytes / (double)split->total : 100.0,
             (double)split->bytes / 1e6, (double)split->total / 1e6, rate / 1e6,
             json_array_size(split->writer.shards), split->shard_count);
    log_bar(line);
}

static int check_stop(const struct split *split, struct err *err)
{
    const struct data_pack_options *options = split->pack->options;

    if (options->cancel == NULL || !*options->cancel)
        return 0;
    return err_set(err, ERR_STOPPED, "stopped while packing '%s'", split->source.index.root);
}

/* After a failure to read the source. ERR_INPUT of a bucket may as well be of the credentials,
 * which expire. Returns -1. */
static int blame_source(struct pack *pack, const char *source, const struct err *err)
{
    pack->source_is_wrong = err->code == ERR_INPUT && !data_place_is_remote(source);
    return -1;
}

/* What is no picture keeps its place: training from shards and from the folder meets the same
 * samples, and leaves out the same. */
static int check_picture(struct split *split, size_t sample, const struct buf *picture,
                         struct err *err)
{
    const char *const key = split->source.index.samples[sample].key;

    if (data_jpeg_known(picture->data, picture->bytes) ||
        data_png_known(picture->data, picture->bytes))
        return 0;
    if (split->pack->options->stop_at_bad) {
        split->pack->source_is_wrong = true;
        return err_set(err, ERR_INPUT, "'%s/%s' is no picture: neither JPEG nor PNG",
                       split->source.index.root, key);
    }
    data_folder_leave(&split->bad, key, strlen(key));
    return 0;
}

/* --- which shards there will be, and which there are --- */

static void plan_shards(struct split *split)
{
    const struct data_index *index = &split->source.index;
    size_t capacity = 0, first = 0;

    while (first < index->count) {
        if (split->shard_count == capacity) {
            capacity = capacity * 2 + 64;
            split->shards = reallocarray(split->shards, capacity, sizeof *split->shards);
            if (split->shards == NULL)
                abort();
        }
        split->shards[split->shard_count] =
            (struct shard){.first = first, .count = data_writer_plan(&split->writer, index, first)};
        first += split->shards[split->shard_count++].count;
    }
}

/* What an earlier pack left. It is this one's once all of it was looked at: a failure before that
 * takes nothing back. */
static int find_shards(struct split *split, struct err *err)
{
    char *top = uri_join(split->folder, SHARD_TOP_NAME);
    size_t found = 0;

    data_target_forget(&split->pack->target, top); /* it is written again, when all is there */
    free(top);
    for (size_t s = 0; s < split->shard_count; s++) {
        struct shard *shard = &split->shards[s];

        if (check_stop(split, err) < 0 ||
            data_writer_look(&split->writer, &split->source.index, s, shard->first, shard->count,
                             &shard->tar_bytes, err) < 0)
            return -1;
        found += shard->tar_bytes > 0;
        split->pack->finished += shard->tar_bytes > 0;
    }
    for (size_t s = 0; s < split->shard_count; s++)
        if (split->shards[s].tar_bytes > 0)
            data_writer_own(&split->writer, s);
    data_packing_own(split->note, &split->pack->target);
    log_info("'%s' is half packed: %zu of %zu shards are whole, and stay", split->folder, found,
             split->shard_count);
    return 0;
}

/* The samples of the shards that are not there. */
static int list_samples(struct split *split, struct err *err)
{
    const struct data_index *index = &split->source.index;

    split->samples = calloc(index->count + 1, sizeof *split->samples);
    if (split->samples == NULL)
        return err_set(err, ERR_MEMORY, "no memory for the %zu samples of '%s'", index->count,
                       index->root);
    for (size_t s = 0; s < split->shard_count; s++) {
        const struct shard *shard = &split->shards[s];

        for (size_t i = shard->first; shard->tar_bytes == 0 && i < shard->first + shard->count;
             i++) {
            split->samples[split->sample_count++] = i;
            split->total += index->samples[i].bytes;
        }
    }
    return 0;
}

/* --- writing --- */

static int write_shard(struct split *split, const struct shard *shard, struct data_ahead *ahead,
                       struct buf *picture, struct err *err)
{
    const struct data_index *index = &split->source.index;

    if (data_packing_check(split->note, err) < 0)
        return -1;
    for (size_t i = shard->first; i < shard->first + shard->count; i++) {
        if (check_stop(split, err) < 0)
            return -1;
        if (data_ahead_take(ahead, picture, err) < 0)
            return blame_source(split->pack, index->root, err);
        if (check_picture(split, i, picture, err) < 0 ||
            data_writer_put(&split->writer, &index->samples[i], picture->data, err) < 0)
            return -1;
        split->bytes += index->samples[i].bytes;
        show(split);
    }
    if (data_writer_finish(&split->writer, err) < 0) /* the last one, which is shorter */
        return -1;
    split->pack->finished++;
    return 0;
}

static int write_shards(struct split *split, struct err *err)
{
    const struct data_pack_options *options = split->pack->options;
    struct data_ahead *ahead = data_ahead_new(&split->source, split->samples, split->sample_count,
                                              options->threads, options->cancel);
    struct buf picture = {0};
    int rc = 0;

    split->begun_s = clock_now_s();
    for (size_t s = 0; s < split->shard_count && rc == 0; s++) {
        const struct shard *shard = &split->shards[s];

        if (shard->tar_bytes > 0)
            data_writer_pass(&split->writer, &split->source.index, shard->count, shard->tar_bytes);
        else
            rc = write_shard(split, shard, ahead, &picture, err);
    }
    data_ahead_free(ahead);
    buf_release(&picture);
    log_bar("");
    return rc;
}

static int refuse_shards(const char *target, const volatile sig_atomic_t *cancel, struct err *err)
{
    enum data_root_kind kind;

    if (data_root_look(target, &kind, cancel, err) < 0)
        return -1;
    if (kind == DATA_ROOT_SHARDS || kind == DATA_ROOT_TARS)
        return err_set(err, ERR_INPUT,
                       "'%s' holds shards already: remove them or name another folder", target);
    return 0;
}

/* Shards there are refused, but for those of a pack that was broken off. */
static int refuse_others(const char *target, const volatile sig_atomic_t *cancel, struct err *err)
{
    bool there = false, noted = false;

    if (!data_place_is_remote(target))
        there = file_exists(target);
    else if (data_place_exists(target, &there, err) < 0)
        return -1;
    if (!there)
        return 0;
    if (data_packing_find(target, &noted, err) < 0)
        return -1;
    return noted ? 0 : refuse_shards(target, cancel, err);
}

/* Of two packs that began at once, the other may be through by now: its shards are none that this
 * one may go on with, so the note must not stay beside them. */
static int begin_split(struct split *split, bool *resumes, struct err *err)
{
    struct pack *const pack = split->pack;
    struct data_packing note = {.fd = -1};

    if (data_target_folder(&pack->target, split->folder, err) < 0)
        return -1;
    if (data_packing_begin(&note, &pack->target, split->folder, pack->options->source,
                           split->source.identity, pack->options->shard_bytes, resumes, err) < 0) {
        data_packing_release(&note);
        return -1;
    }
    if (!*resumes && refuse_shards(split->folder, pack->options->cancel, err) < 0) {
        data_packing_end(&note, &pack->target);
        data_packing_release(&note);
        return -1;
    }
    split->note = split->writer.note = &pack->notes[pack->note_count];
    pack->notes[pack->note_count++] = note;
    return 0;
}

static int write_split(struct split *split, struct err *err)
{
    bool resumes = false;

    if (begin_split(split, &resumes, err) < 0)
        return -1;
    plan_shards(split);
    split->pack->resumes = split->pack->resumes || resumes;
    if (resumes && find_shards(split, err) < 0)
        return -1;
    if (list_samples(split, err) < 0 || write_shards(split, err) < 0 ||
        data_packing_check(split->note, err) < 0)
        return -1;
    return data_writer_top(&split->writer, &split->source.index, err);
}

/* After a failure: what is in the target may be another's by now, and must not be touched then; nor
 * where nobody can tell. */
static void check_lost(struct pack *pack)
{
    for (size_t i = 0; i < pack->note_count; i++) {
        struct err err = {0};

        if (data_packing_check(&pack->notes[i], &err) == 0)
            continue;
        pack->target.lost = true;
        pack->is_anothers = pack->is_anothers || err.code == ERR_INPUT;
    }
}

/* Before anything is written. */
static int tell_empty(const struct split *split, const char *source, struct err *err)
{
    const struct data_left *const empty = &split->source.index.empty;

    if (empty->count > 0 && split->pack->options->stop_at_bad)
        return err_set(err, ERR_INPUT, "picture '%s/%s' is empty: it has 0 bytes",
                       split->source.index.root, empty->first);
    if (empty->count > 0)
        log_warn("%zu pictures below '%s' are empty and are left out; the first is '%s'",
                 empty->count, source, empty->first);
    return 0;
}

/* What a run from these shards will leave out. */
static void tell_bad(const struct split *split, const char *source)
{
    const struct data_left *const bad = &split->bad;

    if (bad->count > 0)
        log_warn("%zu files below '%s' are neither JPEG nor PNG, and training will leave them out; "
                 "the first is '%s'",
                 bad->count, source, bad->first);
}

static void keep_classes(struct pack *pack, const struct data_index *index)
{
    if (pack->class_names != NULL)
        return;
    pack->class_names = calloc((size_t)index->classes + 1, sizeof *pack->class_names);
    if (pack->class_names == NULL)
        abort();
    for (int i = 0; i < index->classes; i++)
        pack->class_names[i] = text_copy(index->class_names[i]);
    pack->classes = index->classes;
}

/* Pack one set of samples. It is bound to the classes of the one before. */
static int pack_split(struct pack *pack, const char *source, const char *folder, struct err *err)
{
    const struct data_pack_options *options = pack->options;
    struct split split = {.pack = pack, .folder = folder, .source.file.fd = -1};
    int rc = -1;

    data_writer_init(&split.writer, &pack->target, folder, options->shard_bytes, options->cancel);
    if (data_source_open(&split.source, source, options->root, pack->class_names, pack->classes,
                         options->cancel, err) < 0 ||
        data_writer_check_names(&split.source.index, err) < 0 ||
        tell_empty(&split, source, err) < 0) {
        blame_source(pack, source, err);
        goto out;
    }
    if (write_split(&split, err) < 0)
        goto out;
    tell_bad(&split, source);
    log_info("packed '%s': %zu pictures of %d classes in %zu shards", folder,
             split.source.index.count, split.source.index.classes,
             json_array_size(split.writer.shards));
    keep_classes(pack, &split.source.index);
    rc = 0;
out:
    if (rc < 0)
        check_lost(pack);
    split_release(&split);
    return rc;
}

/* Where the split found at `source` goes. */
static char *target_of(const struct data_pack_options *options, const char *source)
{
    return uri_join(options->target, strrchr(source, '/') + 1);
}

static int pack_root(struct pack *pack, struct err *err)
{
    const struct data_pack_options *options = pack->options;
    char *sources[DATA_SPLITS] = {0}, *targets[DATA_SPLITS] = {0};
    int rc = -1;

    for (int s = 0; s < DATA_SPLITS; s++) {
        if (data_root_find(options->source, (enum data_split)s, &sources[s], err) < 0)
            goto out;
        if (sources[s] == NULL)
            continue;
        targets[s] = target_of(options, sources[s]);
        if (refuse_others(targets[s], options->cancel, err) < 0)
            goto out;
    }
    if (data_target_folder(&pack->target, options->target, err) < 0)
        goto out;
    for (int s = 0; s < DATA_SPLITS; s++)
        if (sources[s] != NULL && pack_split(pack, sources[s], targets[s], err) < 0)
            goto out;
    rc = 0;
out:
    for (int s = 0; s < DATA_SPLITS; s++) {
        free(sources[s]);
        free(targets[s]);
    }
    return rc;
}

/* All is there: the notes go. */
static void end_notes(struct pack *pack)
{
    for (size_t i = 0; i < pack->note_count; i++)
        data_packing_end(&pack->notes[i], &pack->target);
}

/* Whether what there is stays after a failure, for the same command to go on with: where the data
 * was wrong, the shards would not be what the mended data gives. */
static bool may_stay(const struct pack *pack)
{
    return !pack->is_anothers && !pack->source_is_wrong && (pack->resumes || pack->finished > 0);
}

static void tell_left(const struct pack *pack, bool stays)
{
    const char *const target = pack->options->target;

    if (stays)
        log_info("what is finished stays in '%s': the same command goes on behind it", target);
    else if (pack->target.lost && !pack->is_anothers && pack->target.count > 0)
        log_warn("what was written below '%s' is still there: whose it is cannot be asked now",
                 target);
}

int data_pack(const struct data_pack_options *options, struct err *err)
{
    struct pack pack = {.options = options};
    struct err local = {0};
    enum data_root_kind kind = DATA_ROOT_CLASSES;
    bool stays = false;
    int rc = -1;

    err = err != NULL ? err : &local;
    if ((!data_source_is_file(options->source) &&
         data_root_look(options->source, &kind, options->cancel, err) < 0) ||
        refuse_others(options->target, options->cancel, err) < 0)
        goto out;
    if (kind == DATA_ROOT_SPLITS)
        rc = pack_root(&pack, err);
    else
        rc = pack_split(&pack, options->source, options->target, err);
    if (rc == 0)
        end_notes(&pack);
    else
        stays = may_stay(&pack);
    if (rc < 0)
        tell_left(&pack, stays);
out:
    data_target_release(&pack.target, rc < 0 && !stays);
    for (size_t i = 0; i < pack.note_count; i++)
        data_packing_release(&pack.notes[i]);
    for (int i = 0; i < pack.classes; i++)
        free(pack.class_names[i]);
    free(pack.class_names);
    return rc;
}
