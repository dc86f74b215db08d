/* tests/trainer/test_hyperparameters.c -- hyperparameters and channels of the environment as
 * options of a run. */
#include "trainer/hyperparameters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "trainer/options.h"

/* Nothing of a case before, nor of the place where the tests run. */
static int forget(void **state)
{
    static const char *const prefixes[] = {"SM_", "CONVOY_"};

    (void)state;
    for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++)
        for (size_t i = 0; environ[i] != NULL;) {
            char *const name = strndup(environ[i], strcspn(environ[i], "="));

            if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0)
                unsetenv(name);
            else
                i++;
            free(name);
        }
    return 0;
}

/* One word of a command line at most. */
static int read_options(struct train_options *o, const char *word, struct err *err)
{
    char *argv[2] = {word != NULL ? strdup(word) : NULL, NULL};
    int rc;

    train_options_init(o);
    rc = train_options_read(o, word != NULL, argv, err);
    free(argv[0]);
    return rc;
}

static void must_read(struct train_options *o, const char *word)
{
    struct err err = {0};

    if (read_options(o, word, &err) < 0)
        fail_msg("%s", err.msg);
}

static const char *origin_of(const struct train_options *o, const char *name)
{
    size_t i = 0;

    while (strcmp(o->set.specs[i].name, name) != 0)
        i++;
    return option_origin(&o->set, i);
}

static void hyperparameters_of_the_built_in_algorithm_set_our_options(void **state)
{
    static const char *const given[][2] = {
        {"NUM_LAYERS", "20"},
        {"IMAGE_SHAPE", "3,40,40"},
        {"MINI_BATCH_SIZE", "16"},
        {"LEARNING_RATE", "0.0016673553502911797"},
        {"EPOCHS", "5.0"},
        {"LR_SCHEDULER_STEP", "\"10,20\""},
        {"LR_SCHEDULER_FACTOR", ".5"},
        {"OPTIMIZER", "\"nag\""},
        {"MOMENTUM", "8e-1"},
        {"WEIGHT_DECAY", "0"},
        {"AUGMENTATION_TYPE", "crop"},
        {"OUTPUT_DIR", "/elsewhere"},
        {"CHECKPOINT_DIR", "/kept"},
        {"NUM_CLASSES", "133"},
        {"NUM_TRAINING_SAMPLES", "6680"},
        {"DATA", "/pictures"},
        {"MODEL_DIR", "/model"},
        {"RESIZE", "40"},
    };
    struct train_options o = {0};

    (void)state;
    setenv("SM_OUTPUT_DATA_DIR", "/opt/ml/output/data", 1);
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        char name[64] = "SM_HP_";

        setenv(strcat(name, given[i][0]), given[i][1], 1);
    }
    must_read(&o, NULL);
    assert_string_equal(o.model, "resnet20");
    assert_int_equal(o.image_size, 40);
    assert_int_equal(o.global_batch, 16);
    assert_true(o.lr == 0.0016673553502911797);
    assert_int_equal(o.epochs, 5);
    assert_string_equal(o.lr_schedule, "step");
    assert_int_equal(o.lr_step_count, 2);
    assert_true(o.lr_steps[1] == 20);
    assert_true(o.lr_factor == 0.5);
    assert_int_equal(o.optimizer.kind, OPTIM_SGD);
    assert_true(o.optimizer.sgd.nesterov);
    assert_true(o.optimizer.sgd.momentum == 0.8f);
    assert_true(o.optimizer.sgd.weight_decay == 0);
    assert_true(o.training.kind == DATA_TRANSFORM_PAD_CROP);
    assert_string_equal(o.report, "/elsewhere"); /* the user's word, not the platform's folder */
    assert_string_equal(o.checkpoint, "/kept");
    assert_string_equal(o.data, "/pictures");
    assert_string_equal(o.model_dir, "/model");
    assert_int_equal(o.expected.classes, 133);
    assert_int_equal(o.expected.samples, 6680);
    assert_true(o.keep_best);
    assert_string_equal(origin_of(&o, "lr"), "hyperparameter learning_rate (SM_HP_LEARNING_RATE)");
    train_options_release(&o);
}

static void hyperparameters_are_taken_in_every_form(void **state)
{
    static const struct {
        const char *variable, *value, *option, *want;
    } cases[] = {
        {"SM_HP_NUM-LAYERS", "34.0", "model", "resnet34"},
        {"SM_HP_NUM_LAYERS", "200", "model", "resnet200"},
        {"SM_HP_IMAGE_SHAPE", "[3, 64, 64]", "image-size", "64"},
        {"SM_HP_IMAGE-SHAPE", "\"3,64,64\"", "image-size", "64"},
        {"SM_HP_BATCH-SIZE", "64", "global-batch", "64"},
        {"SM_HP_BATCH_SIZE", "\"64.0\"", "global-batch", "64"},
        {"SM_HP_LR", " 1e-3 ", "lr", "1e-3"},
        {"SM_HP_NUM-EPOCHS", "7", "epochs", "7"},
        {"SM_HP_LR_SCHEDULER_STEP", "[10,20]", "lr-steps", "[10,20]"},
        {"SM_HP_OPTIMIZER", "SGD", "optimizer", "SGD"},
        {"SM_HP_OPTIMIZER", "\"adam\"", "optimizer", "adam"},
        {"SM_HP_BETA_1", "0.8", "beta1", "0.8"},
        {"SM_HP_BETA_2", "0.99", "beta2", "0.99"},
        {"SM_HP_EPS", "1e-6", "eps", "1e-6"},
        {"SM_HP_EARLY_STOPPING_PATIENCE", "3", "early-stopping-patience", "3"},
        {"SM_HP_EARLY_STOPPING_MIN_EPOCHS", "\"4\"", "early-stopping-min-epochs", "4"},
        {"SM_HP_EARLY-STOPPING-TOLERANCE", "0.01", "early-stopping-tolerance", "0.01"},
        {"SM_HP_NUM_TRAINING_SAMPLES", "100", "keep-model", "best"},
        {"SM_HP_AUGMENTATION_TYPE", "none", "augment", "none"},
        {"SM_HP_TRAIN_ONLY_ON_TOP_LAYER", "\"True\"", "train-layers", "head"},
        {"SM_HP_TRAIN_ONLY_ON_TOP_LAYER", "False", "train-layers", "all"},
        {"SM_HP_TRAIN-ONLY-ON-TOP-LAYER", "1.0", "train-layers", "head"},
        {"SM_HP_REINITIALIZE_TOP_LAYER", "Auto", "pretrained-head", "auto"},
        {"SM_HP_REINITIALIZE_TOP_LAYER", "True", "pretrained-head", "new"},
        {"SM_HP_REINITIALIZE_TOP_LAYER", "False", "pretrained-head", "keep"},
        {"SM_HP_USE_WEIGHTED_LOSS", "1", "class-weights", "balanced"},
        {"SM_HP_USE_WEIGHTED_LOSS", "0", "class-weights", "none"},
        {"SM_HP_LABEL_SMOOTHING", "\"0.1\"", "label-smoothing", "0.1"},
        {"SM_HP_PRETRAINED", "s3://bucket/resnet50.pth", "pretrained", "s3://bucket/resnet50.pth"},
        {"SM_HP_NESTEROV", "True", "nesterov", "True"},
        {"SM_HP_GLOBAL-BATCH", "64", "global-batch", "64"},
        {"SM_HP_VAL_SPLIT", "\"0.1\"", "val-split", "0.1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_options o = {0};

        setenv(cases[i].variable, cases[i].value, 1);
        must_read(&o, "--data=d");
        if (strcmp(option_text(&o.set, cases[i].option), cases[i].want) != 0)
            fail_msg("%s: --%s is '%s'", cases[i].variable, cases[i].option,
                     option_text(&o.set, cases[i].option));
        train_options_release(&o);
        unsetenv(cases[i].variable);
    }
}

static void rates_that_are_not_given_follow_the_optimizer(void **state)
{
    static const struct {
        const char *name;
        double lr, decay;
    } cases[] = {
        {"sgd", 0.05, 1e-4}, {"NAG", 0.05, 1e-4}, {"adam", 1e-3, 0}, {"AdamW", 1e-3, 0.01}};

    (void)state;
    setenv("SM_CHANNEL_DATA", "/d", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_options o = {0};

        setenv("SM_HP_OPTIMIZER", cases[i].name, 1);
        must_read(&o, "--global-batch=128");
        if (o.lr != cases[i].lr || o.optimizer.adam.weight_decay != cases[i].decay)
            fail_msg("%s: rate %g, decay %g", cases[i].name, o.lr, o.optimizer.adam.weight_decay);
        assert_int_equal(o.optimizer.adam.decoupled, i == 3);
        train_options_release(&o);
        must_read(&o, "--weight-decay=0.5");
        assert_true(o.optimizer.sgd.weight_decay == 0.5f && o.optimizer.adam.weight_decay == 0.5);
        train_options_release(&o);
    }
}

static void early_stopping_is_on_in_every_form(void **state)
{
    static const struct {
        const char *text;
        bool on;
    } cases[] = {{"True", true},   {"true", true}, {"1", true},   {"on", true},
                 {"False", false}, {"0", false},   {"off", false}};

    (void)state;
    setenv("SM_CHANNEL_DATA", "/d", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_options o = {0};

        setenv("SM_HP_EARLY_STOPPING", cases[i].text, 1);
        must_read(&o, NULL);
        assert_int_equal(o.early_stopping.on, cases[i].on);
        assert_int_equal(o.early_stopping.patience, 5);
        assert_int_equal(o.early_stopping.min_epochs, 10);
        assert_true(o.early_stopping.tolerance == 0);
        train_options_release(&o);
    }
}

static void built_in_jobs_keep_their_best_unless_they_save_every_so_often(void **state)
{
    struct train_options o = {0};

    (void)state;
    setenv("SM_CHANNEL_DATA", "/d", 1);
    must_read(&o, NULL);
    assert_false(o.keep_best);
    train_options_release(&o);
    setenv("SM_HP_NUM_TRAINING_SAMPLES", "100", 1);
    must_read(&o, NULL);
    assert_true(o.keep_best);
    train_options_release(&o);
    must_read(&o, "--keep-model=last");
    assert_false(o.keep_best);
    train_options_release(&o);
    setenv("SM_HP_CHECKPOINT_FREQUENCY", "2", 1);
    must_read(&o, NULL);
    assert_false(o.keep_best);
    train_options_release(&o);
    setenv("SM_HP_KEEP_MODEL", "best", 1);
    must_read(&o, NULL);
    assert_true(o.keep_best);
    train_options_release(&o);
}

static void hyperparameters_that_say_what_happens_anyway_are_taken(void **state)
{
    static const char *const cases[][2] = {
        {"USE_PRETRAINED_MODEL", "0"},
        {"USE_PRETRAINED_MODEL", "False"},
        {"EARLY_STOPPING", "\"False\""},
        {"EARLY_STOPPING", "0"},
        {"KV_STORE", "dist_sync"},
        {"MULTI_LABEL", "0.0"},
        {"PRECISION_DTYPE", "\"float32\""},
        {"CHECKPOINT_FREQUENCY", "1"},
        {"TOP_K", "5"},
        {"BETA_1", "0.9"},
        {"EPS", "1e-8"},
        {"EARLY_STOPPING_PATIENCE", "5"},
        {"RESIZE", "256"},
        {"DROPOUT_RATE", "0.0"},
        {"REGULARIZERS_L2", "0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_options o = {0};
        char name[64] = "SM_HP_";
        size_t at = 0;

        setenv(strcat(name, cases[i][0]), cases[i][1], 1);
        must_read(&o, "--data=d");
        assert_null(train_hyperparameters_unknown(&o.set, &at));
        train_options_release(&o);
        unsetenv(name);
    }
}

static void hyperparameters_that_we_do_not_have_are_named(void **state)
{
    static const char *const cases[][3] = {
        {"NUM_LAYERS", "201", "18, 34, 50"},
        {"NUM_LAYERS", "many", "many"},
        {"NUM_LAYERS", "18.5", "18.5"},
        {"IMAGE_SHAPE", "3,224,225", "square"},
        {"IMAGE_SHAPE", "1,28,28", "3 channels"},
        {"IMAGE_SHAPE", "224", "3,224,224"},
        {"IMAGE_SHAPE", "3,4,4", "not within"},
        {"MINI_BATCH_SIZE", "0", "'0'"},
        {"BATCH-SIZE", "x", "'x'"},
        {"LEARNING_RATE", "fast", "fast"},
        {"LR_SCHEDULER_STEP", "20,10", "20,10"},
        {"LR_SCHEDULER_FACTOR", "2", "not within"},
        {"BETA_1", "1", "not within"},
        {"BETA_2", "-0.1", "not within"},
        {"EPS", "0", "not within"},
        {"OPTIMIZER", "rmsprop", "rmsprop"},
        {"AUGMENTATION_TYPE", "crop_color", "crop_color"},
        {"USE_PRETRAINED_MODEL", "1", "give them as channel 'model'"},
        {"USE_PRETRAINED_MODEL", "\"True\"", "hyperparameter pretrained"},
        {"USE_PRETRAINED_MODEL", "2", "'2' is neither"},
        {"EARLY_STOPPING", "maybe", "neither off nor on"},
        {"EARLY_STOPPING_PATIENCE", "0", "not within"},
        {"EARLY_STOPPING_MIN_EPOCHS", "-1", "not within"},
        {"EARLY_STOPPING_TOLERANCE", "much", "not a number"},
        {"KV_STORE", "dist_async", "dist_sync"},
        {"MULTI_LABEL", "1", "one label"},
        {"USE_WEIGHTED_LOSS", "some", "'some' is neither"},
        {"PRECISION_DTYPE", "float16", "float32"},
        {"TOP_K", "1", "'1'"},
        {"CHECKPOINT_FREQUENCY", "0", "'0'"},
        {"NUM_CLASSES", "two", "'two'"},
        {"NUM_TRAINING_SAMPLES", "-1", "'-1'"},
        {"RESIZE", "300", "256"},
        {"TRAIN_ONLY_ON_TOP_LAYER", "yes", "'yes' is neither"},
        {"REINITIALIZE_TOP_LAYER", "maybe", "auto, true, false"},
        {"LABEL_SMOOTHING", "1", "not within"},
        {"REGULARIZERS_L2", "0.0001", "weight_decay"},
        {"DROPOUT_RATE", "0.2", "dropout"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct train_options o = {0};
        struct err err = {0};
        char name[64] = "SM_HP_";

        setenv(strcat(name, cases[i][0]), cases[i][1], 1);
        if (read_options(&o, "--data=d", &err) == 0)
            fail_msg("%s=%s was taken", name, cases[i][1]);
        assert_int_equal(err_exit_code(err.code), 2);
        if (strstr(err.msg, "hyperparameter ") != err.msg || strstr(err.msg, cases[i][2]) == NULL)
            fail_msg("%s=%s: '%s'", name, cases[i][1], err.msg);
        train_options_release(&o);
        unsetenv(name);
    }
}

static void pretrained_weights_come_from_a_hyperparameter_or_the_channel(void **state)
{
    struct train_options o = {0};

    (void)state;
    setenv("SM_CHANNEL_TRAINING", "/d", 1);
    setenv("SM_HP_USE_PRETRAINED_MODEL", "1", 1);
    setenv("SM_HP_PRETRAINED", "s3://b/resnet18.pth", 1);
    must_read(&o, NULL);
    assert_string_equal(o.pretrained, "s3://b/resnet18.pth");
    assert_int_equal(o.pretrained_head, TRAIN_HEAD_NEW); /* made for other pictures */
    train_options_release(&o);
    must_read(&o, "--pretrained-head=keep");
    assert_int_equal(o.pretrained_head, TRAIN_HEAD_KEEP);
    train_options_release(&o);
    setenv("SM_HP_REINITIALIZE_TOP_LAYER", "False", 1);
    must_read(&o, NULL);
    assert_int_equal(o.pretrained_head, TRAIN_HEAD_KEEP);
    train_options_release(&o);
    unsetenv("SM_HP_REINITIALIZE_TOP_LAYER");
    unsetenv("SM_HP_PRETRAINED");
    must_read(&o, "--pretrained=file:///w.pth");
    assert_string_equal(o.pretrained, "/w.pth");
    assert_int_equal(o.pretrained_head, TRAIN_HEAD_NEW);
    train_options_release(&o);
    setenv("SM_CHANNEL_MODEL", "/opt/ml/input/data/model", 1);
    must_read(&o, NULL);
    assert_string_equal(o.pretrained, "/opt/ml/input/data/model");
    assert_int_equal(o.pretrained_head, TRAIN_HEAD_AUTO); /* of an earlier training */
    assert_string_equal(o.train, "/d");
    train_options_release(&o);
    setenv("SM_HP_USE_PRETRAINED_MODEL", "0", 1); /* the channel says more */
    must_read(&o, NULL);
    assert_string_equal(o.pretrained, "/opt/ml/input/data/model");
    train_options_release(&o);
}

static void batch_of_a_host_is_multiplied_and_gives_way_to_a_checkpoints(void **state)
{
    struct train_options o = {0};
    struct err err = {0};

    (void)state;
    setenv("SM_CHANNEL_DATA", "/d", 1);
    setenv("SM_HP_MINI_BATCH_SIZE", "32", 1);
    setenv("CONVOY_HOSTS", "3", 1);
    must_read(&o, "--data=d");
    assert_int_equal(o.global_batch, 96);
    assert_string_equal(
        origin_of(&o, "global-batch"),
        "hyperparameter mini_batch_size (SM_HP_MINI_BATCH_SIZE): 32 on each of 3 hosts");
    assert_int_equal(option_set_assign(&o.set, "global-batch", "64", OPTION_CHECKPOINT, "c", &err),
                     0);
    assert_int_equal(option_integer(&o.set, "global-batch"), 64);
    train_options_release(&o);
    must_read(&o, "--global-batch=48");
    assert_int_equal(o.global_batch, 48);
    train_options_release(&o);
}

static void our_own_name_counts_more_than_the_built_in_one(void **state)
{
    struct train_options o = {0};

    (void)state;
    setenv("SM_CHANNEL_DATA", "/d", 1);
    setenv("SM_HP_LEARNING_RATE", "0.5", 1);
    setenv("SM_HP_LR", "0.25", 1);
    setenv("SM_HP_MINI_BATCH_SIZE", "32", 1);
    setenv("SM_HP_BATCH_SIZE", "16", 1);
    setenv("SM_HP_OPTIMIZER", "adam", 1);
    setenv("SM_HP_NESTEROV", "true", 1);
    must_read(&o, "--data=d");
    assert_true(o.lr == 0.25);
    assert_int_equal(o.global_batch, 32); /* of two names for one thing, the built-in one's own */
    assert_int_equal(o.optimizer.kind, OPTIM_ADAM);
    assert_true(o.optimizer.sgd.nesterov);
    train_options_release(&o);
    must_read(&o, "--lr=0.125");
    assert_true(o.lr == 0.125);
    train_options_release(&o);
}

static void unknown_hyperparameters_are_named_and_the_platforms_passed_over(void **state)
{
    struct train_options o = {0};
    struct err err = {0};
    size_t at = 0;

    (void)state;
    setenv("SM_HP_SAGEMAKER_PROGRAM", "train", 1);
    setenv("SM_HP__TUNING_OBJECTIVE_METRIC", "validation:accuracy", 1);
    setenv("SM_HP_MP_PARAMETERS", "", 1);
    setenv("SM_HP_EPOCS", "3", 1);
    must_read(&o, "--data=d");
    assert_string_equal(train_hyperparameters_unknown(&o.set, &at), "SM_HP_EPOCS=3");
    assert_null(train_hyperparameters_unknown(&o.set, &at));
    train_options_release(&o);
    assert_int_equal(read_options(&o, "--strict", &err), -1);
    assert_non_null(strstr(err.msg, "SM_HP_EPOCS"));
    train_options_release(&o);
}

/* --- channels --- */

static void channels_are_found_in_the_usual_order(void **state)
{
    static const char *const training[] = {"TRAINING", "TRAIN"};
    static const char *const validation[] = {"VALIDATION", "VALID", "VAL"};
    struct train_options o = {0};

    (void)state;
    setenv("SM_CHANNEL_TRAINING", "TRAINING", 1);
    setenv("SM_CHANNEL_TRAIN", "TRAIN", 1);
    setenv("SM_CHANNEL_TEST", "file:///test", 1);
    for (size_t i = 0; i < 3; i++) {
        char name[64] = "SM_CHANNEL_";

        setenv(strcat(name, validation[i]), validation[i], 1);
    }
    for (size_t i = 0; i < 3; i++) {
        char name[64] = "SM_CHANNEL_";

        must_read(&o, NULL);
        assert_string_equal(o.train, training[i < 2 ? i : 1]);
        assert_string_equal(o.val, validation[i]);
        assert_string_equal(o.test, "/test");
        train_options_release(&o);
        setenv(strcat(name, validation[i]), "", 1); /* empty says nothing */
        setenv("SM_CHANNEL_TRAINING", "", 1);
    }
}

static void the_only_channel_is_for_training_whatever_its_name(void **state)
{
    struct train_options o = {0};
    struct err err = {0};

    (void)state;
    setenv("SM_CHANNELS", "[\"my-dogs.1\"]", 1);
    setenv("SM_CHANNEL_MY-DOGS.1", "/opt/ml/input/data/my-dogs.1", 1);
    setenv("SM_CHANNEL_VALIDATION", "/v", 1);
    must_read(&o, NULL);
    assert_string_equal(o.train, "/opt/ml/input/data/my-dogs.1");
    assert_non_null(strstr(origin_of(&o, "train"), "the only channel"));
    train_options_release(&o);
    must_read(&o, "--data=d"); /* what was asked for comes first */
    assert_null(o.train);
    train_options_release(&o);
    setenv("SM_CHANNEL_CATS", "/c", 1);
    assert_int_equal(read_options(&o, NULL, &err), -1);
    assert_non_null(strstr(err.msg, "my-dogs.1"));
    assert_non_null(strstr(err.msg, "cats"));
    train_options_release(&o);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, forget, forget)
    const struct CMUnitTest tests[] = {
        CASE(hyperparameters_of_the_built_in_algorithm_set_our_options),
        CASE(hyperparameters_are_taken_in_every_form),
        CASE(rates_that_are_not_given_follow_the_optimizer),
        CASE(early_stopping_is_on_in_every_form),
        CASE(built_in_jobs_keep_their_best_unless_they_save_every_so_often),
        CASE(hyperparameters_that_say_what_happens_anyway_are_taken),
        CASE(hyperparameters_that_we_do_not_have_are_named),
        CASE(pretrained_weights_come_from_a_hyperparameter_or_the_channel),
        CASE(batch_of_a_host_is_multiplied_and_gives_way_to_a_checkpoints),
        CASE(our_own_name_counts_more_than_the_built_in_one),
        CASE(unknown_hyperparameters_are_named_and_the_platforms_passed_over),
        CASE(channels_are_found_in_the_usual_order),
        CASE(the_only_channel_is_for_training_whatever_its_name),
    };
#undef CASE

    return cmocka_run_group_tests(tests, NULL, NULL);
}
