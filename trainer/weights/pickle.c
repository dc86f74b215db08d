/* trainer/weights/pickle.c -- see pickle.h. */
#include "trainer/weights/pickle.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/weights/torch_object.h"

#define PROTOCOL       2
#define MARKS_MAX      256 /* how deep containers are begun one in another */
#define NAME_BYTES_MAX 128 /* of a module or of a function */

struct machine {
    struct pickle_store *store;
    const unsigned char *bytes;
    size_t count, at;
    struct pickle_value **stack;
    size_t depth, stack_room;
    size_t marks[MARKS_MAX], mark_count; /* depths */
    struct pickle_value **memo;
    size_t memo_room;
    bool stopped;
    const char *path;
    struct err *err;
};

static int short_of_bytes(const struct machine *m)
{
    return err_set(m->err, ERR_INPUT, "'%s' is cut short: it ends within its pickle", m->path);
}

static int malformed(const struct machine *m, const char *what)
{
    return err_set(m->err, ERR_INPUT, "'%s' is damaged: its pickle %s (byte %zu)", m->path, what,
                   m->at);
}

/* The next bytes of the program; NULL with err set where it ends before. */
static const unsigned char *take(struct machine *m, size_t bytes)
{
    const unsigned char *const taken = m->bytes + m->at;

    if (bytes > m->count - m->at) {
        short_of_bytes(m);
        return NULL;
    }
    m->at += bytes;
    return taken;
}

/* A little-endian number of 1 to 8 bytes, of two's complement or not. */
static int take_number(struct machine *m, size_t bytes, bool is_signed, int64_t *number)
{
    const unsigned char *const taken = take(m, bytes);
    uint64_t value = 0;

    if (taken == NULL)
        return -1;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)taken[i] << (8 * i);
    if (is_signed && bytes > 0 && bytes < 8 && (taken[bytes - 1] & 0x80) != 0)
        value |= UINT64_MAX << (8 * bytes);
    *number = (int64_t)value;
    return 0;
}

static int push(struct machine *m, struct pickle_value *value)
{
    if (m->depth == PICKLE_VALUES_MAX)
        return err_set(m->err, ERR_INPUT, "'%s' has more than %d objects", m->path,
                       PICKLE_VALUES_MAX);
    if (m->depth == m->stack_room) {
        m->stack_room = m->stack_room * 2 + 64;
        m->stack = realloc(m->stack, m->stack_room * sizeof m->stack[0]);
        if (m->stack == NULL)
            abort();
    }
    m->stack[m->depth++] = value;
    return 0;
}

/* A new object on the stack; NULL with err set where there are too many. */
static struct pickle_value *push_new(struct machine *m, enum pickle_kind kind)
{
    struct pickle_value *const value = pickle_value_new(m->store, kind);

    if (value == NULL) {
        err_set(m->err, ERR_INPUT, "'%s' has more than %d objects", m->path, PICKLE_VALUES_MAX);
        return NULL;
    }
    return push(m, value) < 0 ? NULL : value;
}

/* Whether `count` objects lie above the last mark; else err is set. */
static bool has(const struct machine *m, size_t count)
{
    const size_t floor = m->mark_count > 0 ? m->marks[m->mark_count - 1] : 0;

    if (m->depth - floor >= count)
        return true;
    malformed(m, "takes more objects than there are");
    return false;
}

static struct pickle_value *pop(struct machine *m)
{
    return m->stack[--m->depth];
}

static struct pickle_value *top(const struct machine *m)
{
    return m->stack[m->depth - 1];
}

/* Take the mark away; the objects above it stay, their number is *count. */
static int pop_mark(struct machine *m, size_t *count)
{
    if (m->mark_count == 0)
        return malformed(m, "looks for a mark that is not there");
    *count = m->depth - m->marks[--m->mark_count];
    return 0;
}

/* Numbers, texts and constants */

static int run_proto(struct machine *m)
{
    int64_t protocol;

    if (take_number(m, 1, false, &protocol) < 0)
        return -1;
    if (m->at != 2 || protocol != PROTOCOL)
        return err_set(m->err, ERR_INPUT,
                       "'%s' is a pickle of protocol %d; %d, that of torch.save, is read", m->path,
                       (int)protocol, PROTOCOL);
    return 0;
}

static int run_stop(struct machine *m)
{
    if (m->mark_count > 0 || m->depth != 1)
        return malformed(m, "ends without one object");
    m->stopped = true;
    return 0;
}

static int push_integer(struct machine *m, size_t bytes, bool is_signed)
{
    struct pickle_value *value;
    int64_t number;

    if (take_number(m, bytes, is_signed, &number) < 0)
        return -1;
    value = push_new(m, PICKLE_INTEGER);
    if (value == NULL)
        return -1;
    value->integer = number;
    return 0;
}

static int run_binint(struct machine *m)
{
    return push_integer(m, 4, true);
}

static int run_binint1(struct machine *m)
{
    return push_integer(m, 1, false);
}

static int run_binint2(struct machine *m)
{
    return push_integer(m, 2, false);
}

static int run_long1(struct machine *m)
{
    int64_t bytes = 0;

    if (take_number(m, 1, false, &bytes) < 0)
        return -1;
    if (bytes > 8)
        return malformed(m, "has an integer of more than 64 bits");
    return push_integer(m, (size_t)bytes, true);
}

static int run_binfloat(struct machine *m)
{
    return take(m, 8) == NULL || push_new(m, PICKLE_FLOAT) == NULL ? -1 : 0;
}

static int push_text(struct machine *m, size_t length_bytes)
{
    const unsigned char *text;
    struct pickle_value *value;
    int64_t length = 0;

    if (take_number(m, length_bytes, false, &length) < 0)
        return -1;
    text = take(m, (size_t)length);
    if (text == NULL)
        return -1;
    value = push_new(m, PICKLE_TEXT);
    if (value == NULL)
        return -1;
    value->text.data = (const char *)text;
    value->text.bytes = (size_t)length;
    return 0;
}

static int run_text4(struct machine *m)
{
    return push_text(m, 4);
}

static int run_text1(struct machine *m)
{
    return push_text(m, 1);
}

static int run_none(struct machine *m)
{
    return push_new(m, PICKLE_NONE) == NULL ? -1 : 0;
}

static int run_false(struct machine *m)
{
    return push_new(m, PICKLE_BOOL) == NULL ? -1 : 0;
}

static int run_true(struct machine *m)
{
    struct pickle_value *const value = push_new(m, PICKLE_BOOL);

    if (value == NULL)
        return -1;
    value->integer = 1;
    return 0;
}

/* Containers */

static int run_mark(struct machine *m)
{
    if (m->mark_count == MARKS_MAX)
        return malformed(m, "is nested too deep");
    m->marks[m->mark_count++] = m->depth;
    return 0;
}

static int run_empty_tuple(struct machine *m)
{
    return push_new(m, PICKLE_TUPLE) == NULL ? -1 : 0;
}

static int run_empty_list(struct machine *m)
{
    return push_new(m, PICKLE_LIST) == NULL ? -1 : 0;
}

static int run_empty_dict(struct machine *m)
{
    return push_new(m, PICKLE_DICT) == NULL ? -1 : 0;
}

/* The topmost objects go into `list`, and off the stack. */
static int move_into(struct machine *m, struct pickle_value *list, size_t count)
{
    for (size_t i = m->depth - count; i < m->depth; i++) {
        if (pickle_value_append(m->store, list, m->stack[i]) < 0)
            return err_set(m->err, ERR_INPUT, "'%s' has containers of more than %d members",
                           m->path, PICKLE_MEMBERS_MAX);
    }
    m->depth -= count;
    return 0;
}

static int make_tuple(struct machine *m, size_t count)
{
    struct pickle_value *const tuple = pickle_value_new(m->store, PICKLE_TUPLE);

    if (tuple == NULL)
        return err_set(m->err, ERR_INPUT, "'%s' has more than %d objects", m->path,
                       PICKLE_VALUES_MAX);
    return move_into(m, tuple, count) < 0 ? -1 : push(m, tuple);
}

static int run_tuple(struct machine *m)
{
    size_t count = 0;

    return pop_mark(m, &count) < 0 ? -1 : make_tuple(m, count);
}

static int run_tuple1(struct machine *m)
{
    return has(m, 1) ? make_tuple(m, 1) : -1;
}

static int run_tuple2(struct machine *m)
{
    return has(m, 2) ? make_tuple(m, 2) : -1;
}

static int run_tuple3(struct machine *m)
{
    return has(m, 3) ? make_tuple(m, 3) : -1;
}

/* The topmost `count` objects become members of the one below, which is of `kind`. */
static int extend(struct machine *m, enum pickle_kind kind, size_t count)
{
    if (!has(m, count + 1))
        return -1;
    struct pickle_value *const target = m->stack[m->depth - count - 1];

    if (target->kind != kind || (kind == PICKLE_DICT && count % 2 != 0))
        return malformed(m, "puts members where they do not belong");
    return move_into(m, target, count);
}

static int run_append(struct machine *m)
{
    return extend(m, PICKLE_LIST, 1);
}

static int run_appends(struct machine *m)
{
    size_t count = 0;

    return pop_mark(m, &count) < 0 ? -1 : extend(m, PICKLE_LIST, count);
}

static int run_setitem(struct machine *m)
{
    return extend(m, PICKLE_DICT, 2);
}

static int run_setitems(struct machine *m)
{
    size_t count = 0;

    return pop_mark(m, &count) < 0 ? -1 : extend(m, PICKLE_DICT, count);
}

/* The memo */

static int put_memo(struct machine *m, size_t index_bytes)
{
    int64_t index;

    if (take_number(m, index_bytes, false, &index) < 0 || !has(m, 1))
        return -1;
    if (index >= PICKLE_VALUES_MAX)
        return malformed(m, "has a memo that is too large");
    if ((size_t)index >= m->memo_room) {
        const size_t room = 2 * (size_t)index + 64;

        m->memo = realloc(m->memo, room * sizeof m->memo[0]);
        if (m->memo == NULL)
            abort();
        memset(m->memo + m->memo_room, 0, (room - m->memo_room) * sizeof m->memo[0]);
        m->memo_room = room;
    }
    m->memo[index] = top(m);
    return 0;
}

static int get_memo(struct machine *m, size_t index_bytes)
{
    int64_t index;

    if (take_number(m, index_bytes, false, &index) < 0)
        return -1;
    if ((uint64_t)index >= m->memo_room || m->memo[index] == NULL)
        return malformed(m, "takes from its memo what is not there");
    return push(m, m->memo[index]);
}

static int run_binput(struct machine *m)
{
    return put_memo(m, 1);
}

static int run_long_binput(struct machine *m)
{
    return put_memo(m, 4);
}

static int run_binget(struct machine *m)
{
    return get_memo(m, 1);
}

static int run_long_binget(struct machine *m)
{
    return get_memo(m, 4);
}

/* Names and what is made by them */

/* A line of the program as a C string. */
static int take_line(struct machine *m, char name[NAME_BYTES_MAX])
{
    const size_t left = m->count - m->at,
                 limit = left < NAME_BYTES_MAX - 1 ? left : NAME_BYTES_MAX - 1;
    const unsigned char *const begin = m->bytes + m->at, *const end = memchr(begin, '\n', limit);

    if (end == NULL)
        return limit == left ? short_of_bytes(m)
                             : err_set(m->err, ERR_INPUT,
                                       "'%s' calls '%.*s...': refused; only tensors are read",
                                       m->path, 40, (const char *)begin);
    memcpy(name, begin, (size_t)(end - begin));
    name[end - begin] = '\0';
    m->at += (size_t)(end - begin) + 1;
    if (strlen(name) != (size_t)(end - begin))
        return malformed(m, "has a name with a NUL");
    return 0;
}

static int run_global(struct machine *m)
{
    char module[NAME_BYTES_MAX], name[NAME_BYTES_MAX];
    struct pickle_value *value;

    if (take_line(m, module) < 0 || take_line(m, name) < 0)
        return -1;
    value = push_new(m, PICKLE_NONE);
    return value == NULL ? -1 : torch_object_find(module, name, value, m->path, m->err);
}

/* REDUCE calls a function, NEWOBJ makes an object of a class: the same for the few we know. */
static int run_call(struct machine *m)
{
    struct pickle_value *made;

    if (!has(m, 2))
        return -1;
    const struct pickle_value *const arguments = pop(m), *const function = pop(m);

    made = torch_object_call(m->store, function, arguments, m->path, m->err);
    return made == NULL ? -1 : push(m, made);
}

static int run_build(struct machine *m)
{
    if (!has(m, 2))
        return -1;
    const struct pickle_value *const state = pop(m);

    return torch_object_build(top(m), state, m->path, m->err);
}

static int run_binpersid(struct machine *m)
{
    struct pickle_value *storage;

    if (!has(m, 1))
        return -1;
    storage = torch_object_storage(m->store, pop(m), m->path, m->err);
    return storage == NULL ? -1 : push(m, storage);
}

/* All instructions there are; those without `run` are refused. */
static const struct {
    const char *name;
    int (*run)(struct machine *m);
} instructions[256] = {
    ['('] = {"MARK", run_mark},
    ['.'] = {"STOP", run_stop},
    ['0'] = {"POP", NULL},
    ['1'] = {"POP_MARK", NULL},
    ['2'] = {"DUP", NULL},
    ['F'] = {"FLOAT", NULL},
    ['I'] = {"INT", NULL},
    ['J'] = {"BININT", run_binint},
    ['K'] = {"BININT1", run_binint1},
    ['L'] = {"LONG", NULL},
    ['M'] = {"BININT2", run_binint2},
    ['N'] = {"NONE", run_none},
    ['P'] = {"PERSID", NULL},
    ['Q'] = {"BINPERSID", run_binpersid},
    ['R'] = {"REDUCE", run_call},
    ['S'] = {"STRING", NULL},
    ['T'] = {"BINSTRING", run_text4},
    ['U'] = {"SHORT_BINSTRING", run_text1},
    ['V'] = {"UNICODE", NULL},
    ['X'] = {"BINUNICODE", run_text4},
    ['a'] = {"APPEND", run_append},
    ['b'] = {"BUILD", run_build},
    ['c'] = {"GLOBAL", run_global},
    ['d'] = {"DICT", NULL},
    ['}'] = {"EMPTY_DICT", run_empty_dict},
    ['e'] = {"APPENDS", run_appends},
    ['g'] = {"GET", NULL},
    ['h'] = {"BINGET", run_binget},
    ['i'] = {"INST", NULL},
    ['j'] = {"LONG_BINGET", run_long_binget},
    ['l'] = {"LIST", NULL},
    [']'] = {"EMPTY_LIST", run_empty_list},
    ['o'] = {"OBJ", NULL},
    ['p'] = {"PUT", NULL},
    ['q'] = {"BINPUT", run_binput},
    ['r'] = {"LONG_BINPUT", run_long_binput},
    ['s'] = {"SETITEM", run_setitem},
    ['t'] = {"TUPLE", run_tuple},
    [')'] = {"EMPTY_TUPLE", run_empty_tuple},
    ['u'] = {"SETITEMS", run_setitems},
    ['G'] = {"BINFLOAT", run_binfloat},
    ['B'] = {"BINBYTES", NULL},
    ['C'] = {"SHORT_BINBYTES", NULL},
    [0x80] = {"PROTO", run_proto},
    [0x81] = {"NEWOBJ", run_call},
    [0x82] = {"EXT1", NULL},
    [0x83] = {"EXT2", NULL},
    [0x84] = {"EXT4", NULL},
    [0x85] = {"TUPLE1", run_tuple1},
    [0x86] = {"TUPLE2", run_tuple2},
    [0x87] = {"TUPLE3", run_tuple3},
    [0x88] = {"NEWTRUE", run_true},
    [0x89] = {"NEWFALSE", run_false},
    [0x8a] = {"LONG1", run_long1},
    [0x8b] = {"LONG4", NULL},
    [0x8c] = {"SHORT_BINUNICODE", NULL},
    [0x8d] = {"BINUNICODE8", NULL},
    [0x8e] = {"BINBYTES8", NULL},
    [0x8f] = {"EMPTY_SET", NULL},
    [0x90] = {"ADDITEMS", NULL},
    [0x91] = {"FROZENSET", NULL},
    [0x92] = {"NEWOBJ_EX", NULL},
    [0x93] = {"STACK_GLOBAL", NULL},
    [0x94] = {"MEMOIZE", NULL},
    [0x95] = {"FRAME", NULL},
    [0x96] = {"BYTEARRAY8", NULL},
    [0x97] = {"NEXT_BUFFER", NULL},
    [0x98] = {"READONLY_BUFFER", NULL},
};

static int run(struct machine *m)
{
    const unsigned char *const code = take(m, 1);

    if (code == NULL)
        return -1;
    if (m->at == 1 && *code != 0x80)
        return malformed(m, "does not begin as one");
    if (instructions[*code].run != NULL)
        return instructions[*code].run(m);
    if (instructions[*code].name != NULL)
        return err_set(m->err, ERR_INPUT,
                       "'%s' has the pickle instruction %s (byte %zu): refused; only tensors are "
                       "read (save the model's state_dict() alone)",
                       m->path, instructions[*code].name, m->at - 1);
    return malformed(m, "has an instruction that does not exist");
}

const struct pickle_value *pickle_read(struct pickle_store *store, const void *bytes, size_t count,
                                       const char *path, size_t *used, struct err *err)
{
    struct machine m = {.store = store, .bytes = bytes, .count = count, .path = path, .err = err};
    const struct pickle_value *value = NULL;

    while (!m.stopped) {
        if (run(&m) < 0)
            goto out;
    }
    if (used == NULL && m.at != count) {
        malformed(&m, "has bytes behind its end");
        goto out;
    }
    value = top(&m);
    if (used != NULL)
        *used = m.at;
out:
    free(m.stack);
    free(m.memo);
    return value;
}
