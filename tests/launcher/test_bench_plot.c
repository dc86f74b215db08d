/* tests/launcher/test_bench_plot.c */
#include "launcher/bench_plot.h"

#include <expat.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "launcher/svg.h"
#include "tests/launcher/bench_bed.h"

#define TEXTS_MAX 200
#define WIDTH     800
#define HEIGHT    500

/* What a drawing says: its texts, and how many there are of some things. */
struct seen {
    char texts[TEXTS_MAX][256];
    int text_count, circles, squares, lines, groups, scripts;
    double lowest_y, highest_y, rightmost_x; /* of discs, and of all */
    bool in_text;
};

static const char *attribute(const XML_Char **attributes, const char *name)
{
    for (size_t i = 0; attributes[i] != NULL; i += 2)
        if (strcmp(attributes[i], name) == 0)
            return attributes[i + 1];
    return "";
}

static void on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
    struct seen *const seen = user;
    const char *const class = attribute(attributes, "class");
    const double x = atof(attribute(attributes, "x"));

    seen->circles += strcmp(class, "disc") == 0;
    seen->squares += strcmp(class, "box") == 0;
    seen->lines += strcmp(class, "ideal") == 0;
    seen->groups += strcmp(name, "g") == 0;
    seen->scripts += strcmp(name, "script") == 0;
    seen->rightmost_x = fmax(seen->rightmost_x, x);
    seen->in_text = strcmp(name, "text") == 0 && seen->text_count < TEXTS_MAX;
}

static void on_end(void *user, const XML_Char *name)
{
    struct seen *const seen = user;

    (void)name;
    seen->text_count += seen->in_text;
    seen->in_text = false;
}

static void on_text(void *user, const XML_Char *text, int bytes)
{
    struct seen *const seen = user;

    if (seen->in_text)
        strncat(seen->texts[seen->text_count], text, (size_t)bytes);
}

/* 0 where it is no XML. */
static int look(struct buf *svg, struct seen *seen)
{
    XML_Parser parser = XML_ParserCreate(NULL);
    int good;

    *seen = (struct seen){0};
    XML_SetUserData(parser, seen);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    good = XML_Parse(parser, (const char *)svg->data, (int)svg->bytes, 1) == XML_STATUS_OK;
    XML_ParserFree(parser);
    return good;
}

static int says(const struct seen *seen, const char *text)
{
    int count = 0;

    for (int i = 0; i < seen->text_count; i++)
        count += strcmp(seen->texts[i], text) == 0;
    return count;
}

static void draw(struct bench_bed *bed, struct seen *seen)
{
    struct buf svg = {0};

    launch_bench_plot_draw(&bed->report, &svg);
    assert_true(look(&svg, seen));
    assert_non_null(strstr(buf_text(&svg), "width=\"800\""));
    buf_release(&svg);
}

static struct bench_bed bed;
static struct seen seen;

static void plot_has_axes_units_and_every_point_of_both_modes(void **state)
{
    (void)state;
    bench_bed_init(&bed, (const int[]){1, 2, 4, 0}, true, true);
    draw(&bed, &seen);
    assert_int_equal(says(&seen, "resnet18, 224 x 224 pixels: images/s by hosts"), 1);
    assert_int_equal(says(&seen, "images/s"), 1);
    assert_int_equal(says(&seen, "hosts"), 2);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(says(&seen, (const char *[]){"1", "2", "4"}[i]), 2);
    assert_int_equal(says(&seen, "weak: 32 images of a step on each rank"), 1);
    assert_int_equal(says(&seen, "strong: 512 images of a step on all ranks"), 1);
    assert_int_equal(seen.circles, 6 + 1); /* and the legend's */
    assert_int_equal(seen.squares, 6 + 1);
    assert_int_equal(seen.lines, 2 + 1);
    assert_int_equal(seen.groups, 12);
    assert_int_equal(says(&seen, "90.0 %"), 4); /* 2 and 4 hosts */
    assert_int_equal(says(&seen, "node-1: A CPU @ 3.00GHz, 8 cores"), 1);
    assert_int_equal(
        says(&seen, "Linux 6.1.0 x86_64, convoy 0.1.0, 2026-11-22T04:00:00Z, load 0.1"), 1);
    assert_int_equal(seen.scripts, 0);
    assert_true(seen.rightmost_x < WIDTH);
}

/* 100 images/s with one host, 180 with two: on a scale from 0 to 250, as 201.6 (the best round side
 * by side) has to have room. */
static void plot_puts_points_where_the_scale_says(void **state)
{
    struct buf svg = {0};

    (void)state;
    bench_bed_init(&bed, (const int[]){1, 2, 0}, true, false);
    launch_bench_plot_draw(&bed.report, &svg);
    assert_true(look(&svg, &seen));
    assert_int_equal(says(&seen, "250") + says(&seen, "0"), 2);
    /* 74 + 710 * 1 / 2.34 and 98 + 288 * (1 - 100 / 250); 74 + 710 * 2 / 2.34 and ... 180 */
    assert_non_null(strstr(buf_text(&svg), "cx=\"377.4\" cy=\"270.8\""));
    assert_non_null(strstr(buf_text(&svg), "cx=\"680.8\" cy=\"178.6\""));
    assert_non_null(strstr(buf_text(&svg), "class=\"ideal\" x1=\"74.0\" y1=\"386.0\" x2=\"680.8\" "
                                           "y2=\"155.6\""));
    assert_non_null(strstr(buf_text(&svg), "2 hosts: 180 images/s (171 to 189)"));
    assert_non_null(strstr(buf_text(&svg), "2 hosts side by side: 192 images/s (182.4 to 201.6)"));
    buf_release(&svg);
}

static void plot_leaves_numbers_out_where_there_is_no_room(void **state)
{
    (void)state;
    bench_bed_init(&bed, (const int[]){1, 2, 3, 4, 8, 16, 32, 64, 0}, true, true);
    draw(&bed, &seen);
    assert_int_equal(says(&seen, "64"), 2);
    assert_int_equal(says(&seen, "32"), 2);
    assert_int_equal(says(&seen, "1"), 2);
    assert_int_equal(says(&seen, "2"), 0);
    assert_int_equal(seen.circles, 16 + 1);
}

static void plot_of_one_point_is_a_plot(void **state)
{
    (void)state;
    bench_bed_init(&bed, (const int[]){1, 0}, false, true);
    bed.options.by_hosts = false;
    bed.points[0].ranks = 1;
    draw(&bed, &seen);
    assert_int_equal(seen.circles, 1 + 1);
    assert_int_equal(says(&seen, "ranks of this host"), 1);
}

static void text_that_is_markup_binary_or_long_stays_text(void **state)
{
    char longest[2000];

    (void)state;
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    bench_bed_init(&bed, (const int[]){1, 2, 0}, true, true);
    snprintf(bed.machine.host, sizeof bed.machine.host, "</text><script>&\"'");
    bed.options.data = "s3://\xc3\xa9\x01\xff/]]>&amp;";
    draw(&bed, &seen);
    assert_int_equal(says(&seen, "</text><script>&\"': A CPU @ 3.00GHz, 8 cores"), 1);
    assert_int_equal(says(&seen, "pictures of s3://?\?\?\?/]]>&amp;"), 1);
    assert_int_equal(seen.scripts, 0);
    bed.options.data = longest;
    draw(&bed, &seen);
    for (int i = 0; i < seen.text_count; i++)
        assert_true(strlen(seen.texts[i]) <= 120);
}

static void steps_are_round_and_four_to_ten(void **state)
{
    static const double maxima[] = {1e-6, 0.003, 0.99, 1,   1.01, 1.99, 2.01, 4.9,
                                    5.1,  9.99,  10,   123, 201,  501,  999,  1e7};

    (void)state;
    for (size_t i = 0; i < sizeof maxima / sizeof maxima[0]; i++) {
        const double step = launch_bench_plot_step(maxima[i]),
                     first = step / pow(10, floor(log10(step) + 1e-9));

        assert_in_range((int)ceil(maxima[i] / step - 1e-9), 4, 10);
        assert_true(fabs(first - 1) < 1e-6 || fabs(first - 2) < 1e-6 || fabs(first - 5) < 1e-6);
    }
}

/* In a folder of its own. */
static int enter(void **state)
{
    char *const folder = strdup("/tmp/convoy-plot-XXXXXX");

    *state = folder;
    return folder == NULL || mkdtemp(folder) == NULL || chdir(folder) < 0 ? -1 : 0;
}

static int leave(void **state)
{
    (void)!chdir("/");
    unlink("x.svg");
    rmdir(*state);
    free(*state);
    return 0;
}

static void check_refuses_what_cannot_be_written(void **state)
{
    static const struct {
        const char *path, *said;
    } cases[] = {{"none/x.svg", "'none'"}, {"/", "'/' is a folder"}, {".", "is a folder"},
                 {"/proc/x.svg", "/proc"}, {"/dev/null/x", "/dev/null"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};

        assert_int_equal(launch_bench_plot_check(cases[i].path, &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, "--svg"));
        assert_non_null(strstr(err.msg, cases[i].said));
        assert_false(file_exists("none"));
    }
}

static void write_replaces_the_file(void **state)
{
    struct err err = {0};
    struct buf svg = {0};
    char path[64];

    bench_bed_init(&bed, (const int[]){1, 2, 0}, true, true);
    snprintf(path, sizeof path, "%s/x.svg", (const char *)*state);
    assert_int_equal(launch_bench_plot_check("x.svg", &err), 0);
    assert_int_equal(launch_bench_plot_check(path, &err), 0);
    assert_int_equal(launch_bench_plot_check(NULL, &err), 0);
    assert_false(file_exists(path));
    for (int i = 0; i < 2; i++)
        assert_int_equal(launch_bench_plot_write(&bed.report, "x.svg", &err), 0);
    assert_int_equal(file_read(path, 1 << 20, &svg, &err), 0);
    assert_true(look(&svg, &seen));
    buf_release(&svg);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plot_has_axes_units_and_every_point_of_both_modes),
        cmocka_unit_test(plot_puts_points_where_the_scale_says),
        cmocka_unit_test(plot_leaves_numbers_out_where_there_is_no_room),
        cmocka_unit_test(plot_of_one_point_is_a_plot),
        cmocka_unit_test(text_that_is_markup_binary_or_long_stays_text),
        cmocka_unit_test(steps_are_round_and_four_to_ten),
        cmocka_unit_test_setup_teardown(check_refuses_what_cannot_be_written, enter, leave),
        cmocka_unit_test_setup_teardown(write_replaces_the_file, enter, leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
