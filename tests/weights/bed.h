/*
 * tests/weights/bed.h -- files of weights put together by hand, right or wrong.
 */
#ifndef TESTS_WEIGHTS_BED_H
#define TESTS_WEIGHTS_BED_H

#include <stdint.h>

#include "base/buf.h"
#include "trainer/weights/weights.h"

/* A pickle's instructions. */
#define BED_PROTO "\x80\x02"
#define BED_DICT  "ccollections\nOrderedDict\n)R"
void bed_text(struct buf *pickle, const char *text);
void bed_number(struct buf *pickle, int64_t number);

/* A tensor as _rebuild_tensor_v2 is told of it. */
struct bed_tensor {
    const char *type, *key; /* "Float"; of its storage */
    int64_t count;          /* of its storage */
    int64_t offset;
    int dims;
    int64_t size[8], stride[8];
    int strides; /* how many, where that is not dims */
};
/** The tensor; in the old format a persistent id has one part more, None or the view (key, begin,
 * count). */
void bed_put_tensor(struct buf *pickle, const struct bed_tensor *tensor);
void bed_put_old_tensor(struct buf *pickle, const struct bed_tensor *tensor, const int64_t view[2]);

/** An OrderedDict of one tensor, as a whole pickle. */
void bed_pickle(struct buf *pickle, const char *name, const struct bed_tensor *tensor);

/** A zip of PyTorch: data.pkl, and data/0 of `bytes` bytes 0, 1, 2, ... */
void bed_zip(struct buf *file, const struct buf *pickle, size_t bytes);

/** The old format around an object's pickle, with a list of keys, up to where the storages begin.
 */
void bed_old(struct buf *file, const struct buf *pickle, const char *const *keys, size_t count);
/** One storage of `count` float32 0, 1, 2, ... */
void bed_old_storage(struct buf *file, uint64_t count);

/** Fails the test, naming it, unless the file is refused with ERR_INPUT, and a line that says this
 * and names the file. */
void bed_expect_refusal(const char *name, const struct buf *file, const char *says);

#endif
