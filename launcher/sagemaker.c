#include "launcher/sagemaker.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/failure.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "base/uri.h"
#include "launcher/channels.h"
#include "launcher/export.h"
#include "launcher/hosts.h"
#include "launcher/hyperparameters.h"

#define TREE             "/opt/ml"
#define CONFIG_BYTES_MAX ((size_t)1 << 20)
#define HOST_BYTES_MAX   253 /* of a name in the DNS (RFC 1035) */
#define IFACE_BYTES_MAX  15  /* of a network interface in Linux */
#define WORD_CHARACTERS  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

/* --- resourceconfig.json --- */

/* Names go into mpirun's words and options, where a comma or a leading dash means something else.
 */
static bool is_word(const char *name, size_t bytes_max, const char *more)
{
    size_t bytes = 0;

    while (name[bytes] != '\0' &&
           (strchr(WORD_CHARACTERS, name[bytes]) != NULL || strchr(more, name[bytes]) != NULL))
        bytes++;
    return name[bytes] == '\0' && bytes >= 1 && bytes <= bytes_max && name[0] != '-';
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool contains(const struct launch_words *words, const char *word)
{
    for (size_t i = 0; i < words->count; i++)
        if (strcmp(words->at[i], word) == 0)
            return true;
    return false;
}

/* Sorted, each name once. */
static int read_hosts(struct launch_words *hosts, const json_t *object, const char *file,
                      struct err *err)
{
    const json_t *const list = json_read_array(object, "hosts", file, err), *entry = NULL;
    size_t i = 0;

    if (list == NULL)
        return -1;
    json_array_foreach(list, i, entry)
    {
        const char *const name = json_string_value(entry);

        if (name == NULL || !is_word(name, HOST_BYTES_MAX, ""))
            return err_set(err, ERR_INPUT, "%s: 'hosts' has an entry that can be no host's name",
                           file);
        if (!contains(hosts, name))
            launch_words_push(hosts, name);
    }
    if (hosts->count > 0)
        qsort(hosts->at, hosts->count, sizeof hosts->at[0], compare_words);
    return 0;
}

/* A member that older or stranger files leave out. */
static int read_optional(const json_t *object, const char *key, const char **value,
                         const char *file, struct err *err)
{
    const json_t *const found = json_object_get(object, key);

    *value = NULL;
    return found == NULL || json_is_null(found) ? 0
                                                : json_read_string(object, key, value, file, err);
}

static int read_group_name(const json_t *tree, const char **name, const char *file, struct err *err)
{
    if (read_optional(tree, "current_group_name", name, file, err) < 0)
        return -1;
    return *name != NULL ? 0 : read_optional(tree, "current_instance_group", name, file, err);
}

/* Our group in a job of several: the hosts that train together. NULL where the file knows none. */
static int find_group(const json_t *tree, const json_t **group, const char *file, struct err *err)
{
    const json_t *const groups = json_object_get(tree, "instance_groups"), *entry = NULL;
    const char *ours = NULL;
    size_t i = 0;

    *group = NULL;
    if (read_group_name(tree, &ours, file, err) < 0)
        return -1;
    if (ours == NULL || json_array_size(groups) == 0)
        return 0;
    json_array_foreach(groups, i, entry)
    {
        const char *name = NULL;

        if (json_read_string(entry, "instance_group_name", &name, file, err) < 0)
            return err_wrap(err, "instance_groups");
        if (strcmp(name, ours) == 0)
            *group = entry;
    }
    return *group != NULL
               ? 0
               : err_set(err, ERR_INPUT,
                         "%s: the current group '%s' is not among the instance_groups", file, ours);
}

static int check_current(const struct launch_words *hosts, const char *current, const char *source,
                         struct err *err)
{
    struct buf list = {0};

    if (contains(hosts, current))
        return 0;
    for (size_t i = 0; i < hosts->count; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : ", ", hosts->at[i]);
    err_set(err, ERR_INPUT, "%s: the current host '%s' is not among the hosts: %.300s", source,
            current, hosts->count == 0 ? "there are none" : buf_text(&list));
    buf_release(&list);
    return -1;
}

static bool same_words(const struct launch_words *a, const struct launch_words *b)
{
    for (size_t i = 0; a->count == b->count && i < a->count; i++)
        if (strcmp(a->at[i], b->at[i]) != 0)
            return false;
    return a->count == b->count;
}

/* SM_HOSTS comes before the file, but as what it mostly is a copy of the file's, or of ours, it
 * says nothing new. */
static int apply_variable(struct launch_sagemaker *s, const struct launch_words *all,
                          struct err *err)
{
    const char *const json = text_variable("SM_HOSTS");
    struct launch_words own = {0};
    int rc = -1;

    if (json == NULL)
        return 0;
    if (launch_hosts_from_json(&own, json, err) < 0)
        goto out;
    qsort(own.at, own.count, sizeof own.at[0], compare_words);
    if (same_words(&own, all) || same_words(&own, &s->hosts)) {
        rc = 0;
        goto out;
    }
    if (check_current(&own, s->current, "SM_HOSTS", err) < 0)
        goto out;
    log_warn("SM_HOSTS differs from the hosts of resourceconfig.json: those of SM_HOSTS are taken");
    launch_words_release(&s->hosts);
    s->hosts = own;
    return 0;
out:
    launch_words_release(&own);
    return rc;
}

/* Who we are and with whom; `all` are the hosts of every group. */
static int read_identity(struct launch_sagemaker *s, const json_t *tree, struct launch_words *all,
                         const char *file, struct err *err)
{
    const char *current = NULL, *interface = NULL;
    const json_t *group = NULL;

    if (json_read_string(tree, "current_host", &current, file, err) < 0 ||
        read_hosts(all, tree, file, err) < 0 || check_current(all, current, file, err) < 0 ||
        find_group(tree, &group, file, err) < 0 ||
        read_optional(tree, "network_interface_name", &interface, file, err) < 0)
        return -1;
    if (interface != NULL && !is_word(interface, IFACE_BYTES_MAX, ":@"))
        return err_set(err, ERR_INPUT, "%s: network_interface_name '%s' can be no interface's name",
                       file, interface);
    if (group == NULL)
        launch_words_push_all(&s->hosts, all);
    else if (read_hosts(&s->hosts, group, file, err) < 0 ||
             check_current(&s->hosts, current, file, err) < 0)
        return err_wrap(err, "our instance group");
    if (s->hosts.count < all->count)
        log_info("of the job's %zu hosts, the %zu of our instance group train together", all->count,
                 s->hosts.count);
    s->current = text_copy(current);
    s->interface = text_copy(interface);
    return apply_variable(s, all, err);
}

/* --- the environment --- */

/* Paths of the tree under their names. */
static void export_paths(const char *base, json_t *env)
{
    static const struct {
        const char *variable, *key, *path;
    } paths[] = {
        {"SM_MODEL_DIR", "model_dir", "model"},
        {"SM_OUTPUT_DIR", "output_dir", "output"},
        {"SM_OUTPUT_DATA_DIR", "output_data_dir", "output/data"},
        {"SM_OUTPUT_INTERMEDIATE_DIR", "output_intermediate_dir", "output/intermediate"},
        {"SM_OUTPUT_FAILURE", NULL, "output/failure"},
        {"SM_INPUT_DIR", "input_dir", "input"},
        {"SM_INPUT_CONFIG_DIR", "input_config_dir", "input/config"},
        {"SM_INPUT_DATA_DIR", NULL, "input/data"},
    };

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *const path = uri_join(base, paths[i].path);

        launch_export(paths[i].variable, path);
        if (paths[i].key != NULL)
            json_object_set_new(env, paths[i].key, json_string(getenv(paths[i].variable)));
        free(path);
    }
}

static void export_integer(const char *name, const char *key, long value, json_t *env)
{
    char text[24];

    snprintf(text, sizeof text, "%ld", value);
    launch_export(name, text);
    if (key != NULL)
        json_object_set_new(env, key, json_integer(value));
}

static void export_machine(json_t *env)
{
    cpu_set_t cpus;
    const char *const job = text_variable("TRAINING_JOB_NAME");

    CPU_ZERO(&cpus);
    if (sched_getaffinity(0, sizeof cpus, &cpus) < 0)
        CPU_SET(0, &cpus);
    export_integer("SM_NUM_CPUS", "num_cpus", CPU_COUNT(&cpus), env);
    export_integer("SM_NUM_GPUS", "num_gpus", 0, env);
    export_integer("SM_NUM_NEURONS", "num_neurons", 0, env);
    export_integer("SM_LOG_LEVEL", "log_level", 20, env); /* Python's INFO */
    launch_export("SM_MODULE_NAME", "train");
    launch_export("SM_USER_ENTRY_POINT", "train");
    if (job != NULL)
        json_object_set_new(env, "job_name", json_string(job));
}

static json_t *words_json(const struct launch_words *words)
{
    json_t *const list = json_array();

    for (size_t i = 0; i < words->count; i++)
        json_array_append_new(list, json_string(words->at[i]));
    return list;
}

/* Names of the groups, and the groups by name. */
static void export_groups(const json_t *tree, const struct launch_sagemaker *s)
{
    const json_t *const groups = json_object_get(tree, "instance_groups");
    json_t *const names = json_array(), *const by_name = json_object(), *const none = json_array(),
                  *const hosts = words_json(&s->hosts), *entry = NULL;
    size_t i = 0;

    json_array_foreach(groups, i, entry)
    {
        json_t *const name = json_object_get(entry, "instance_group_name");

        if (json_is_string(name) && json_array_append(names, name) == 0)
            json_object_set(by_name, json_string_value(name), entry);
    }
    if (i > 0) {
        launch_export_json("SM_INSTANCE_GROUPS", names);
        launch_export_json("SM_INSTANCE_GROUPS_DICT", by_name);
    }
    launch_export_json("SM_CURRENT_INSTANCE_GROUP_HOSTS", hosts);
    launch_export_json("SM_DISTRIBUTION_INSTANCE_GROUPS", none);
    launch_export("SM_IS_HETERO", i > 1 ? "true" : "false");
    json_decref(hosts);
    json_decref(none);
    json_decref(by_name);
    json_decref(names);
}

static void export_cluster(const struct launch_sagemaker *s, const json_t *tree,
                           const struct launch_words *all, json_t *env)
{
    json_t *const hosts = words_json(all);
    const char *group = NULL, *type = NULL;
    long place = 0;

    while (strcmp(s->hosts.at[place], s->current) != 0)
        place++;
    setenv("SM_CURRENT_HOST", s->current, 1); /* others' launchers export the leader's everywhere */
    setenv("CONVOY_HOST", s->current, 1);
    launch_export_json("SM_HOSTS", hosts);
    launch_export("SM_NETWORK_INTERFACE_NAME", s->interface);
    launch_export_json("SM_RESOURCE_CONFIG", tree);
    launch_export("SM_MASTER_ADDR", s->hosts.at[0]);
    launch_export("SM_MASTER_PORT", "7777");
    export_integer("SM_HOST_COUNT", NULL, (long)s->hosts.count, env);
    export_integer("CONVOY_HOSTS", NULL, (long)s->hosts.count, env);
    export_integer("SM_CURRENT_HOST_RANK", NULL, place, env);
    export_groups(tree, s);
    if (read_group_name(tree, &group, "", NULL) == 0)
        launch_export("SM_CURRENT_INSTANCE_GROUP", group);
    if (read_optional(tree, "current_instance_type", &type, "", NULL) == 0)
        launch_export("SM_CURRENT_INSTANCE_TYPE", type);
    if (json_object_get(tree, "topology") != NULL)
        launch_export_json("SM_TOPOLOGY", json_object_get(tree, "topology"));
    json_object_set_new(env, "current_host", json_string(s->current));
    json_object_set_new(env, "hosts", hosts);
    json_object_set_new(env, "is_master", json_boolean(place == 0));
    json_object_set_new(env, "master_hostname", json_string(s->hosts.at[0]));
    if (s->interface != NULL)
        json_object_set_new(env, "network_interface_name", json_string(s->interface));
}

/* --- the files --- */

static int read_resources(struct launch_sagemaker *s, json_t *env, struct err *err)
{
    char *const file = uri_join(s->base, "input/config/resourceconfig.json");
    struct launch_words all = {0};
    json_t *tree = NULL;
    int rc = 0;

    if (!file_exists(file)) /* a job's ARN alone: this host by itself */
        goto out;
    tree = json_read_file(file, CONFIG_BYTES_MAX, err);
    rc = tree == NULL ? -1 : read_identity(s, tree, &all, file, err);
    if (rc < 0)
        goto out;
    export_cluster(s, tree, &all, env);
    json_object_set(env, "resource_config", tree);
out:
    json_decref(tree);
    launch_words_release(&all);
    free(file);
    return rc;
}

/* The platform's folder: as it is, below another base where /opt/ml is one. */
static char *below_base(const char *base, const char *path)
{
    const size_t bytes = strlen(TREE);

    if (strncmp(path, TREE, bytes) == 0 && (path[bytes] == '/' || path[bytes] == '\0'))
        return uri_join(base, path + bytes);
    return text_copy(path);
}

static int read_checkpoints(const struct launch_sagemaker *s, struct err *err)
{
    char *const file = uri_join(s->base, "input/config/checkpointconfig.json");
    char *folder = uri_join(s->base, "checkpoints");
    const char *path = NULL;
    json_t *tree = NULL;
    int rc = 0;

    if (!file_exists(file))
        goto out;
    tree = json_read_file(file, CONFIG_BYTES_MAX, err);
    rc = tree == NULL ? -1 : read_optional(tree, "LocalPath", &path, file, err);
    if (rc == 0 && path != NULL && path[0] != '/')
        rc = err_set(err, ERR_INPUT, "%s: LocalPath '%s' is no absolute path", file, path);
    if (rc == 0 && path != NULL) {
        free(folder);
        folder = below_base(s->base, path);
    }
out:
    if (rc == 0)
        launch_export("CONVOY_CHECKPOINT", folder);
    json_decref(tree);
    free(folder);
    free(file);
    return rc;
}

static int read_all(struct launch_sagemaker *s, json_t *env, struct err *err)
{
    json_t *const folders = json_object(), *const decoded = json_object();
    int rc = -1;

    json_object_set_new(env, "channel_input_dirs", folders);
    json_object_set_new(env, "hyperparameters", decoded);
    if (read_resources(s, env, err) < 0 ||
        launch_channels_export(s->base, folders, &s->pipes, err) < 0 ||
        launch_hyperparameters_export(s->base, decoded, err) < 0 || read_checkpoints(s, err) < 0)
        goto out;
    launch_export("CONVOY_MODEL_ON_STOP", "1"); /* what is in the model folder then is uploaded */
    export_paths(s->base, env);
    export_machine(env);
    launch_export_json("SM_TRAINING_ENV", env);
    rc = 0;
out:
    return rc;
}

int launch_sagemaker_read(struct launch_sagemaker *sagemaker, struct err *err)
{
    const char *const base = text_variable("SAGEMAKER_BASE_DIR"),
                      *arn = text_variable("TRAINING_JOB_ARN");
    char *file = NULL;
    json_t *env = NULL;
    int rc = 0;

    *sagemaker = (struct launch_sagemaker){.base = text_copy(base != NULL ? base : TREE)};
    file = uri_join(sagemaker->base, "input/config/resourceconfig.json");
    sagemaker->active = arn != NULL || file_exists(file);
    free(file);
    if (!sagemaker->active)
        return 0;
    sagemaker->job = text_copy(arn != NULL ? arn : text_variable("TRAINING_JOB_NAME"));
    env = json_object();
    rc = read_all(sagemaker, env, err);
    json_decref(env);
    return rc;
}

void launch_sagemaker_release(struct launch_sagemaker *sagemaker)
{
    free(sagemaker->base);
    free(sagemaker->job);
    free(sagemaker->current);
    free(sagemaker->interface);
    launch_words_release(&sagemaker->hosts);
    launch_words_release(&sagemaker->pipes);
    *sagemaker = (struct launch_sagemaker){0};
}

const char *launch_sagemaker_late(const struct launch_sagemaker *sagemaker)
{
    return sagemaker == NULL || sagemaker->pipes.count == 0
               ? ""
               : "; hosts meet when each has read its channels in Pipe mode: where one takes that "
                 "much longer, give more time (--rendezvous-timeout)";
}

void launch_sagemaker_fail(const struct launch_sagemaker *sagemaker, const char *reason)
{
    char where[HOST_BYTES_MAX + 8] = "";
    struct err err = {0};
    char *path = NULL;

    if (!sagemaker->active)
        return;
    path = uri_join(sagemaker->base, "output/failure");
    if (sagemaker->current != NULL && strstr(reason, sagemaker->current) == NULL)
        snprintf(where, sizeof where, "host %s", sagemaker->current);
    if (failure_write(path, reason, where, &err) < 0)
        log_warn("cannot write the reason of the failure: %s", err.msg);
    free(path);
}
