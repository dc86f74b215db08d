/* tests/launcher/test_sagemaker.c -- each case has a tree of its own in place of /opt/ml. */
#include "launcher/sagemaker.h"

#include <ftw.h>
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

#define TWO_HOSTS "{\"current_host\":\"algo-2\",\"hosts\":[\"algo-2\",\"algo-1\"]}"

static char base[] = "/tmp/convoy-sagemaker-XXXXXX";

/* Nothing of a case before, nor of the place where the tests run. */
static void forget(void)
{
    static const char *const prefixes[] = {"SM_", "CONVOY_", "TRAINING_"};

    for (size_t p = 0; p < sizeof prefixes / sizeof prefixes[0]; p++)
        for (size_t i = 0; environ[i] != NULL;) {
            char *const name = strndup(environ[i], strcspn(environ[i], "="));

            if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0)
                unsetenv(name);
            else
                i++;
            free(name);
        }
}

static int set_up(void **state)
{
    (void)state;
    forget();
    strcpy(base + sizeof base - 7, "XXXXXX");
    if (mkdtemp(base) == NULL)
        return -1;
    return setenv("SAGEMAKER_BASE_DIR", base, 1);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    forget();
    return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path of the tree; valid until the next but three. */
static const char *in_tree(const char *name)
{
    static char paths[4][512];
    static int at;

    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", base, name);
    return paths[at];
}

static void put(const char *name, const char *text)
{
    char *const path = strdup(in_tree(name));
    struct err err = {0};

    *strrchr(path, '/') = '\0';
    assert_int_equal(file_make_folder(path, &err), 0);
    free(path);
    assert_int_equal(file_replace(in_tree(name), text, strlen(text), &err), 0);
}

static void put_config(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "input/config/%s.json", name);
    put(path, text);
}

static void put_channel(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "input/data/%s/a/1.jpg", name);
    put(path, "x");
}

static void assert_variable(const char *name, const char *value)
{
    const char *const found = getenv(name);

    if (found == NULL || strcmp(found, value) != 0)
        fail_msg("%s is '%s', not '%s'", name, found != NULL ? found : "(unset)", value);
}

static void assert_path_variable(const char *name, const char *path)
{
    assert_variable(name, in_tree(path));
}

/* The tree reads well. */
static void read_tree(struct launch_sagemaker *s)
{
    struct err err = {0};

    if (launch_sagemaker_read(s, &err) < 0)
        fail_msg("%s", err.msg);
}

static void assert_refused(const char *part, const char *other)
{
    struct launch_sagemaker s = {0};
    struct err err = {0};

    if (launch_sagemaker_read(&s, &err) == 0)
        fail_msg("the tree was taken; it lacks '%s'", part);
    assert_int_equal(err_exit_code(err.code), 2);
    if (strstr(err.msg, part) == NULL || strstr(err.msg, other) == NULL)
        fail_msg("'%s' lacks '%s' or '%s'", err.msg, part, other);
    assert_true(s.active); /* so that the reason can be written where it is looked for */
    launch_sagemaker_release(&s);
}

/* --- where are we --- */

static void sagemaker_is_inactive_without_a_tree_and_a_job(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("hyperparameters", "{\"epochs\":\"3\"}");
    read_tree(&s);
    assert_false(s.active);
    assert_null(getenv("SM_HP_EPOCHS"));
    assert_null(getenv("SM_MODEL_DIR"));
    launch_sagemaker_fail(&s, "nobody reads this");
    assert_false(file_exists(in_tree("output/failure")));
    launch_sagemaker_release(&s);
}

static void sagemaker_with_a_job_and_no_tree_is_one_host(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    setenv("TRAINING_JOB_ARN", "arn:aws:sagemaker:eu-west-1:1:training-job/dogs", 1);
    read_tree(&s);
    assert_true(s.active);
    assert_string_equal(s.job, "arn:aws:sagemaker:eu-west-1:1:training-job/dogs");
    assert_null(s.current);
    assert_int_equal(s.hosts.count, 0);
    assert_path_variable("SM_MODEL_DIR", "model");
    launch_sagemaker_release(&s);
}

static void sagemaker_with_one_host_and_nothing_else_exports_the_tree(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    setenv("TRAINING_JOB_NAME", "dogs-1", 1);
    put_config("resourceconfig", "{\"hosts\":[\"algo-1\"],\"current_host\":\"algo-1\"}");
    put_config("hyperparameters", "{}");
    put_config("inputdataconfig", "{}");
    read_tree(&s);
    assert_string_equal(s.base, base);
    assert_string_equal(s.job, "dogs-1");
    assert_string_equal(s.current, "algo-1");
    assert_null(s.interface);
    assert_variable("SM_HOSTS", "[\"algo-1\"]");
    assert_variable("SM_CURRENT_HOST", "algo-1");
    assert_variable("SM_CHANNELS", "[]");
    assert_variable("SM_HPS", "{}");
    assert_variable("SM_USER_ARGS", "[]");
    assert_variable("SM_INPUT_DATA_CONFIG", "{}");
    assert_variable("SM_NUM_GPUS", "0");
    assert_variable("SM_IS_HETERO", "false");
    assert_variable("CONVOY_HOSTS", "1");
    assert_path_variable("SM_MODEL_DIR", "model");
    assert_path_variable("SM_OUTPUT_DIR", "output");
    assert_path_variable("SM_OUTPUT_DATA_DIR", "output/data");
    assert_path_variable("SM_INPUT_DIR", "input");
    assert_path_variable("SM_INPUT_CONFIG_DIR", "input/config");
    assert_path_variable("CONVOY_CHECKPOINT", "checkpoints");
    assert_null(getenv("SM_NETWORK_INTERFACE_NAME"));
    assert_non_null(strstr(getenv("SM_TRAINING_ENV"), "\"is_master\":true"));
    launch_sagemaker_release(&s);
}

/* --- resourceconfig.json --- */

static void sagemaker_sorts_twelve_hosts_as_text(void **state)
{
    static const char *const want[] = {"algo-1", "algo-10", "algo-11", "algo-12",
                                       "algo-2", "algo-3",  "algo-4",  "algo-5",
                                       "algo-6", "algo-7",  "algo-8",  "algo-9"};
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig",
               "{\"current_host\":\"algo-2\",\"network_interface_name\":\"eth0\",\"hosts\":["
               "\"algo-9\",\"algo-8\",\"algo-7\",\"algo-6\",\"algo-5\",\"algo-4\",\"algo-3\","
               "\"algo-2\",\"algo-12\",\"algo-11\",\"algo-10\",\"algo-1\"]}");
    read_tree(&s);
    assert_int_equal(s.hosts.count, 12);
    for (size_t i = 0; i < 12; i++)
        assert_string_equal(s.hosts.at[i], want[i]);
    assert_string_equal(s.interface, "eth0");
    assert_variable("SM_NETWORK_INTERFACE_NAME", "eth0");
    assert_variable("SM_CURRENT_HOST_RANK", "4");
    assert_variable("SM_MASTER_ADDR", "algo-1");
    assert_variable("CONVOY_HOSTS", "12");
    assert_int_equal(strncmp(getenv("SM_HOSTS"), "[\"algo-1\",\"algo-10\",", 20), 0);
    launch_sagemaker_release(&s);
}

static void sagemaker_takes_the_names_of_local_mode(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", "{\"current_host\":\"algo-1-ab12c\",\"hosts\":[\"algo-2-x7k2p\","
                                 "\"algo-1-ab12c\"],\"current_instance_type\":\"local\"}");
    read_tree(&s);
    assert_string_equal(s.hosts.at[0], "algo-1-ab12c");
    assert_string_equal(s.hosts.at[1], "algo-2-x7k2p");
    assert_null(s.interface);
    assert_variable("SM_CURRENT_INSTANCE_TYPE", "local");
    assert_null(getenv("SM_INSTANCE_GROUPS"));
    launch_sagemaker_release(&s);
}

static void sagemaker_takes_the_hosts_of_its_own_group(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig",
               "{\"current_host\":\"algo-3\",\"current_group_name\":\"gpu\",\"topology\":[],"
               "\"hosts\":[\"algo-1\",\"algo-2\",\"algo-3\"],\"instance_groups\":["
               "{\"instance_group_name\":\"cpu\",\"instance_type\":\"x\",\"hosts\":[\"algo-2\"]},"
               "{\"instance_group_name\":\"gpu\",\"hosts\":[\"algo-3\",\"algo-1\"]}]}");
    read_tree(&s);
    assert_int_equal(s.hosts.count, 2);
    assert_string_equal(s.hosts.at[0], "algo-1");
    assert_string_equal(s.hosts.at[1], "algo-3");
    assert_variable("SM_HOSTS", "[\"algo-1\",\"algo-2\",\"algo-3\"]");
    assert_variable("SM_CURRENT_INSTANCE_GROUP", "gpu");
    assert_variable("SM_CURRENT_INSTANCE_GROUP_HOSTS", "[\"algo-1\",\"algo-3\"]");
    assert_variable("SM_INSTANCE_GROUPS", "[\"cpu\",\"gpu\"]");
    assert_variable("SM_IS_HETERO", "true");
    assert_variable("SM_TOPOLOGY", "[]");
    launch_sagemaker_release(&s);
    read_tree(&s); /* once more, with what the first time exported: the same */
    assert_int_equal(s.hosts.count, 2);
    launch_sagemaker_release(&s);
}

static void sagemaker_lets_the_file_say_who_we_are(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    setenv("SM_CURRENT_HOST", "algo-1", 1); /* as mpirun -x spreads the leader's */
    put_config("resourceconfig", TWO_HOSTS);
    read_tree(&s);
    assert_string_equal(s.current, "algo-2");
    assert_variable("SM_CURRENT_HOST", "algo-2");
    assert_variable("CONVOY_HOST", "algo-2");
    launch_sagemaker_release(&s);
}

static void sagemaker_takes_hosts_of_the_environment_before_the_files(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    setenv("SM_HOSTS", "[\"algo-2\"]", 1);
    read_tree(&s);
    assert_int_equal(s.hosts.count, 1);
    assert_string_equal(s.hosts.at[0], "algo-2");
    launch_sagemaker_release(&s);
    setenv("SM_HOSTS", "[\"algo-1\"]", 1);
    assert_refused("SM_HOSTS", "'algo-2'");
    setenv("SM_HOSTS", "algo-1", 1);
    assert_refused("SM_HOSTS", "JSON");
}

static void sagemaker_refuses_resources_that_cannot_be(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "resourceconfig.json"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\"]", "not valid JSON"},
        {"[]", "current_host"},
        {"{\"hosts\":[\"a\"]}", "'current_host' is missing"},
        {"{\"current_host\":1,\"hosts\":[\"a\"]}", "'current_host' is not a string"},
        {"{\"current_host\":\"a\"}", "'hosts' is missing"},
        {"{\"current_host\":\"a\",\"hosts\":\"a\"}", "'hosts' is not an array"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\",2]}", "'hosts'"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\",\"-x,b\"]}", "'hosts'"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\",\"\"]}", "'hosts'"},
        {"{\"current_host\":\"algo-3\",\"hosts\":[\"algo-1\",\"algo-2\"]}", "algo-1, algo-2"},
        {"{\"current_host\":\"a\",\"hosts\":[]}", "there are none"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\"],\"network_interface_name\":\"eth0 up\"}",
         "network_interface_name"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\"],\"current_group_name\":\"g\","
         "\"instance_groups\":[{\"instance_group_name\":\"h\",\"hosts\":[\"a\"]}]}",
         "'g'"},
        {"{\"current_host\":\"a\",\"hosts\":[\"a\",\"b\"],\"current_instance_group\":\"g\","
         "\"instance_groups\":[{\"instance_group_name\":\"g\",\"hosts\":[\"b\"]}]}",
         "our instance group"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_config("resourceconfig", cases[i].text);
        assert_refused(cases[i].part, "resourceconfig.json");
    }
}

/* --- channels --- */

static void sagemaker_exports_channels_of_file_and_folders(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("inputdataconfig",
               "{\"validation\":{\"TrainingInputMode\":\"fastfile\",\"ContentType\":\"x\","
               "\"S3DistributionType\":\"FullyReplicated\",\"RecordWrapperType\":\"None\"},"
               "\"my-data.1\":{}}");
    put_channel("validation");
    put_channel("my-data.1");
    put_channel("extra_one");
    put("input/data/extra_one-manifest", "a\n");
    read_tree(&s);
    assert_variable("SM_CHANNELS", "[\"extra_one\",\"my-data.1\",\"validation\"]");
    assert_path_variable("SM_CHANNEL_VALIDATION", "input/data/validation");
    assert_path_variable("SM_CHANNEL_MY-DATA.1", "input/data/my-data.1");
    assert_path_variable("SM_CHANNEL_EXTRA_ONE", "input/data/extra_one");
    assert_null(getenv("SM_CHANNEL_EXTRA_ONE-MANIFEST"));
    launch_sagemaker_release(&s);
}

static void sagemaker_leaves_channels_that_the_user_set(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("inputdataconfig", "{\"training\":{\"TrainingInputMode\":\"Pipe\"},"
                                  "\"test\":{\"TrainingInputMode\":\"File\"}}");
    put_channel("test");
    setenv("SM_CHANNEL_TRAINING", "s3://bucket/data/", 1);
    setenv("SM_CHANNEL_TEST", "", 1); /* says nothing */
    read_tree(&s);
    assert_variable("SM_CHANNEL_TRAINING", "s3://bucket/data/");
    assert_path_variable("SM_CHANNEL_TEST", "input/data/test");
    assert_variable("SM_CHANNELS", "[\"test\",\"training\"]");
    launch_sagemaker_release(&s);
}

/* Of which a host may have nothing. */
static void sagemaker_names_channels_of_which_each_host_has_a_share(void **state)
{
    struct launch_sagemaker s;

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_channel("test");
    put_config("inputdataconfig",
               "{\"training\":{\"S3DistributionType\":\"ShardedByS3Key\"},\"test\":{},"
               "\"validation\":{\"S3DistributionType\":\"ShardedByS3Key\"}}");
    read_tree(&s);
    assert_path_variable("SM_CHANNEL_TRAINING", "input/data/training");
    assert_variable("CONVOY_HOST_DATA", "training,validation");
    launch_sagemaker_release(&s);
}

static void sagemaker_gives_a_pipe_channel_a_folder_for_its_stream(void **state)
{
    struct launch_sagemaker s = {0};
    char want[512];

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("inputdataconfig", "{\"training\":{\"TrainingInputMode\":\"pipe\"},"
                                  "\"test\":{\"TrainingInputMode\":\"Pipe\","
                                  "\"S3DistributionType\":\"ShardedByS3Key\"}}");
    read_tree(&s);
    assert_path_variable("SM_CHANNEL_TRAINING", "spool/training");
    assert_variable("CONVOY_HOST_DATA", "test");
    assert_int_equal(s.pipes.count, 4);
    snprintf(want, sizeof want, "%s/input/data/training_0", s.base);
    assert_string_equal(s.pipes.at[0], want);
    snprintf(want, sizeof want, "%s/spool/training", s.base);
    assert_string_equal(s.pipes.at[1], want);
    launch_sagemaker_release(&s);
    setenv("CONVOY_SPOOL", "/big/disk", 1);
    unsetenv("SM_CHANNEL_TRAINING");
    read_tree(&s);
    unsetenv("CONVOY_SPOOL");
    assert_variable("SM_CHANNEL_TRAINING", "/big/disk/training");
    launch_sagemaker_release(&s);
}

/* As the training toolkit sets it, where no folder is in Pipe mode. */
static void sagemaker_takes_the_usual_path_of_a_pipe_channel_for_none(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("inputdataconfig", "{\"training\":{\"TrainingInputMode\":\"Pipe\"}}");
    setenv("SM_CHANNEL_TRAINING", in_tree("input/data/training"), 1);
    read_tree(&s);
    assert_path_variable("SM_CHANNEL_TRAINING", "spool/training");
    assert_int_equal(s.pipes.count, 2);
    launch_sagemaker_release(&s);
    setenv("SM_CHANNEL_TRAINING", "s3://bucket/prefix", 1); /* somebody's own word */
    read_tree(&s);
    assert_variable("SM_CHANNEL_TRAINING", "s3://bucket/prefix");
    assert_int_equal(s.pipes.count, 0);
    launch_sagemaker_release(&s);
}

static void sagemaker_refuses_channels_that_it_cannot_read(void **state)
{
    static const struct {
        const char *text, *part, *other;
    } cases[] = {
        {"{\"training\":{\"TrainingInputMode\":\"tube\"}}", "channel 'training'", "FastFile"},
        {"{\"training\":{\"TrainingInputMode\":7}}", "channel 'training'", "TrainingInputMode"},
        {"{\"model\":{\"S3DistributionType\":\"ShardedByS3Key\"}}", "channel 'model'",
         "FullyReplicated"},
        {"{\"model\":{\"TrainingInputMode\":\"Pipe\"}}", "channel 'model'", "use File"},
        {"{\"training\":\"File\"}", "channel 'training'", "inputdataconfig.json"},
        {"{\"elsewhere\":{}}", "channel 'elsewhere'", "/input/data/elsewhere"},
        {"{\"empty\":{}}", "channel 'empty' is empty", "/input/data/empty"},
        {"{\"..\":{}}", "'..'", "inputdataconfig.json"},
        {"{\"a/b\":{}}", "'a/b'", "inputdataconfig.json"},
        {"[\"training\"]", "inputdataconfig.json", "channels"},
        {"{\"a\":{},\"a\":{}}", "inputdataconfig.json", "JSON"},
    };
    struct err err = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_channel("training");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strstr(cases[i].text, "empty") != NULL)
            assert_int_equal(file_make_folder(in_tree("input/data/empty/class"), &err), 0);
        put_config("inputdataconfig", cases[i].text);
        assert_refused(cases[i].part, cases[i].other);
    }
}

static void sagemaker_refuses_an_empty_folder_that_no_file_names(void **state)
{
    struct err err = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    assert_int_equal(file_make_folder(in_tree("input/data/training"), &err), 0);
    assert_refused("channel 'training' is empty", "/input/data/training");
}

/* --- hyperparameters.json --- */

static void sagemaker_exports_hyperparameters_as_texts(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("hyperparameters",
               "\xef\xbb\xbf{\r\n\"_tuning_objective_metric\": \"validation:accuracy\",\r\n"
               "\"batch_size\": \"\\\"64\\\"\", \"learning-rate\": \" 1e-3\\r\\n\",\r\n"
               "\"optimizer\": \"\\\"sgd\\\"\", \"lr_scheduler_step\": \"\\\"10,20\\\"\",\r\n"
               "\"twice\": \"\\\"\\\\\\\"x\\\\\\\"\\\"\", \"quote\": \"\\\"a\", \"name\": "
               "\"caf\xc3\xa9\",\r\n"
               "\"epochs\": 3, \"flag\": true, \"shape\": [3, 224, 224], \"none\": null,\r\n"
               "\"sagemaker_job_name\": \"\\\"dogs\\\"\", \"A=B\": \"1\", \"\": \"2\"}\r\n");
    read_tree(&s);
    assert_variable("SM_HP_BATCH_SIZE", "64");
    assert_variable("SM_HP_LEARNING-RATE", "1e-3");
    assert_variable("SM_HP_OPTIMIZER", "sgd");
    assert_variable("SM_HP_LR_SCHEDULER_STEP", "10,20");
    assert_variable("SM_HP_TWICE", "\"x\""); /* quotes come off once */
    assert_variable("SM_HP_QUOTE", "\"a");
    assert_variable("SM_HP_NAME", "caf\xc3\xa9");
    assert_variable("SM_HP_EPOCHS", "3");
    assert_variable("SM_HP_FLAG", "true");
    assert_variable("SM_HP_SHAPE", "[3,224,224]");
    assert_null(getenv("SM_HP_NONE"));
    assert_null(getenv("SM_HP_SAGEMAKER_JOB_NAME"));
    assert_null(getenv("SM_HP__TUNING_OBJECTIVE_METRIC"));
    assert_variable("SM_FRAMEWORK_PARAMS", "{\"_tuning_objective_metric\":\"validation:accuracy\","
                                           "\"sagemaker_job_name\":\"dogs\"}");
    assert_non_null(strstr(getenv("SM_HPS"), "\"batch_size\":\"64\",\"epochs\":3,"));
    assert_non_null(strstr(getenv("SM_HPS"), "\"learning-rate\":0.001,"));
    assert_non_null(strstr(getenv("SM_HPS"), "\"caf\\u00E9\""));
    assert_non_null(strstr(getenv("SM_USER_ARGS"), "\"--batch_size\",\"64\",\"--epochs\",\"3\","));
    launch_sagemaker_release(&s);
}

static void sagemaker_keeps_hyperparameters_that_are_set_already(void **state)
{
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    put_config("hyperparameters", "{\"epochs\":\"3\"}");
    setenv("SM_HP_EPOCHS", "5", 1);
    read_tree(&s);
    assert_variable("SM_HP_EPOCHS", "5");
    launch_sagemaker_release(&s);
}

static void sagemaker_takes_long_values_and_leaves_out_what_no_variable_holds(void **state)
{
    char value[2501] = "";
    struct launch_sagemaker s = {0};
    struct buf text = {0};

    (void)state;
    memset(value, 'v', 2500);
    put_config("resourceconfig", TWO_HOSTS);
    buf_printf(&text, "{\"long\":\"%s\",\"longer\":\"", value);
    for (int i = 0; i < 60; i++)
        buf_printf(&text, "%s", value);
    buf_printf(&text, "\"}");
    put_config("hyperparameters", buf_text(&text));
    read_tree(&s);
    assert_variable("SM_HP_LONG", value);
    assert_null(getenv("SM_HP_LONGER"));
    assert_null(getenv("SM_HPS")); /* 150 KB: execve would refuse it */
    launch_sagemaker_release(&s);
    buf_release(&text);
}

static void sagemaker_refuses_hyperparameters_that_are_none(void **state)
{
    static const char *const cases[] = {"", "[]", "{\"a\":1", "{\"a\":\"1\",\"a\":\"2\"}", "x"};
    struct buf text = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_config("hyperparameters", cases[i]);
        assert_refused("hyperparameters.json", "");
    }
    for (int i = 0; i < 40; i++)
        buf_printf(&text, "{\"a\":");
    put_config("hyperparameters", buf_text(&text));
    assert_refused("hyperparameters.json", "nested");
    while (text.bytes <= (size_t)1 << 20)
        buf_printf(&text, "%1000s", "");
    put_config("hyperparameters", buf_text(&text));
    assert_refused("hyperparameters.json", "longer than");
    buf_release(&text);
}

/* --- checkpointconfig.json --- */

static void sagemaker_exports_the_checkpoint_folder(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"{}", "checkpoints"},
        {"{\"LocalPath\":null,\"S3Uri\":\"s3://b/c\"}", "checkpoints"},
        {"{\"LocalPath\":\"/opt/ml/checkpoints\"}", "checkpoints"},
        {"{\"LocalPath\":\"/opt/ml/other/place\"}", "other/place"},
    };
    struct launch_sagemaker s = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsetenv("CONVOY_CHECKPOINT");
        put_config("checkpointconfig", cases[i].text);
        read_tree(&s);
        assert_path_variable("CONVOY_CHECKPOINT", cases[i].want);
        launch_sagemaker_release(&s);
    }
    unsetenv("CONVOY_CHECKPOINT");
    put_config("checkpointconfig", "{\"LocalPath\":\"/opt/mlx\"}");
    read_tree(&s);
    assert_variable("CONVOY_CHECKPOINT", "/opt/mlx");
    launch_sagemaker_release(&s);
    put_config("checkpointconfig", "{\"LocalPath\":\"checkpoints\"}");
    assert_refused("checkpointconfig.json", "LocalPath");
    put_config("checkpointconfig", "{\"LocalPath\":1}");
    assert_refused("checkpointconfig.json", "LocalPath");
}

/* --- the failure file --- */

static void sagemaker_fail_writes_once_and_names_the_host(void **state)
{
    struct launch_sagemaker s = {0};
    struct buf text = {0};
    struct err err = {0};

    (void)state;
    put_config("resourceconfig", TWO_HOSTS);
    read_tree(&s);
    launch_sagemaker_fail(&s, "no pictures");
    launch_sagemaker_fail(&s, "the second reason");
    assert_int_equal(file_read(in_tree("output/failure"), 4096, &text, &err), 0);
    assert_string_equal(buf_text(&text), "no pictures (host algo-2)");
    buf_release(&text);
    launch_sagemaker_release(&s);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(sagemaker_is_inactive_without_a_tree_and_a_job),
        CASE(sagemaker_with_a_job_and_no_tree_is_one_host),
        CASE(sagemaker_with_one_host_and_nothing_else_exports_the_tree),
        CASE(sagemaker_sorts_twelve_hosts_as_text),
        CASE(sagemaker_takes_the_names_of_local_mode),
        CASE(sagemaker_takes_the_hosts_of_its_own_group),
        CASE(sagemaker_lets_the_file_say_who_we_are),
        CASE(sagemaker_takes_hosts_of_the_environment_before_the_files),
        CASE(sagemaker_refuses_resources_that_cannot_be),
        CASE(sagemaker_exports_channels_of_file_and_folders),
        CASE(sagemaker_leaves_channels_that_the_user_set),
        CASE(sagemaker_gives_a_pipe_channel_a_folder_for_its_stream),
        CASE(sagemaker_takes_the_usual_path_of_a_pipe_channel_for_none),
        CASE(sagemaker_refuses_channels_that_it_cannot_read),
        CASE(sagemaker_names_channels_of_which_each_host_has_a_share),
        CASE(sagemaker_refuses_an_empty_folder_that_no_file_names),
        CASE(sagemaker_exports_hyperparameters_as_texts),
        CASE(sagemaker_keeps_hyperparameters_that_are_set_already),
        CASE(sagemaker_takes_long_values_and_leaves_out_what_no_variable_holds),
        CASE(sagemaker_refuses_hyperparameters_that_are_none),
        CASE(sagemaker_exports_the_checkpoint_folder),
        CASE(sagemaker_fail_writes_once_and_names_the_host),
    };
#undef CASE

    return cmocka_run_group_tests(tests, NULL, NULL);
}
