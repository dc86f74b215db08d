#include "trainer/data/stream/pictures.h"

#include "trainer/data/index/index.h"
#include "trainer/data/index/place.h"
#include "trainer/data/stream/fetch.h"
#include "trainer/data/stream/read.h"

int data_pictures_open(struct data_pictures *pictures, const struct data_index *index,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    const struct data_fetch_options options = {
        .index = index, .sample_end = index->count, .cancel = cancel};

    *pictures = (struct data_pictures){0};
    if (!data_place_is_remote(index->root)) {
        pictures->reader = data_reader_new(index, cancel);
        return 0;
    }
    pictures->fetch = data_fetch_new(&options, err);
    return pictures->fetch == NULL ? -1 : 0;
}

void data_pictures_close(struct data_pictures *pictures)
{
    data_reader_free(pictures->reader);
    data_fetch_free(pictures->fetch);
    *pictures = (struct data_pictures){0};
}

int data_pictures_get(struct data_pictures *pictures, size_t sample, struct buf *out,
                      struct err *err)
{
    int32_t label;

    if (pictures->fetch != NULL)
        return data_fetch_take(pictures->fetch, 0, 0, sample, out, &label, err);
    return data_reader_get(pictures->reader, sample, out, NULL, err);
}
