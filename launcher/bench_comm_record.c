#include "launcher/bench_comm_record.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "launcher/machine.h"

static json_t *object_of(const char *what)
{
    return json_pack("{s:s, s:s}", "bench", "comm", "what", what);
}

/* Takes the value; none for a text that is no UTF-8. */
static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value == NULL ? json_null() : value);
}

int launch_bench_comm_record_setting(struct launch_bench_record *record,
                                     const struct launch_bench_comm_report *report,
                                     const char *command, struct err *err)
{
    const struct launch_bench_comm_options *const o = report->options;
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
    if (o->link != NULL)
        set(object, "link", json_string(o->link));
    set(object, "ranks_per_host", json_integer(o->ranks_per_host));
    set(object, "rounds", json_integer(o->rounds));
    return launch_bench_record_line(record, object, err);
}

int launch_bench_comm_record_run(struct launch_bench_record *record, const char *lines,
                                 struct err *err)
{
    for (const char *at = lines; !record->results_only && *at != '\0';) {
        const size_t bytes = strcspn(at, "\n");
        struct err ignored = {0};
        json_t *const said = json_read_text(at, bytes, "a line", &ignored);
        json_t *object;

        at += bytes + (at[bytes] == '\n');
        if (said == NULL)
            continue;
        object = object_of("run");
        json_object_update(object, said);
        json_object_del(object, "event");
        json_decref(said);
        if (launch_bench_record_line(record, object, err) < 0)
            return -1;
    }
    return 0;
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

static json_t *result(const struct launch_bench_comm_report *report, int size,
                      const char *algorithm)
{
    json_t *const object = object_of("result");

    set(object, "bytes", json_integer((json_int_t)report->sums->bytes[size]));
    set(object, "ranks", json_integer(report->sums->ranks));
    set(object, "hosts", json_integer(report->sums->hosts));
    set(object, "algorithm", json_string(algorithm));
    return object;
}

static json_t *result_of_way(const struct launch_bench_comm_report *report, int size, int way)
{
    const struct launch_bench_sums *const sums = report->sums;
    const struct launch_bench_sums_summary s = launch_bench_sums_summarise(sums, size, way);
    const double link = report->options->link_bytes_per_s;
    json_t *const object = result(report, size, sums->names[way]);

    set(object, "repeats", json_integer(sums->rounds));
    set_spread(object, "seconds", &s.seconds);
    set(object, "bytes_per_s", json_real((double)sums->bytes[size] / s.seconds.median));
    if (link > 0)
        set(object, "bound_share",
            json_real(launch_bench_sums_bound(sums, size, link) / s.seconds.median));
    set_spread(object, "cpu_ms_per_mb", &s.cpu_ms_per_mb);
    if (way == LAUNCH_BENCH_OURS)
        set_spread(object, "exchange_cpu_ms_per_mb", &s.exchange_cpu_ms_per_mb);
    else
        set_spread(object, "convoy_ratio", &s.ours);
    if (way == launch_bench_sums_best(sums, size))
        set(object, "best", json_true());
    return object;
}

static int write_size(struct launch_bench_record *record,
                      const struct launch_bench_comm_report *report, int size, struct err *err)
{
    const double link = report->options->link_bytes_per_s;
    json_t *bound;

    for (int way = 0; way < report->sums->way_count; way++)
        if (launch_bench_sums_measured(report->sums, size, way) &&
            launch_bench_record_line(record, result_of_way(report, size, way), err) < 0)
            return -1;
    if (link == 0)
        return 0;
    bound = result(report, size, "wire-bound");
    set(bound, "seconds", json_real(launch_bench_sums_bound(report->sums, size, link)));
    return launch_bench_record_line(record, bound, err);
}

int launch_bench_comm_record_results(struct launch_bench_record *record,
                                     const struct launch_bench_comm_report *report, struct err *err)
{
    for (int size = 0; size < report->sums->size_count; size++)
        if (write_size(record, report, size, err) < 0)
            return -1;
    return 0;
}
