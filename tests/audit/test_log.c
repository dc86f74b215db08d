/* tests/audit/test_log.c -- a rank's file from launch to launch. */
#include "trainer/audit/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/file.h"

static char folder[] = "/tmp/convoy-audit-XXXXXX";
static char path[64];

static struct audit_begin begin_at(uint64_t step)
{
    return (struct audit_begin){
        .launch = "l",
        .generation = 1,
        .ranks = 2,
        .resumed_step = step,
        .order = {.samples = 20, .chunk_samples = 2, .seed = 1, .batch = 4, .lanes = 2}};
}

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/new/run.audit", folder);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static int remove_folder(void **state)
{
    char sub[64];

    (void)state;
    snprintf(sub, sizeof sub, "%s/new", folder);
    rmdir(sub);
    return rmdir(folder);
}

static void write_step(struct audit_log *log, uint64_t step)
{
    static const uint64_t samples[] = {1, 2};
    struct err err = {0};

    audit_log_step(log, 0, step - 1, step);
    audit_log_lane(log, 0, samples, 2, NULL, 0);
    assert_int_equal(audit_log_write(log, &err), 0);
}

static void open_at(struct audit_log *log, uint64_t step)
{
    const struct audit_begin begin = begin_at(step);
    struct err err = {0};

    if (audit_log_open(log, path, &begin, &err) < 0)
        fail_msg("%s", err.msg);
}

static int records(void)
{
    struct buf file = {0};
    struct audit_frame frame;
    struct err err = {0};
    size_t at = 0;
    int count = 0;

    assert_int_equal(file_read(path, 1 << 20, &file, &err), 0);
    while (audit_read(file.data, file.bytes, &at, &frame) == AUDIT_READ_FRAME)
        count++;
    assert_int_equal(at, file.bytes);
    buf_release(&file);
    return count;
}

static void refuses(const struct audit_begin *begin, const char *why)
{
    struct audit_log log;
    struct err err = {0};

    assert_int_equal(audit_log_open(&log, path, begin, &err), -1);
    assert_int_equal(err.code, ERR_USAGE);
    assert_non_null(strstr(err.msg, why));
    audit_log_release(&log);
}

static void path_has_the_rank_behind_it(void **state)
{
    char *first = audit_log_path("a", 0), *eleventh = audit_log_path("a", 10);

    (void)state;
    assert_string_equal(first, "a");
    assert_string_equal(eleventh, "a.rank-10");
    free(first);
    free(eleventh);
}

static void log_goes_on_behind_what_is_whole(void **state)
{
    struct audit_log log;
    struct stat there;

    (void)state;
    open_at(&log, 0);
    write_step(&log, 1);
    write_step(&log, 2);
    audit_log_release(&log);
    assert_int_equal(stat(path, &there), 0);
    assert_int_equal(truncate(path, there.st_size - 3), 0);
    open_at(&log, 1);
    write_step(&log, 2);
    audit_log_release(&log);
    assert_int_equal(records(), 4); /* begin, 1; begin, 2 */
    assert_int_equal(truncate(path, 5), 0);
    open_at(&log, 0);
    audit_log_release(&log);
    assert_int_equal(records(), 1);
}

static void log_refuses_what_is_not_of_this_run(void **state)
{
    struct audit_begin begin = begin_at(0);
    const struct audit_end end = {.how = AUDIT_FINISHED, .step = 1};
    struct audit_log log;
    struct err err = {0};

    (void)state;
    open_at(&log, 0);
    audit_log_release(&log);
    begin.order.seed++;
    refuses(&begin, "is of another run");
    begin = begin_at(0);
    begin.fingerprint[31] = 1;
    refuses(&begin, "is of another run");
    open_at(&log, 0); /* a start that begins anew, since nothing was saved */
    write_step(&log, 1);
    assert_int_equal(audit_log_end(&log, &end, &err), 0);
    audit_log_release(&log);
    begin = begin_at(0);
    refuses(&begin, "is of a run that has finished");
    open_at(&log, 1); /* for more epochs */
    audit_log_release(&log);
    assert_int_equal(file_replace(path, "my holidays", 11, &err), 0);
    refuses(&begin, "is no audit, or is damaged at byte 0");
}

static void log_says_when_it_cannot_be_written(void **state)
{
    struct audit_log log;
    struct err err = {0};

    (void)state;
    open_at(&log, 0);
    close(log.fd);
    log.fd = open("/dev/full", O_WRONLY);
    assert_true(log.fd >= 0);
    audit_log_step(&log, 0, 0, 1);
    assert_int_equal(audit_log_write(&log, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "cannot write the audit"));
    audit_log_release(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_has_the_rank_behind_it),
        cmocka_unit_test_teardown(log_goes_on_behind_what_is_whole, remove_file),
        cmocka_unit_test_teardown(log_refuses_what_is_not_of_this_run, remove_file),
        cmocka_unit_test_teardown(log_says_when_it_cannot_be_written, remove_file),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
