/* tests/data/test_transform_text.c -- options and config.json against the transform they mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/json.h"
#include "trainer/data/picture/transform_text.h"

static void normalize_takes_names_and_values(void **state)
{
    static const struct {
        const char *text;
        float mean[3], std[3];
    } cases[] = {
        {"imagenet", {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}},
        {"none", {0, 0, 0}, {1, 1, 1}},
        {"0.5,0.25,1/0.5,2,0.001", {0.5f, 0.25f, 1}, {0.5f, 2, 0.001f}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_transform transform = {.size = 7};
        struct err err = {0};

        assert_int_equal(data_transform_set_normalize(&transform, cases[i].text, &err), 0);
        assert_memory_equal(transform.mean, cases[i].mean, sizeof transform.mean);
        assert_memory_equal(transform.std, cases[i].std, sizeof transform.std);
        assert_int_equal(transform.size, 7);
    }
}

static void normalize_refuses_everything_else_and_sets_nothing(void **state)
{
    static const char *const texts[] = {
        "",
        "ImageNet",
        "0.5",
        "0.5/0.5",
        "0.5,0.5,0.5",
        "0.5,0.5,0.5/",
        "0.5,0.5/1",
        "0.5,0.5,0.5/1,1",
        "0.5,0.5,0.5/1,1,1,",
        "/1,1,1",
        "0.5,0.5,0.5/1,1,0",
        "0.5,0.5,0.5/1,1,-1",
        "0,0,1.01/1,1,1",
        "0,0,nan/1,1,1",
        "0,0,0/1,1,inf",
        "0,0,0/1,1,1x",
        "0;0;0/1;1;1",
        "123.7,116.3,103.5/58.4,57.1,57.4",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct data_transform transform = {.mean = {9, 9, 9}, .std = {9, 9, 9}};
        const struct data_transform before = transform;
        struct err err = {0};

        if (data_transform_set_normalize(&transform, texts[i], &err) == 0)
            fail_msg("'%s' is taken", texts[i]);
        assert_int_equal(err.code, ERR_USAGE);
        assert_non_null(strstr(err.msg, texts[i]));
        assert_non_null(strstr(err.msg, "imagenet, none"));
        assert_memory_equal(&transform, &before, sizeof before);
    }
}

/* Through the text of a file, as a model's config.json is written. */
static json_t *through_text(json_t *config)
{
    char *const text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    struct err err = {0};
    json_t *const back = json_read_text(text, strlen(text), "config.json", &err);

    assert_non_null(back);
    free(text);
    json_decref(config);
    return back;
}

static void config_gives_back_what_was_put_in_bit_for_bit(void **state)
{
    static const struct data_transform cases[] = {
        {.kind = DATA_TRANSFORM_CENTER,
         .size = 224,
         .mean = {0.485f, 0.456f, 0.406f},
         .std = {0.229f, 0.224f, 0.225f}},
        {.kind = DATA_TRANSFORM_RESIZE, .size = 32, .mean = {0, 0, 0}, .std = {1, 1, 1}},
        {.kind = DATA_TRANSFORM_RESIZE,
         .size = 8,
         .mean = {1, 1.0f / 3, 0x1.fffffep-2f},
         .std = {0.001f, 10, 1.0f / 7}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_transform read = {.kind = DATA_TRANSFORM_PAD_CROP, .seed = 3};
        json_t *config = json_object();
        struct err err = {0};

        data_transform_to_json(&cases[i], config);
        config = through_text(config);
        if (data_transform_from_json(&read, config, "config.json", &err) < 0)
            fail_msg("%s", err.msg);
        assert_int_equal(read.kind, cases[i].kind);
        assert_int_equal(read.size, cases[i].size);
        assert_memory_equal(read.mean, cases[i].mean, sizeof read.mean);
        assert_memory_equal(read.std, cases[i].std, sizeof read.std);
        assert_int_equal(read.seed, 3); /* as it was */
        json_decref(config);
    }
}

static void config_without_an_eval_transform_leaves_the_kind(void **state)
{
    const struct data_transform put = {
        .kind = DATA_TRANSFORM_RESIZE, .size = 64, .mean = {0, 0, 0}, .std = {1, 1, 1}};
    struct data_transform read = {.kind = DATA_TRANSFORM_CENTER};
    json_t *const config = json_object();
    struct err err = {0};

    (void)state;
    data_transform_to_json(&put, config);
    json_object_del(config, "eval_transform");
    assert_int_equal(data_transform_from_json(&read, config, "config.json", &err), 0);
    assert_int_equal(read.kind, DATA_TRANSFORM_CENTER);
    assert_int_equal(read.size, 64);
    json_decref(config);
}

static void config_that_is_not_as_it_should_be_is_refused_by_its_key(void **state)
{
    static const struct {
        const char *text, *key;
    } cases[] = {
        {"{}", "image_size"},
        {"{\"image_size\":7,\"normalize\":{}}", "image_size"},
        {"{\"image_size\":4096}", "image_size"},
        {"{\"image_size\":\"224\"}", "image_size"},
        {"{\"image_size\":224}", "normalize"},
        {"{\"image_size\":224,\"normalize\":[]}", "normalize"},
        {"{\"image_size\":224,\"normalize\":{\"std\":[1,1,1]}}", "mean"},
        {"{\"image_size\":224,\"normalize\":{\"mean\":[0,0],\"std\":[1,1,1]}}", "mean"},
        {"{\"image_size\":224,\"normalize\":{\"mean\":[0,0,0,0],\"std\":[1,1,1]}}", "mean"},
        {"{\"image_size\":224,\"normalize\":{\"mean\":[0,0,\"0\"],\"std\":[1,1,1]}}", "mean"},
        {"{\"image_size\":224,\"normalize\":{\"mean\":[0,0,0],\"std\":[1,0,1]}}", "std"},
        {"{\"image_size\":224,\"eval_transform\":\"crop\",\"normalize\":{\"mean\":[0,0,0],"
         "\"std\":[1,1,1]}}",
         "eval_transform"},
        {"{\"image_size\":224,\"eval_transform\":1}", "eval_transform"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_transform transform = {.size = 5};
        const struct data_transform before = transform;
        struct err err = {0};
        json_t *const config =
            json_read_text(cases[i].text, strlen(cases[i].text), "config.json", &err);

        assert_non_null(config);
        assert_int_equal(data_transform_from_json(&transform, config, "m/config.json", &err), -1);
        assert_int_equal(err.code, ERR_INPUT);
        if (strstr(err.msg, cases[i].key) == NULL || strstr(err.msg, "m/config.json") == NULL)
            fail_msg("%s: %s", cases[i].text, err.msg);
        assert_memory_equal(&transform, &before, sizeof before);
        json_decref(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalize_takes_names_and_values),
        cmocka_unit_test(normalize_refuses_everything_else_and_sets_nothing),
        cmocka_unit_test(config_gives_back_what_was_put_in_bit_for_bit),
        cmocka_unit_test(config_without_an_eval_transform_leaves_the_kind),
        cmocka_unit_test(config_that_is_not_as_it_should_be_is_refused_by_its_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
