#include "trainer/data/picture/decode.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/data/picture/codec.h"

/* What else is often named .jpg, by its first bytes; NULL: something else. */
static const char *known_kind(const unsigned char *data, size_t bytes)
{
    static const struct {
        size_t at;
        const char *magic, *kind;
    } kinds[] = {
        {0, "GIF8", "a GIF"}, {0, "BM", "a BMP"},           {8, "WEBP", "a WebP"},
        {0, "II*", "a TIFF"}, {0, "MM", "a TIFF"},          {4, "ftyp", "a HEIC, AVIF or MP4"},
        {0, "%PDF", "a PDF"}, {0, "<", "a text with tags"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t length = strlen(kinds[i].magic);

        if (bytes >= kinds[i].at + length &&
            memcmp(data + kinds[i].at, kinds[i].magic, length) == 0)
            return kinds[i].kind;
    }
    return NULL;
}

struct data_decoder {
    struct data_jpeg *jpeg;
    bool is_jpeg;
    const void *data; /* of a PNG: the caller's */
    size_t bytes;
};

struct data_decoder *data_decoder_new(void)
{
    struct data_decoder *const decoder = calloc(1, sizeof *decoder);

    if (decoder == NULL)
        abort();
    decoder->jpeg = data_jpeg_new();
    return decoder;
}

void data_decoder_free(struct data_decoder *decoder)
{
    if (decoder == NULL)
        return;
    data_jpeg_free(decoder->jpeg);
    free(decoder);
}

int data_decoder_begin(struct data_decoder *decoder, const void *data, size_t bytes,
                       struct data_shape *shape, struct err *err)
{
    const char *kind;

    decoder->data = data;
    decoder->bytes = bytes;
    decoder->is_jpeg = data_jpeg_known(data, bytes);
    if (bytes == 0)
        return err_set(err, ERR_INPUT, "empty");
    if (decoder->is_jpeg)
        return data_jpeg_begin(decoder->jpeg, data, bytes, shape, err);
    if (data_png_known(data, bytes))
        return data_png_look(data, bytes, shape, err);
    kind = known_kind(data, bytes);
    return err_set(err, ERR_INPUT, "neither a JPEG nor a PNG%s%s", kind != NULL ? ", but " : "",
                   kind != NULL ? kind : "");
}

int data_decoder_part(struct data_decoder *decoder, const struct data_part *part,
                      struct data_image *image, struct err *err)
{
    image->truncated = false;
    if (decoder->is_jpeg)
        return data_jpeg_part(decoder->jpeg, part, image, err);
    return data_png_decode(decoder->data, decoder->bytes, image, err);
}

int data_decode(const void *data, size_t bytes, struct data_image *image, struct err *err)
{
    struct data_decoder *const decoder = data_decoder_new();
    int rc = data_decoder_begin(decoder, data, bytes, NULL, err);

    if (rc == 0)
        rc = data_decoder_part(decoder, NULL, image, err);
    data_decoder_free(decoder);
    return rc;
}
