#include "trainer/data/decode.h"

#include <string.h>

#include "base/err.h"
#include "trainer/data/codec.h"

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

int data_decode(const void *data, size_t bytes, struct data_image *image, struct err *err)
{
    const char *kind;

    image->truncated = false;
    if (bytes == 0)
        return err_set(err, ERR_INPUT, "empty");
    if (data_jpeg_known(data, bytes))
        return data_jpeg_decode(data, bytes, image, err);
    if (data_png_known(data, bytes))
        return data_png_decode(data, bytes, image, err);
    kind = known_kind(data, bytes);
    return err_set(err, ERR_INPUT, "neither a JPEG nor a PNG%s%s", kind != NULL ? ", but " : "",
                   kind != NULL ? kind : "");
}
