#include "trainer/data/decode.h"

#include "base/err.h"
#include "trainer/data/codec.h"

int data_decode(const void *data, size_t bytes, struct data_image *image, struct err *err)
{
    image->truncated = false;
    if (bytes == 0)
        return err_set(err, ERR_INPUT, "empty");
    if (data_jpeg_known(data, bytes))
        return data_jpeg_decode(data, bytes, image, err);
    if (data_png_known(data, bytes))
        return data_png_decode(data, bytes, image, err);
    return err_set(err, ERR_INPUT, "neither a JPEG nor a PNG");
}
