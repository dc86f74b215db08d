#include "launcher/local.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "launcher/child.h"
#include "launcher/cpus.h"
#include "launcher/orted.h"
#include "launcher/words.h"

#define FAILURE_FILE_BYTES_MAX ((size_t)1 << 16)
/* Set where several hosts of a job are one machine (tests): Open MPI names its shared memory by
 * machine, so that the ranks of two such hosts would meet in one segment (measured: every run
 * crashed). */
#define ONE_MACHINE            "CONVOY_ONE_MACHINE"
#define VADER_FOLDER           "OMPI_MCA_btl_vader_backing_directory"

static char *path_in(const char *folder, const char *name)
{
    char *path;

    if (asprintf(&path, "%s/%s", folder, name) < 0)
        abort();
    return path;
}

/* A socket's path has 108 bytes at most, so a long TMPDIR will not do. */
static char *make_folder(struct err *err)
{
    const char *temp = file_temp_root();
    const size_t bytes_max =
        sizeof((struct sockaddr_un *)0)->sun_path - sizeof "/convoy-XXXXXX/rsh";
    char *folder;

    if (strlen(temp) > bytes_max)
        temp = "/tmp";
    folder = path_in(temp, "convoy-XXXXXX");
    if (mkdtemp(folder) != NULL)
        return folder;
    err_set_errno(err, ERR_IO, errno, "cannot make the folder '%s'", folder);
    free(folder);
    return NULL;
}

static char *own_path(void)
{
    char own[4096];
    const ssize_t bytes = readlink("/proc/self/exe", own, sizeof own - 1);
    char *copy;

    own[bytes < 0 ? 0 : bytes] = '\0';
    copy = strdup(own);
    if (copy == NULL)
        abort();
    return copy;
}

int launch_local_open(struct launch_local *local, const struct launch_signals *signals,
                      struct err *err)
{
    char *folder = make_folder(err);

    if (folder == NULL)
        return -1;
    *local = (struct launch_local){.folder = folder,
                                   .ready = path_in(folder, "ready"),
                                   .model = path_in(folder, "model"),
                                   .failure = path_in(folder, "failure"),
                                   .rsh = path_in(folder, "rsh"),
                                   .program = own_path(),
                                   .signals = signals};
    setenv("CONVOY_READY", local->ready, 1);
    setenv("CONVOY_MODEL_LEFT", local->model, 1);
    setenv("CONVOY_FAILURE", local->failure, 1);
    return 0;
}

void launch_local_close(struct launch_local *local)
{
    if (local->folder != NULL) {
        launch_local_clear(local);
        unlink(local->rsh);
        rmdir(local->folder);
    }
    free(local->folder);
    free(local->ready);
    free(local->model);
    free(local->failure);
    free(local->rsh);
    free(local->program);
    *local = (struct launch_local){0};
}

static void set_integer(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 1);
}

int launch_local_set_threads(int threads, int ranks)
{
    if (threads == 0)
        threads = launch_cpus_usable() / ranks;
    if (threads < 1)
        threads = 1;
    set_integer("CONVOY_THREADS", threads);
    set_integer("OMP_NUM_THREADS", threads);
    set_integer("OPENBLAS_NUM_THREADS", 1);
    return threads;
}

void launch_local_clear(const struct launch_local *local)
{
    unlink(local->ready);
    unlink(local->model);
    unlink(local->failure);
}

bool launch_local_ready(const struct launch_local *local)
{
    return file_exists(local->ready);
}

bool launch_local_model(const struct launch_local *local)
{
    return file_exists(local->model);
}

void launch_local_clean(char text[LAUNCH_FAILURE_BYTES], const char *from, size_t bytes)
{
    bool utf8;
    json_t *tried;

    if (bytes > LAUNCH_FAILURE_BYTES - 1)
        for (bytes = LAUNCH_FAILURE_BYTES - 1; bytes > 0 && (from[bytes] & 0xc0) == 0x80;)
            bytes--;
    tried = json_stringn(from, bytes);
    utf8 = tried != NULL;
    json_decref(tried);
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)from[i];

        text[i] = byte == '\n' || byte == '\t'                            ? ' '
                  : byte < 0x20 || byte == 0x7f || (byte > 0x7f && !utf8) ? '?'
                                                                          : from[i];
    }
    while (bytes > 0 && text[bytes - 1] == ' ')
        bytes--;
    text[bytes] = '\0';
}

bool launch_local_failure(const struct launch_local *local, char text[LAUNCH_FAILURE_BYTES])
{
    struct buf file = {0};
    struct err ignored = {0};

    text[0] = '\0';
    if (file_exists(local->failure) &&
        file_read(local->failure, FAILURE_FILE_BYTES_MAX, &file, &ignored) == 0)
        launch_local_clean(text, (const char *)file.data, file.bytes);
    buf_release(&file);
    return text[0] != '\0';
}

/* The child inherits the environment as it is at the fork. */
pid_t launch_local_orted(const struct launch_local *local, const struct launch_words *came,
                         struct err *err)
{
    const char *const temp = getenv("TMPDIR");
    const bool apart = getenv(ONE_MACHINE) != NULL && temp != NULL && getenv(VADER_FOLDER) == NULL;
    struct launch_words words = {0};
    pid_t child = -1;

    if (launch_orted_words(came, local->program, &words, err) < 0)
        goto out;
    if (apart)
        setenv(VADER_FOLDER, temp, 1);
    child = launch_child_start(words.at, true, local->signals);
    if (apart)
        unsetenv(VADER_FOLDER);
    if (child < 0)
        err_set_errno(err, ERR_IO, errno, "cannot start orted");
out:
    launch_words_release(&words);
    return child;
}
