#include "trainer/audit/verb.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/option.h"
#include "base/text.h"
#include "trainer/audit/judge.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/data/index/index.h"
#include "trainer/data/index/split.h"
#include "trainer/data/set/open.h"

static const struct option_spec table[] = {
    {.name = "train",
     .kind = OPTION_TEXT,
     .metavar = "DIR|s3://...",
     .shown = "none: pictures are called by their places in the index",
     .help = "the training pictures, to call those lost or repeated by name; refused where they "
             "are others"},
    {.name = "val-split",
     .kind = OPTION_NUMBER,
     .metavar = "SHARE",
     .min = 0,
     .max = 0.9,
     .fallback = "0",
     .help = "with --train: what the run had"},
    {.name = "checkpoint",
     .kind = OPTION_TEXT,
     .metavar = "DIR|FILE|s3://...",
     .shown = "none: what the files tell of",
     .help = "judge the steps that led to these weights: the newest checkpoint, or this one"},
    {.name = "last",
     .kind = OPTION_TEXT,
     .metavar = "ID",
     .shown = "the last",
     .help = "judge the lineage that ends with this launch: of a run that forked"},
};

void audit_help(FILE *out)
{
    struct option_set set = {0};

    option_set_init(&set, table, sizeof table / sizeof table[0]);
    option_set_help(&set, out);
    option_set_release(&set);
}

/* --- files --- */

struct file {
    char *path;
    dev_t device;
    ino_t inode;
    void *data; /* mapped; NULL: empty */
    size_t bytes;
};

struct files {
    struct file *files;
    size_t count;
};

static void release_files(struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        if (files->files[i].data != NULL)
            munmap(files->files[i].data, files->files[i].bytes);
        free(files->files[i].path);
    }
    free(files->files);
}

static bool is_there(const struct files *files, const struct stat *stat)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->files[i].device == stat->st_dev && files->files[i].inode == stat->st_ino)
            return true;
    return false;
}

static int map(struct file *file, int fd, struct err *err)
{
    if (file->bytes == 0)
        return 0;
    file->data = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file->data != MAP_FAILED)
        return 0;
    file->data = NULL;
    return err_set_errno(err, ERR_IO, errno, "cannot read '%s'", file->path);
}

/* A file that was named twice, or by a link, is one. */
static int add_file(struct files *files, const char *path, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct file *file;
    struct stat stat;
    int rc = 0;

    if (fd < 0)
        return err_set_errno(err, errno == ENOENT ? ERR_INPUT : ERR_IO, errno, "cannot open '%s'",
                             path);
    if (fstat(fd, &stat) < 0)
        rc = err_set_errno(err, ERR_IO, errno, "cannot read '%s'", path);
    else if (!S_ISREG(stat.st_mode))
        rc = err_set(err, ERR_INPUT, "'%s' is no file", path);
    if (rc == 0 && !is_there(files, &stat)) {
        files->files = reallocarray(files->files, files->count + 1, sizeof *files->files);
        if (files->files == NULL)
            abort();
        file = &files->files[files->count++];
        *file = (struct file){.path = text_copy(path),
                              .device = stat.st_dev,
                              .inode = stat.st_ino,
                              .bytes = (size_t)stat.st_size};
        rc = map(file, fd, err);
    }
    close(fd);
    return rc;
}

static bool is_of_rank(const char *path)
{
    const char *const found = strstr(path, ".rank-");

    return found != NULL && strspn(found + 6, "0123456789") == strlen(found + 6);
}

/* Characters that a pattern would mean otherwise. */
static char *pattern_of(const char *path)
{
    char *const pattern = malloc(2 * strlen(path) + sizeof ".rank-*");
    char *to = pattern;

    if (pattern == NULL)
        abort();
    for (; *path != '\0'; path++) {
        if (strchr("*?[\\", *path) != NULL)
            *to++ = '\\';
        *to++ = *path;
    }
    memcpy(to, ".rank-*", sizeof ".rank-*");
    return pattern;
}

/* FILE and FILE.rank-N; a host without rank 0 has only the latter. */
static int add_files(struct files *files, const char *path, struct err *err)
{
    char *pattern;
    glob_t found = {0};
    int rc = 0;

    if (is_of_rank(path))
        return add_file(files, path, err);
    pattern = pattern_of(path);
    if (glob(pattern, 0, NULL, &found) != 0)
        found.gl_pathc = 0;
    if (found.gl_pathc == 0 || access(path, F_OK) == 0)
        rc = add_file(files, path, err);
    for (size_t i = 0; i < found.gl_pathc && rc == 0; i++)
        if (is_of_rank(found.gl_pathv[i]))
            rc = add_file(files, found.gl_pathv[i], err);
    globfree(&found);
    free(pattern);
    return rc;
}

/* --- what is told --- */

static void tell_launch(const struct audit_launch *launch, bool survived)
{
    char id[AUDIT_ID_CHARS], parent[AUDIT_ID_CHARS];
    const uint64_t last = launch->last_step > launch->begin.resumed_step
                              ? launch->last_step
                              : launch->begin.resumed_step;
    const uint64_t kept = survived ? launch->to_step : launch->begin.resumed_step;

    audit_lineage_id(launch->begin.launch, id);
    audit_lineage_id(launch->begin.parent, parent);
    printf("launch=%s generation=%" PRIu32 " ranks=%" PRIu32, id, launch->begin.generation,
           launch->begin.ranks);
    if (launch->begin.resumed_step > 0)
        printf(" resumed=%" PRIu64 " of=%s", launch->begin.resumed_step, parent);
    printf(" steps=%" PRIu64 " lost=%" PRIu64 "\n",
           kept > launch->begin.resumed_step ? kept - launch->begin.resumed_step : 0,
           last > kept ? last - kept : 0);
}

static void tell_epoch(const struct audit_epoch *epoch, uint64_t samples)
{
    printf("epoch=%" PRIu32 " steps=%" PRIu64 "..%" PRIu64 " pictures=%" PRIu64 " of=%" PRIu64
           " trained=%" PRIu64 " left_out=%" PRIu64 " lost=%" PRIu64 " repeated=%" PRIu64 "%s\n",
           epoch->epoch, epoch->first_step, epoch->last_step, epoch->trained + epoch->left_out,
           samples, epoch->trained, epoch->left_out, epoch->lost, epoch->repeated,
           epoch->whole ? "" : " unfinished");
}

static int tell(const struct audit_lineage *lineage, struct audit_verdict *verdict, struct err *err)
{
    const struct audit_begin *const begin = &lineage->launches[lineage->chain[0]].begin;

    for (size_t i = 0; i < lineage->count; i++) {
        bool survived = false;

        for (size_t j = 0; j < lineage->chain_count; j++)
            survived |= lineage->chain[j] == i;
        tell_launch(&lineage->launches[i], survived);
    }
    for (size_t i = 0; i < verdict->epoch_count; i++)
        tell_epoch(&verdict->epochs[i], begin->order.samples);
    if (verdict->faults == 0 && verdict->steps == 0)
        return err_set(err, ERR_INPUT,
                       "nothing to judge: no launch here has a step that others or a checkpoint "
                       "could build on");
    if (verdict->faults == 0) {
        printf("exactly once: steps=%" PRIu64 " epochs=%zu trained=%" PRIu64 " left_out=%" PRIu64
               " launches=%zu torn=%zu\n",
               verdict->steps, verdict->epoch_count, verdict->trained, verdict->left_out,
               lineage->count, lineage->torn);
        return 0;
    }
    printf("%s", buf_text(&verdict->told));
    if (verdict->faults > AUDIT_TOLD_MAX)
        printf("and %" PRIu64 " more\n", verdict->faults - AUDIT_TOLD_MAX);
    return err_set(err, ERR_INPUT, "not exactly once, %" PRIu64 " faults; the first: %s",
                   verdict->faults, verdict->first);
}

/* --- the verb --- */

/* The pictures by name, if they are those of the run. */
static int open_index(struct data_index *index, const struct audit_lineage *lineage,
                      const char *root, double val_split, const volatile sig_atomic_t *cancel,
                      struct err *err)
{
    const struct audit_begin *const begin = &lineage->launches[0].begin;
    struct data_index whole = {0}, held_out = {0};
    int rc = 0;

    if (begin->order.part_count > 0)
        return err_set(err, ERR_USAGE,
                       "--train: the pictures of this run lay on %" PRIu32
                       " hosts (--host-data): leave it out",
                       begin->order.part_count);
    if (data_index_open(val_split > 0 ? &whole : index, root, NULL, 0, cancel, err) < 0)
        return -1;
    if (val_split > 0)
        rc = data_index_split(&whole, val_split, index, &held_out, err);
    data_index_release(&whole);
    data_index_release(&held_out);
    if (rc == 0 && memcmp(index->fingerprint, begin->fingerprint, sizeof begin->fingerprint) != 0)
        rc = err_set(err, ERR_INPUT,
                     "--train: '%s' has other pictures (%zu) than the run had (%" PRIu64
                     "): was there a --val-split?",
                     root, index->count, begin->order.samples);
    return rc;
}

/* What is to be judged: the lineage's end. */
struct tip {
    char launch[2 * AUDIT_LAUNCH_BYTES + 1]; /* in hex */
    uint64_t step;
};

static int read_tip(const struct safetensors *file, const char *path, struct tip *tip,
                    struct err *err)
{
    const char *const launch = safetensors_metadata(file, "launch");
    const char *const step = safetensors_metadata(file, "step");

    if (launch == NULL || strlen(launch) != sizeof tip->launch - 1 || step == NULL ||
        !text_number(step, &tip->step) || tip->step == 0)
        return err_set(
            err, ERR_INPUT,
            "--checkpoint: '%s' does not say which launch made it, and at which step: it "
            "is no checkpoint of a training run, or an older one",
            path);
    memcpy(tip->launch, launch, sizeof tip->launch);
    return 0;
}

static int open_tip(const char *place, struct tip *tip, struct err *err)
{
    struct safetensors file = {0};
    char *path = NULL;
    int rc = 1;

    if (checkpoint_is_file(place))
        rc = checkpoint_open(place, &file, err) < 0 ? -1 : 1;
    else
        rc = checkpoint_open_latest(place, &file, &path, err);
    if (rc == 0)
        rc = err_set(err, ERR_INPUT, "--checkpoint: there is none in '%s'", place);
    if (rc > 0)
        rc = read_tip(&file, path != NULL ? path : place, tip, err);
    safetensors_close(&file);
    free(path);
    return rc;
}

static int trace_checkpoint(struct audit_lineage *lineage, const char *place, struct err *err)
{
    struct tip tip;
    size_t end;

    if (open_tip(place, &tip, err) < 0)
        return -1;
    if (audit_lineage_find(lineage, tip.launch, &end) == 0)
        return err_set(err, ERR_INPUT,
                       "--checkpoint: '%s' was made by launch %.8s, and no file here tells of it",
                       place, tip.launch);
    return audit_lineage_trace(lineage, end, tip.step, err);
}

static int trace(struct audit_lineage *lineage, const struct option_set *set, struct err *err)
{
    const char *const place = option_text(set, "checkpoint");
    const char *const last = option_text(set, "last");
    size_t end = AUDIT_LAST, found;

    if (place != NULL && last != NULL)
        return err_set(err, ERR_USAGE,
                       "--last and --checkpoint each say which end is meant: give one of them");
    if (place != NULL)
        return trace_checkpoint(lineage, place, err);
    if (last != NULL && (found = audit_lineage_find(lineage, last, &end)) != 1)
        return err_set(err, ERR_USAGE,
                       found == 0 ? "--last: no launch has the id '%s'"
                                  : "--last: the ids of several launches begin with '%s'",
                       last);
    return audit_lineage_trace(lineage, end, 0, err);
}

static int judge(struct files *files, const struct option_set *set,
                 const volatile sig_atomic_t *cancel, struct err *err)
{
    const char *const root = option_text(set, "train");
    struct audit_lineage lineage = {0};
    struct audit_verdict verdict = {0};
    struct data_index index = {0};
    int rc = 0;

    for (size_t i = 0; i < files->count && rc == 0; i++)
        rc = audit_lineage_add(&lineage, files->files[i].path, files->files[i].data,
                               files->files[i].bytes, err);
    if (rc == 0)
        rc = trace(&lineage, set, err);
    if (rc == 0 && root != NULL)
        rc = open_index(&index, &lineage, root, option_number(set, "val-split"), cancel, err);
    if (rc == 0)
        rc = audit_judge(&lineage, root != NULL ? &index : NULL, &verdict, err);
    if (rc == 0)
        rc = tell(&lineage, &verdict, err);
    data_index_release(&index);
    audit_verdict_release(&verdict);
    audit_lineage_release(&lineage);
    return rc;
}

int audit_run(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err)
{
    struct option_set set = {0};
    struct files files = {0};
    int words = 0, rc = 0;

    while (words < argc && strncmp(argv[words], "--", 2) != 0)
        words++;
    option_set_init(&set, table, sizeof table / sizeof table[0]);
    if (words == 0)
        rc = err_set(err, ERR_USAGE, "convoy audit FILE... [options]: name the files first");
    if (rc == 0)
        rc = option_set_parse(&set, argc - words, argv + words, err);
    for (int i = 0; i < words && rc == 0; i++)
        rc = add_files(&files, argv[i], err);
    if (rc == 0)
        rc = judge(&files, &set, cancel, err);
    release_files(&files);
    option_set_release(&set);
    return rc;
}
