/* tests/fuzz/weights.c -- any bytes as a file of weights, safetensors or what torch.save writes:
 * every element of what is taken can be read, or one line names the file. */
#include <string.h>

#include "base/err.h"
#include "fuzz.h"
#include "trainer/weights/weights.h"

static volatile unsigned char touched;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct weights weights;
    struct err err = {0};
    const int rc = weights_open_bytes(&weights, data, bytes, "f.pth", &err);

    fuzz_must_say(rc, &err, FUZZ_INPUT);
    fuzz_must(rc == 0 || strstr(err.msg, "f.pth") != NULL);
    for (size_t i = 0; rc == 0 && i < weights.count; i++) {
        const struct safetensors_entry *const tensor = &weights.tensors[i];
        size_t count = safetensors_type_bytes(tensor->type);

        for (int d = 0; d < tensor->dims; d++)
            count *= tensor->size[d];
        for (size_t b = 0; b < count; b++)
            touched ^= ((const unsigned char *)tensor->data)[b];
        fuzz_must(weights_find(&weights, tensor->name) == tensor);
    }
    weights_release(&weights);
    return 0;
}
