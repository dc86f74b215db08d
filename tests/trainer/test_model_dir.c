/* tests/trainer/test_model_dir.c -- what is read out of a model's config.json and
 * class_labels.json, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/model_dir.h"

#define PICTURES                                                                                   \
    "\"image_size\": 64, \"eval_transform\": \"center\", "                                         \
    "\"normalize\": {\"mean\": [0, 0.5, 1], \"std\": [1, 2, 3]}"
#define CONFIG(more)                                                                               \
    "{\"format\": \"convoy-model-1\", \"model\": \"resnet18\", \"classes\": 3, " more "}"
#define LABELS "[\"a\", \"b\", \"c\"]"

static int parse(struct train_model_dir *dir, const char *config, const char *labels,
                 struct err *err)
{
    struct buf c = {0}, l = {0};
    int rc;

    buf_append(&c, config, strlen(config));
    buf_append(&l, labels, strlen(labels));
    rc = train_model_dir_parse(dir, "M", &c, &l, err);
    buf_release(&c);
    buf_release(&l);
    return rc;
}

static struct train_model_dir parsed(const char *config)
{
    struct train_model_dir dir = {0};
    struct err err = {0};

    if (parse(&dir, config, LABELS, &err) < 0)
        fail_msg("%s", err.msg);
    return dir;
}

static void a_model_is_what_its_config_says(void **state)
{
    struct train_model_dir dir =
        parsed(CONFIG("\"head\": \"512-40-20-relu\", \"unknown\": [], " PICTURES));

    (void)state;
    assert_string_equal(dir.name, "resnet18");
    assert_int_equal(dir.classes, 3);
    assert_string_equal(dir.class_names[2], "c");
    assert_int_equal(dir.tuning.hidden_count, 2);
    assert_int_equal(dir.tuning.hidden[1], 20);
    assert_int_equal(dir.tuning.frozen, 0);
    assert_int_equal(dir.evaluation.size, 64);
    assert_int_equal(dir.evaluation.kind, DATA_TRANSFORM_CENTER);
    assert_float_equal(dir.evaluation.std[2], 3, 0);
    train_model_dir_release(&dir);
}

static void older_configs_mean_what_they_meant(void **state)
{
    static const char size[] = "\"image_size\": 64, \"normalize\": {\"mean\": [0, 0, 0], \"std\": "
                               "[1, 1, 1]}";
    char config[512];
    struct train_model_dir dir =
        parsed(CONFIG("\"hyperparameters\": {\"head\": \"512-9-relu\"}, " PICTURES));

    (void)state;
    assert_int_equal(dir.tuning.hidden_count, 1);
    assert_int_equal(dir.tuning.hidden[0], 9);
    train_model_dir_release(&dir);
    dir = parsed(CONFIG(PICTURES));
    assert_int_equal(dir.tuning.hidden_count, 0);
    train_model_dir_release(&dir);
    for (int small = 0; small < 2; small++) { /* there was no "eval_transform" */
        snprintf(config, sizeof config,
                 "{\"format\": \"convoy-model-1\", \"model\": \"%s\", \"classes\": 3, %s}",
                 small ? "resnet20" : "resnet18", size);
        dir = parsed(config);
        assert_int_equal(dir.evaluation.kind,
                         small ? DATA_TRANSFORM_RESIZE : DATA_TRANSFORM_CENTER);
        train_model_dir_release(&dir);
    }
}

static void what_is_of_no_use_is_refused_by_name(void **state)
{
    static const char good[] = CONFIG(PICTURES);
    static const struct {
        const char *config, *labels, *said;
    } cases[] = {
        {"", LABELS, "'M/config.json'"},
        {"{", LABELS, "'M/config.json'"},
        {"[]", LABELS, "'M/config.json'"},
        {"7", LABELS, "'M/config.json'"},
        {"{}", LABELS, "'format'"},
        {"{\"format\": 1}", LABELS, "'format'"},
        {"{\"format\": \"other\"}", LABELS, "'other'"},
        {"{\"format\": \"convoy-model-1\"}", LABELS, "'model'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"vgg16\", \"classes\": 3}", LABELS,
         "'vgg16'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"resnet18\"}", LABELS, "'classes'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"resnet18\", \"classes\": \"3\"}", LABELS,
         "'classes'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"resnet18\", \"classes\": 1}", LABELS,
         "'classes'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"resnet18\", \"classes\": -3}", LABELS,
         "'classes'"},
        {"{\"format\": \"convoy-model-1\", \"model\": \"resnet18\", \"classes\": 1e30}", LABELS,
         "'classes'"},
        {CONFIG("\"x\": 1"), LABELS, "'image_size'"},
        {CONFIG("\"image_size\": 1000000000"), LABELS, "'image_size'"},
        {CONFIG("\"image_size\": 224"), LABELS, "'normalize'"},
        {CONFIG("\"head\": 5, " PICTURES), LABELS, "'head'"},
        {CONFIG("\"head\": \"512-99999999-relu\", " PICTURES), LABELS, "'head'"},
        {CONFIG("\"head\": \"2048-128-relu\", " PICTURES), LABELS, "'head'"},
        {CONFIG("\"eval_transform\": \"crop\", \"image_size\": 64"), LABELS, "'crop'"},
        {CONFIG("\"image_size\": 8, \"normalize\": {\"mean\": [0, 0, 0], \"std\": [1, 1, 1]}"),
         LABELS, "'M/config.json'"},
        {good, "", "'M/class_labels.json'"},
        {good, "{}", "'M/class_labels.json'"},
        {good, "[\"a\", \"b\"]", "2 class names"},
        {good, "[\"a\", \"b\", \"c\", \"d\"]", "4 class names"},
        {good, "[\"a\", \"b\", 3]", "entry 2"},
        {good, "[\"a\", \"\", \"c\"]", "entry 1"},
        {good, "[\"c\", \"b\", \"c\"]", "'c' stands there twice"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_model_dir dir = {0};
        struct err err = {0};

        if (parse(&dir, cases[i].config, cases[i].labels, &err) == 0)
            fail_msg("taken: %s %s", cases[i].config, cases[i].labels);
        if (err.code != ERR_INPUT || strstr(err.msg, cases[i].said) == NULL)
            fail_msg("'%s' and '%s': %d, %s", cases[i].config, cases[i].labels, (int)err.code,
                     err.msg);
        assert_null(dir.where);
        train_model_dir_release(&dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_what_its_config_says),
        cmocka_unit_test(older_configs_mean_what_they_meant),
        cmocka_unit_test(what_is_of_no_use_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
