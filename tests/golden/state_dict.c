/*
 * tests/golden/state_dict.c -- state_dict FILE.pth: write tensors that count, for
 * test_state_dict.py.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/file.h"
#include "trainer/weights/torch.h"

#define MANY 70000 /* a count that needs four bytes */

static float floats[MANY];
static const int64_t batches = 1234567890123;

static int write_file(const char *path, struct err *err)
{
    static const struct safetensors_entry entries[] = {
        {"z.weight", SAFETENSORS_F32, 4, {2, 3, 4, 5}, floats},
        {"bias", SAFETENSORS_F32, 1, {300}, floats},
        {"many", SAFETENSORS_F32, 2, {700, 100}, floats},
        {"scalar", SAFETENSORS_F32, 0, {0}, floats + 1},
        {"empty", SAFETENSORS_F32, 2, {0, 4}, NULL},
        {"bn.num_batches_tracked", SAFETENSORS_I64, 0, {0}, &batches},
    };
    struct file_new file = {.fd = -1};
    int rc = -1;

    if (file_new_open(&file, path, err) == 0 &&
        weights_torch_write(&file, entries, sizeof entries / sizeof entries[0], err) == 0)
        rc = file_new_commit(&file, err);
    file_new_release(&file);
    return rc;
}

int main(int argc, char **argv)
{
    struct err err = {0};

    for (int i = 0; i < MANY; i++)
        floats[i] = (float)i;
    if (argc != 2 || write_file(argv[1], &err) < 0) {
        fprintf(stderr, "state_dict: %s\n", argc != 2 ? "which file?" : err.msg);
        return 1;
    }
    return 0;
}
