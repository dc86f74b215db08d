/* tests/weights/test_pickle.c -- pickles that want to run something, and pickles that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "bed.h"
#include "trainer/weights/pickle.h"

#define PROTO BED_PROTO

static const struct pickle_value *read_all(struct pickle_store *store, const void *bytes,
                                           size_t count, struct err *err)
{
    return pickle_read(store, bytes, count, "f.pth", NULL, err);
}

static void expect_refusal(const char *name, const void *bytes, size_t count, const char *says)
{
    struct pickle_store store = {0};
    struct err err = {0};
    unsigned char *const exact = malloc(count + 1);

    memcpy(exact, bytes, count);
    if (read_all(&store, exact, count, &err) != NULL)
        fail_msg("%s: was read", name);
    if (err.code != ERR_INPUT || strstr(err.msg, says) == NULL || strstr(err.msg, "f.pth") == NULL)
        fail_msg("%s: '%s' does not say '%s'", name, err.msg, says);
    pickle_store_release(&store);
    free(exact);
}

struct bad {
    const char *name, *bytes;
    size_t count;
    const char *says;
};

#define BYTES(text)  text, sizeof(text) - 1
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static void expect_refusals(const struct bad *bad, size_t count)
{
    for (size_t i = 0; i < count; i++)
        expect_refusal(bad[i].name, bad[i].bytes, bad[i].count, bad[i].says);
}

#define ID    "X\x02\0\0\0id"
#define DICT  BED_DICT
#define FLOAT "ctorch\nFloatStorage\n"

static void read_refuses_to_call_anything(void **state)
{
    static const struct bad bad[] = {
        {"os.system", BYTES(PROTO "cos\nsystem\n" ID "\x85R."), "calls 'os.system': refused"},
        {"posix.system", BYTES(PROTO "cposix\nsystem\n" ID "\x85R."), "calls 'posix.system'"},
        {"eval", BYTES(PROTO "cbuiltins\neval\n" ID "\x85R."), "calls 'builtins.eval'"},
        {"exec of Python 2", BYTES(PROTO "c__builtin__\nexec\n" ID "\x85R."),
         "calls '__builtin__.exec'"},
        {"getattr", BYTES(PROTO "cbuiltins\ngetattr\n" ID "\x85R."), "calls 'builtins.getattr'"},
        {"torch.load", BYTES(PROTO "ctorch\nload\n" ID "\x85R."), "calls 'torch.load'"},
        {"a neighbour of ours", BYTES(PROTO "ctorch._utils\n_rebuild_tensor_v3\n)R."),
         "calls 'torch._utils._rebuild_tensor_v3'"},
        {"a way through a module of ours", BYTES(PROTO "ctorch\nserialization.os.system\n)R."),
         "calls 'torch.serialization.os.system'"},
        {"a beginning of ours", BYTES(PROTO "ccollections\nOrdered\n)R."),
         "calls 'collections.Ordered'"},
        {"named, not called", BYTES(PROTO "cos\nsystem\n."), "calls 'os.system'"},
        {"as a dict's state", BYTES(PROTO DICT "}X\x0c\0\0\0__setstate__cos\nsystem\nsbNb."),
         "calls 'os.system'"},
        {"INST", BYTES(PROTO "(" ID "ios\nsystem\n."), "instruction INST"},
        {"OBJ", BYTES(PROTO "(ccollections\nOrderedDict\no."), "instruction OBJ"},
        {"OBJ of a stranger", BYTES(PROTO "(cos\nsystem\n" ID "o."), "calls 'os.system'"},
        {"NEWOBJ", BYTES(PROTO "csubprocess\nPopen\n" ID "\x85\x81."), "calls 'subprocess.Popen'"},
        {"NEWOBJ_EX", BYTES(PROTO "ccollections\nOrderedDict\n)}\x92."), "instruction NEWOBJ_EX"},
        {"STACK_GLOBAL", BYTES(PROTO "X\x02\0\0\0osX\x06\0\0\0system\x93" ID "\x85R."),
         "instruction STACK_GLOBAL"},
        {"protocol 4", BYTES("\x80\x04\x8c\x02os\x8c\x06system\x93" ID "\x85R."), "protocol 4"},
        {"protocol 0", BYTES("cos\nsystem\n(S'id'\ntR."), "does not begin as one"},
        {"EXT1", BYTES(PROTO "\x82\x01)R."), "instruction EXT1"},
        {"EXT2", BYTES(PROTO "\x83\x01\x01)R."), "instruction EXT2"},
        {"EXT4", BYTES(PROTO "\x84\x01\x01\x01\x01)R."), "instruction EXT4"},
        {"PERSID", BYTES(PROTO "Pid\n."), "instruction PERSID"},
        {"BINPERSID of a text", BYTES(PROTO ID "Q."), "persistent id"},
        {"BINPERSID of a module", BYTES(PROTO "(X\x06\0\0\0module" FLOAT "X\1\0\0\0aX\1\0\0\0btQ."),
         "persistent id"},
        {"BINPERSID of another word",
         BYTES(PROTO "(X\x06\0\0\0module" FLOAT "X\1\0\0\0aX\1\0\0\0bK\1tQ."), "persistent id"},
        {"BINPERSID of a dict's type",
         BYTES(PROTO "(X\7\0\0\0storageccollections\nOrderedDict\nX\1\0\0\0aX\1\0\0\0bK\1tQ."),
         "persistent id"},
        {"a text called", BYTES(PROTO ID ID "\x85R."), "calls a text"},
        {"a dict called", BYTES(PROTO DICT ID "\x85R."), "calls a dict"},
        {"arguments that are no tuple", BYTES(PROTO "ccollections\nOrderedDict\n]R."),
         "with a list"},
        {"a type of storage called", BYTES(PROTO FLOAT "K\1\x85R."), "'FloatStorage' with 1"},
        {"a type of storage called with nothing", BYTES(PROTO FLOAT ")R."),
         "'FloatStorage' with 0"},
        {"a tensor of nothing", BYTES(PROTO "ctorch._utils\n_rebuild_tensor_v2\n)R."),
         "with 0 arguments"},
        {"a tensor of six texts",
         BYTES(PROTO "ctorch._utils\n_rebuild_tensor_v2\n(" ID ID ID ID ID ID "tR."),
         "not a storage"},
        {"a Parameter of a text", BYTES(PROTO "ctorch.nn.parameter\nParameter\n" ID "\x85R."),
         "Parameter that is a text"},
        {"a dict of a text", BYTES(PROTO "ccollections\nOrderedDict\n" ID "\x85R."),
         "not a list of pairs"},
        {"a dict of triples",
         BYTES(PROTO "ccollections\nOrderedDict\n](NNN\x87"
                     "e\x85R."),
         "not a list of pairs"},
        {"the state of a list", BYTES(PROTO "]}b."), "gives a state to a list"},
        {"the state of a function", BYTES(PROTO "ccollections\nOrderedDict\n}b."),
         "gives a state to a function"},
        {"a tuple as a dict's state", BYTES(PROTO DICT ")b."), "gives a state to a dict"},
        {"a dict as a tensor's state", BYTES(PROTO "ctorch\nFloatTensor\n)R}b."),
         "state is a dict"},
        {"two parts as a tensor's state",
         BYTES(PROTO "ctorch\nFloatTensor\n)RNN\x86"
                     "b."),
         "state has 2 parts"},
    };

    (void)state;
    expect_refusals(bad, COUNT(bad));
}

static void read_refuses_what_is_no_pickle(void **state)
{
    static const struct bad bad[] = {
        {"nothing", BYTES(""), "cut short"},
        {"protocol only", BYTES(PROTO), "cut short"},
        {"half a protocol", BYTES("\x80"), "cut short"},
        {"the protocol twice", BYTES(PROTO PROTO "N."), "protocol"},
        {"no object", BYTES(PROTO "."), "ends without one object"},
        {"two objects", BYTES(PROTO "NN."), "ends without one object"},
        {"a mark left", BYTES(PROTO "N(."), "ends without one object"},
        {"bytes behind", BYTES(PROTO "N.N"), "bytes behind its end"},
        {"no instruction", BYTES(PROTO "\xff."), "does not exist"},
        {"no mark", BYTES(PROTO "Nt."), "a mark that is not there"},
        {"an empty stack", BYTES(PROTO "\x85."), "more objects than there are"},
        {"below a mark", BYTES(PROTO "NN(\x86."), "more objects than there are"},
        {"a list below a mark", BYTES(PROTO "]((e."), "more objects than there are"},
        {"the memo of nothing", BYTES(PROTO "q\0N."), "more objects than there are"},
        {"the memo's 5", BYTES(PROTO "h\5."), "takes from its memo"},
        {"the memo's hole", BYTES(PROTO "Nq\5h\4."), "takes from its memo"},
        {"the memo's end", BYTES(PROTO "Nq\5j\xff\xff\xff\xff."), "takes from its memo"},
        {"a huge memo", BYTES(PROTO "Nr\xff\xff\xff\xff."), "memo that is too large"},
        {"a key without a value", BYTES(PROTO "}(Nu."), "do not belong"},
        {"a member of a tuple", BYTES(PROTO ")Na."), "do not belong"},
        {"a key of a list", BYTES(PROTO "]NNs."), "do not belong"},
        {"a text of 4 GB",
         BYTES(PROTO "X\xff\xff\xff\xff"
                     "a."),
         "cut short"},
        {"a long name",
         BYTES(PROTO "caaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nb\n."),
         "calls 'aaaaa"},
        {"a name without an end", BYTES(PROTO "cos"), "cut short"},
        {"a NUL in a name", BYTES(PROTO "ccollections\0\nOrderedDict\n."), "a name with a NUL"},
        {"a NUL behind a name", BYTES(PROTO "ccollections\nOrderedDict\0x\n."),
         "a name with a NUL"},
        {"80 bits",
         BYTES(PROTO "\x8a\x0a"
                     "0123456789."),
         "more than 64 bits"},
    };

    (void)state;
    expect_refusals(bad, COUNT(bad));
}

static void read_refuses_too_much(void **state)
{
    struct buf pickle = {0};

    (void)state;
    buf_printf(&pickle, PROTO);
    for (int i = 0; i < 300; i++)
        buf_printf(&pickle, "(");
    expect_refusal("marks", pickle.data, pickle.bytes, "nested too deep");
    pickle.bytes = 2;
    for (int i = 0; i <= PICKLE_VALUES_MAX; i++)
        buf_append(&pickle, "]", 1);
    expect_refusal("objects", pickle.data, pickle.bytes, "more than 1000000 objects");
    pickle.bytes = 2;
    buf_append(&pickle, "Nq\0", 3);
    for (int i = 0; i <= PICKLE_VALUES_MAX; i++)
        buf_append(&pickle, "h\0", 2);
    expect_refusal("one object often", pickle.data, pickle.bytes, "more than 1000000 objects");
    buf_release(&pickle);
}

/* A list of a thousand pairs, made an OrderedDict again and again: little becomes much. */
static void read_refuses_to_copy_one_list_for_ever(void **state)
{
    struct buf pickle = {0};

    (void)state;
    buf_append(&pickle, PROTO "](", 4);
    for (int i = 0; i < 1000; i++)
        buf_append(&pickle, "NN\x86", 3);
    buf_append(&pickle, "e\x85q\0", 4); /* ([...],) */
    for (int i = 0; i < 10000; i++)
        buf_append(&pickle, "ccollections\nOrderedDict\nh\0R", 28);
    expect_refusal("members", pickle.data, pickle.bytes, "more than 4000000 members");
    buf_release(&pickle);
}

static void read_knows_every_plain_object(void **state)
{
    static const char bytes[] =
        PROTO "(J\xfe\xff\xff\xffK\xffM\xff\xff\x8a\x03\x01\x00\x80\x8a\x00G01234567"
              "U\x02hiT\x03\x00\x00\x00hey\x88\x89N])}t.";
    static const struct {
        enum pickle_kind kind;
        int64_t integer;
    } want[] = {
        {PICKLE_INTEGER, -2},       {PICKLE_INTEGER, 255}, {PICKLE_INTEGER, 65535},
        {PICKLE_INTEGER, -8388607}, {PICKLE_INTEGER, 0},   {PICKLE_FLOAT, 0},
        {PICKLE_TEXT, 0},           {PICKLE_TEXT, 0},      {PICKLE_BOOL, 1},
        {PICKLE_BOOL, 0},           {PICKLE_NONE, 0},      {PICKLE_LIST, 0},
        {PICKLE_TUPLE, 0},          {PICKLE_DICT, 0},
    };
    struct pickle_store store = {0};
    const struct pickle_value *const top = read_all(&store, bytes, sizeof bytes - 1, NULL);

    (void)state;
    assert_non_null(top);
    assert_int_equal(top->kind, PICKLE_TUPLE);
    assert_int_equal(top->list.count, COUNT(want));
    for (size_t i = 0; i < COUNT(want); i++) {
        assert_int_equal(top->list.items[i]->kind, want[i].kind);
        if (want[i].kind == PICKLE_INTEGER || want[i].kind == PICKLE_BOOL)
            assert_int_equal(top->list.items[i]->integer, want[i].integer);
    }
    assert_true(pickle_value_is_text(top->list.items[6], "hi"));
    assert_true(pickle_value_is_text(top->list.items[7], "hey"));
    pickle_store_release(&store);
    pickle_store_release(&store);
}

static void read_makes_a_list_that_holds_itself(void **state)
{
    static const char bytes[] = PROTO "]q\0h\0a.";
    struct pickle_store store = {0};
    const struct pickle_value *const top = read_all(&store, bytes, sizeof bytes - 1, NULL);

    (void)state;
    assert_non_null(top);
    assert_ptr_equal(top->list.items[0], top);
    pickle_store_release(&store);
}

/* What PyTorch 0.1 to 0.3 and Python 2 wrote. */
static void read_knows_the_tensors_of_old(void **state)
{
#define STORAGE "(U\7storagectorch\nFloatStorage\nU\1aU\3cpuK\x09NtQ"
#define PARTS   "K\1K\2K\3\x86K\3K\1\x86"
    static const struct {
        const char *name, *bytes;
        size_t count;
    } cases[] = {
        {"_rebuild_tensor", BYTES(PROTO "ctorch._utils\n_rebuild_tensor\n(" STORAGE PARTS "tR.")},
        {"FloatTensor", BYTES(PROTO "ctorch\nFloatTensor\n)R(" STORAGE PARTS "tb.")},
        {"a Parameter",
         BYTES(PROTO "ctorch.nn.parameter\nParameter\n"
                     "ctorch._utils\n_rebuild_tensor\n(" STORAGE PARTS "tR\x85R\x88\x89" DICT "\x87"
                     "b.")},
        {"a Parameter by NEWOBJ", BYTES(PROTO "ctorch.nn.parameter\nParameter\n"
                                              "ctorch._utils\n_rebuild_tensor\n(" STORAGE PARTS
                                              "tR\x85\x81\x88\x89" DICT "\x87"
                                              "b.")},
        {"the oldest Parameter",
         BYTES(PROTO "ctorch.nn.parameter\nParameter\n)\x81("
                     "ctorch._utils\n_rebuild_tensor\n(" STORAGE PARTS "tRN" DICT "\x88\x89tb.")},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct pickle_store store = {0};
        struct err err = {0};
        const struct pickle_value *top = read_all(&store, cases[i].bytes, cases[i].count, &err);

        if (top == NULL)
            fail_msg("%s: %s", cases[i].name, err.msg);
        assert_int_equal(top->kind, PICKLE_TENSOR);
        assert_int_equal(top->tensor.offset, 1);
        assert_int_equal(top->tensor.dims, 2);
        assert_int_equal(top->tensor.size[1], 3);
        assert_int_equal(top->tensor.stride[0], 3);
        assert_int_equal(top->tensor.storage->count, 9);
        pickle_store_release(&store);
    }
}

static void read_knows_the_dict_of_python_2(void **state)
{
    static const char bytes[] = PROTO "ccollections\nOrderedDict\n](](U\1aK\1e](U\1bK\2ee\x85R.";
    struct pickle_store store = {0};
    const struct pickle_value *const top = read_all(&store, bytes, sizeof bytes - 1, NULL);

    (void)state;
    assert_non_null(top);
    assert_int_equal(top->kind, PICKLE_DICT);
    assert_int_equal(top->list.count, 4);
    assert_true(pickle_value_is_text(top->list.items[2], "b"));
    assert_int_equal(top->list.items[3]->integer, 2);
    pickle_store_release(&store);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_refuses_to_call_anything),
        cmocka_unit_test(read_refuses_what_is_no_pickle),
        cmocka_unit_test(read_refuses_too_much),
        cmocka_unit_test(read_refuses_to_copy_one_list_for_ever),
        cmocka_unit_test(read_knows_every_plain_object),
        cmocka_unit_test(read_makes_a_list_that_holds_itself),
        cmocka_unit_test(read_knows_the_tensors_of_old),
        cmocka_unit_test(read_knows_the_dict_of_python_2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
