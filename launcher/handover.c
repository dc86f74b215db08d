#include "launcher/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "launcher/agent.h"
#include "launcher/child.h"
#include "launcher/crew.h"
#include "launcher/hosts.h"
#include "launcher/key.h"
#include "launcher/leader.h"
#include "launcher/local.h"
#include "launcher/mpirun.h"
#include "launcher/options.h"

#define HANDOVER_BYTES_MAX ((size_t)1 << 20)
#define HANDOVER_WAIT_S    30.0

extern char **environ;

/* Variables for the ranks of all hosts; but not those that each host has for itself. */
static bool is_for_ranks(const char *entry)
{
    static const char *const prefixes[] = {
        "AWS_",          "SM_",          "SAGEMAKER_",       "CONVOY_",
        "OMP_",          "OMPI_MCA_",    "OPENBLAS_",        "HWLOC_",
        "HTTP_PROXY=",   "HTTPS_PROXY=", "NO_PROXY=",        "http_proxy=",
        "https_proxy=",  "no_proxy=",    "S3_ENDPOINT_URL=", "LD_LIBRARY_PATH=",
        "TRAINING_JOB_",
    };
    static const char *const own[] = {
        "CONVOY_READY=",    "CONVOY_MODEL_LEFT=", "CONVOY_FAILURE=",     "CONVOY_RSH=",
        "CONVOY_HOST=",     "CONVOY_JOB_KEY=",    "CONVOY_THREADS=",     "OMP_NUM_THREADS=",
        "SM_CURRENT_HOST=", "CONVOY_HOSTS=",      "SAGEMAKER_BASE_DIR=",
    };

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (strncmp(entry, own[i], strlen(own[i])) == 0)
            return false;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static json_t *environment(void)
{
    json_t *out = json_object();

    for (char **at = environ; *at != NULL; at++) {
        const size_t name = strcspn(*at, "=");
        char *key;

        if (!is_for_ranks(*at) || (*at)[name] == '\0')
            continue;
        key = strndup(*at, name);
        if (key == NULL)
            abort();
        if (json_object_set_new(out, key, json_string(*at + name + 1)) < 0)
            log_warn("%s is not handed over to other hosts: it is no UTF-8", key);
        free(key);
    }
    return out;
}

static const char *or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

int launch_handover_start(struct launch_peer *peer, const struct launch_leader_job *job, int port,
                          struct err *err)
{
    const struct launch_hosts *hosts = job->hosts;
    char key[65], folder[4096], leader[256] = "";
    char *text;
    json_t *all;
    int rc;

    launch_key_text(job->key, key);
    if (getcwd(folder, sizeof folder) == NULL)
        folder[0] = '\0';
    gethostname(leader, sizeof leader - 1);
    all = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:o}", "key", key,
                    "host", peer->host, "leader",
                    hosts->own < 0 ? leader : hosts->names.at[hosts->own], "address",
                    or_empty(job->options->leader_address), "job", job->job, "port", port, "ranks",
                    job->options->ranks, "threads", job->options->threads, "rendezvous",
                    job->options->rendezvous_s, "folder", folder, "path", or_empty(getenv("PATH")),
                    "environment", environment());
    text = all == NULL ? NULL : json_dumps(all, JSON_COMPACT);
    json_decref(all);
    if (text == NULL)
        return err_set(err, ERR_INPUT,
                       "the working folder, PATH or an option is no UTF-8: another host cannot be "
                       "told");
    rc = launch_ssh_start(&peer->ssh, peer->host, job->local->program, text, job->signals, err);
    explicit_bzero(text, strlen(text));
    explicit_bzero(key, sizeof key);
    free(text);
    return rc;
}

/* One line from standard input. */
static int read_line(struct buf *line, struct err *err)
{
    const double until_s = clock_now_s() + HANDOVER_WAIT_S;

    while (line->bytes == 0 || line->data[line->bytes - 1] != '\n') {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        const double left_s = until_s - clock_now_s();
        char bytes[4096];
        ssize_t got;

        if (left_s < 0 || line->bytes > HANDOVER_BYTES_MAX)
            break;
        if (poll(&in, 1, (int)(left_s * 1000) + 1) <= 0)
            continue;
        got = read(STDIN_FILENO, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        buf_append(line, bytes, (size_t)got);
    }
    if (line->bytes > 0 && line->data[line->bytes - 1] == '\n')
        return 0;
    return err_set(
        err, ERR_USAGE,
        "convoy agent is what `convoy train --hosts` starts over ssh, with a line on its "
        "standard input; it is not for people");
}

struct handover {
    json_t *tree;
    const char *key, *host, *leader, *address, *job, *folder, *path;
    int64_t port, ranks, threads, rendezvous;
};

static int read_handover(struct handover *h, struct err *err)
{
    static const char what[] = "what was handed over";
    struct buf line = {0};
    int rc = read_line(&line, err);

    if (rc == 0) {
        h->tree = json_read_text((const char *)line.data, line.bytes, what, err);
        rc = h->tree == NULL ? -1 : 0;
    }
    if (line.data != NULL)
        explicit_bzero(line.data, line.bytes);
    buf_release(&line);
    if (rc < 0)
        return -1;
    if (json_read_string(h->tree, "key", &h->key, what, err) < 0 ||
        json_read_string(h->tree, "host", &h->host, what, err) < 0 ||
        json_read_string(h->tree, "leader", &h->leader, what, err) < 0 ||
        json_read_string(h->tree, "address", &h->address, what, err) < 0 ||
        json_read_string(h->tree, "job", &h->job, what, err) < 0 ||
        json_read_string(h->tree, "folder", &h->folder, what, err) < 0 ||
        json_read_string(h->tree, "path", &h->path, what, err) < 0 ||
        json_read_integer(h->tree, "port", 1, 65535, &h->port, what, err) < 0 ||
        json_read_integer(h->tree, "ranks", 1, 1024, &h->ranks, what, err) < 0 ||
        json_read_integer(h->tree, "threads", 0, 1024, &h->threads, what, err) < 0 ||
        json_read_integer(h->tree, "rendezvous", 1, 86400, &h->rendezvous, what, err) < 0)
        return -1;
    return 0;
}

/* A shell that ssh starts without a terminal often has a short PATH: the leader's follows. */
static void extend_path(const char *more)
{
    const char *own = getenv("PATH");
    char *path;

    if (more[0] == '\0')
        return;
    if (asprintf(&path, "%s%s%s", own == NULL ? "" : own, own == NULL ? "" : ":", more) < 0)
        abort();
    setenv("PATH", path, 1);
    free(path);
}

static void apply_environment(const struct handover *h)
{
    json_t *all = json_object_get(h->tree, "environment"), *value;
    const char *name;

    json_object_foreach(all, name, value)
    {
        if (json_is_string(value) && name[0] != '\0')
            setenv(name, json_string_value(value), 1);
    }
    log_init("launcher:", false); /* CONVOY_LOG came along */
    extend_path(h->path);
    /* As mpirun does for ranks: relative paths mean the same where the folder is there. */
    if (h->folder[0] != '\0' && chdir(h->folder) < 0)
        log_warn("host '%s' has no folder '%s': relative paths begin at its home", h->host,
                 h->folder);
}

/* "CLIENT PORT SERVER PORT" */
static int find_leader(const struct handover *h, char address[256], struct err *err)
{
    const char *from = getenv("SSH_CONNECTION");

    if (h->address[0] != '\0')
        snprintf(address, 256, "%s", h->address);
    else if (from != NULL)
        snprintf(address, 256, "%.*s", (int)strcspn(from, " "), from);
    else
        return err_set(err, ERR_USAGE,
                       "no SSH_CONNECTION says where the first host is: give "
                       "--leader-address");
    return 0;
}

static int serve(const struct handover *h, struct launch_outcome *outcome, struct err *err)
{
    struct launch_signals signals;
    struct launch_local local = {0};
    struct launch_agent_job job = {.host = h->host,
                                   .leader = h->leader,
                                   .port = (int)h->port,
                                   .rendezvous_s = (int)h->rendezvous,
                                   .job = h->job,
                                   .input = STDIN_FILENO,
                                   .local = &local,
                                   .signals = &signals};
    char address[256];

    if (find_leader(h, address, err) < 0)
        return -1;
    if (!launch_key_read(h->key, job.key))
        return err_set(err, ERR_USAGE, "what was handed over has no key");
    job.address = address;
    launch_signals_init(&signals);
    apply_environment(h);
    if (launch_local_open(&local, &signals, err) < 0)
        return -1;
    launch_local_set_threads((int)h->threads, (int)h->ranks);
    launch_mpirun_settings(true);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    launch_agent_run(&job, outcome);
    launch_local_close(&local);
    explicit_bzero(job.key, sizeof job.key);
    return 0;
}

int launch_handover_serve(int *status, struct err *err)
{
    struct launch_outcome outcome = {0};
    struct handover h = {0};
    int rc = -1;

    if (read_handover(&h, err) == 0)
        rc = serve(&h, &outcome, err);
    json_decref(h.tree);
    *status = outcome.code;
    return rc;
}
