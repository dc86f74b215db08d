#include "trainer/data/index/builder.h"

#include <string.h>

#include "trainer/data/index/index.h"

void data_builder_release(struct data_builder *builder)
{
    buf_release(&builder->samples);
    buf_release(&builder->keys);
}

int data_builder_add(struct data_builder *builder, const struct data_sample *sample,
                     const char *key, struct err *err)
{
    const size_t key_bytes = strlen(key) + 1;

    if (buf_reserve(&builder->samples, sizeof *sample, err) < 0 ||
        buf_reserve(&builder->keys, key_bytes, err) < 0)
        return -1;
    buf_append(&builder->samples, sample, sizeof *sample);
    buf_append(&builder->keys, key, key_bytes);
    return 0;
}

void data_builder_finish(struct data_builder *builder, struct data_index *index)
{
    const char *key = (const char *)builder->keys.data;

    index->samples = (struct data_sample *)(void *)builder->samples.data;
    index->count = builder->samples.bytes / sizeof *index->samples;
    index->keys = (char *)builder->keys.data;
    *builder = (struct data_builder){0};
    for (size_t i = 0; i < index->count; i++) {
        index->samples[i].key = key;
        key += strlen(key) + 1;
    }
}
