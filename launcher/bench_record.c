#include "launcher/bench_record.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "launcher/machine.h"

int launch_bench_record_open(struct launch_bench_record *record, const char *path,
                             bool results_only, struct err *err)
{
    *record = (struct launch_bench_record){.results_only = results_only};
    if (path == NULL)
        return 0;
    record->path = path;
    record->file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
    if (record->file == NULL)
        return err_set_errno(err, ERR_USAGE, errno, "--json: cannot write '%s'", path);
    return 0;
}

void launch_bench_record_close(struct launch_bench_record *record)
{
    if (record->file != NULL && record->file != stdout)
        fclose(record->file);
    *record = (struct launch_bench_record){0};
}

int launch_bench_record_line(struct launch_bench_record *record, json_t *object, struct err *err)
{
    int rc = 0;

    if (record->file != NULL &&
        (json_dumpf(object, record->file, JSON_COMPACT | JSON_REAL_PRECISION(9)) < 0 ||
         fputc('\n', record->file) == EOF || fflush(record->file) == EOF))
        rc = err_set_errno(err, ERR_IO, errno, "--json: cannot write '%s'", record->path);
    json_decref(object);
    return rc;
}

static json_t *object_of(const char *what)
{
    return json_pack("{s:s, s:s}", "bench", "scaling", "what", what);
}

/* Takes the value; none for a text that is no UTF-8. */
static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value == NULL ? json_null() : value);
}

void launch_bench_record_machine(json_t *object, const struct launch_machine *machine)
{
    set(object, "host", json_string(machine->host));
    set(object, "cpu", json_string(machine->cpu));
    set(object, "cores", json_integer(machine->cores));
    set(object, "memory_bytes", json_integer((json_int_t)machine->memory_bytes));
    set(object, "load", json_real(machine->load));
    set(object, "kernel", json_string(machine->kernel));
}

int launch_bench_record_setting(struct launch_bench_record *record,
                                const struct launch_bench_report *report, const char *command,
                                struct err *err)
{
    const struct launch_bench_options *o = report->options;
    json_t *object, *hosts;

    if (record->results_only)
        return 0;
    object = object_of("setting");
    hosts = json_array();
    for (size_t i = 0; o->by_hosts && i < o->hosts.names.count; i++)
        json_array_append_new(hosts, json_string(o->hosts.names.at[i]));
    set(object, "time", json_string(report->time));
    set(object, "command", json_string(command));
    set(object, "convoy", json_string(report->version));
    launch_bench_record_machine(object, report->machine);
    set(object, "hosts", hosts);
    set(object, "model", json_string(o->model));
    if (o->data != NULL)
        set(object, "data", json_string(o->data));
    set(object, "steps", json_integer(o->steps));
    set(object, "rounds", json_integer(o->rounds));
    return launch_bench_record_line(record, object, err);
}

int launch_bench_record_run(struct launch_bench_record *record,
                            const struct launch_bench_point *point, enum launch_bench_way way,
                            int round, const char *command, const json_t *figures, struct err *err)
{
    json_t *object, *copy;

    if (record->results_only)
        return 0;
    object = object_of("run");
    copy = json_copy((json_t *)figures);
    json_object_del(copy, "event");
    set(object, "mode", json_string(launch_bench_mode_name(point->mode)));
    set(object, "way", json_string(launch_bench_way_name(way)));
    set(object, "hosts", json_integer(point->hosts));
    set(object, "round", json_integer(round));
    json_object_update(object, copy);
    json_decref(copy);
    set(object, "command", json_string(command));
    return launch_bench_record_line(record, object, err);
}

/* NAME, NAME_min, NAME_max. */
static void set_spread(json_t *object, const char *name, const struct launch_bench_spread *spread)
{
    const struct {
        const char *suffix;
        double value;
    } all[] = {{"", spread->median}, {"_min", spread->min}, {"_max", spread->max}};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char key[64];

        snprintf(key, sizeof key, "%s%s", name, all[i].suffix);
        set(object, key, json_real(all[i].value));
    }
}

static json_t *result(const struct launch_bench_report *report,
                      const struct launch_bench_point *point)
{
    const struct launch_bench_point *baseline = launch_bench_baseline(report, point);
    const struct launch_bench_options *o = report->options;
    const struct launch_bench_summary s = launch_bench_summarise(point, baseline, o->rounds);
    json_t *object = object_of("result");

    set(object, "mode", json_string(launch_bench_mode_name(point->mode)));
    set(object, "hosts", json_integer(point->hosts));
    set(object, "ranks", json_integer(point->ranks));
    set(object, "global_batch", json_integer(point->global_batch));
    set(object, "steps", json_integer(o->steps));
    set(object, "repeats", json_integer(o->rounds));
    set_spread(object, "images_per_s", &s.images_per_s);
    set_spread(object, "speedup", &s.speedup);
    set_spread(object, "efficiency", &s.efficiency);
    set_spread(object, "side_by_side_images_per_s", &s.side_by_side);
    set_spread(object, "efficiency_side_by_side", &s.efficiency_side_by_side);
    set_spread(object, "rank_wait_share", &s.ranks_share);
    set_spread(object, "exposed_exchange_share", &s.exchange_share);
    set_spread(object, "input_wait_share", &s.input_share);
    set_spread(object, "imbalance", &s.imbalance);
    set_spread(object, "seconds", &s.seconds);
    set(object, "efficiency_limit", json_real(launch_bench_limit(point, baseline)));
    return object;
}

int launch_bench_record_results(struct launch_bench_record *record,
                                const struct launch_bench_report *report, struct err *err)
{
    for (size_t i = 0; i < report->count; i++)
        if (launch_bench_record_line(record, result(report, &report->points[i]), err) < 0)
            return -1;
    return 0;
}
