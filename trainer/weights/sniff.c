/* trainer/weights/sniff.c -- see sniff.h. */
#include "trainer/weights/sniff.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "trainer/weights/torch.h"

#define TAR_MAGIC_AT     257
#define HEADER_BYTES_MAX 100000000 /* of safetensors */

/* What people take for weights, and what to do about it. */
static const struct {
    const char *begin;
    size_t bytes;
    const char *what;
} others[] = {
    {"\x1f\x8b", 2, "a gzip: unpack it first"},
    {"\xfd"
     "7zXZ",
     5, "an xz: unpack it first"},
    {"BZh", 3, "a bzip2: unpack it first"},
    {"\x28\xb5\x2f\xfd", 4, "a zstd: unpack it first"},
    {"\x89HDF", 4, "HDF5, as Keras writes: convert it"},
    {"version https://git-lfs", 23, "a Git LFS pointer, not the file: run git lfs pull"},
    {"\x7f"
     "ELF",
     4, "a program"},
    {"\x93NUMPY", 6, "a NumPy array"},
    {"\x89PNG", 4, "a picture"},
    {"\xff\xd8\xff", 3, "a picture"},
    {"PK\x05\x06", 4, "an empty zip"},
    {"\x80", 1,
     "a pickle, but not one of torch.save with its usual protocol: save it with "
     "torch.save(model.state_dict(), file)"},
};

/* Pages and error documents are text that begins with '<', blanks apart. */
static bool is_markup(const char *bytes, size_t count)
{
    size_t i = count >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

    while (i < count && isspace((unsigned char)bytes[i]))
        i++;
    return i < count && bytes[i] == '<';
}

static bool is_safetensors(const unsigned char *bytes, size_t count)
{
    uint64_t length = 0;

    if (count < sizeof length + 1 || bytes[sizeof length] != '{')
        return false;
    for (size_t i = 0; i < sizeof length; i++)
        length |= (uint64_t)bytes[i] << (8 * i);
    return length <= HEADER_BYTES_MAX;
}

static int refuse(const char *path, const char *what, struct err *err)
{
    return err_set(err, ERR_INPUT,
                   "'%s' is %s (weights are read from safetensors and PyTorch's .pth)", path, what);
}

int weights_sniff(const void *bytes, size_t count, enum weights_format *format, const char *path,
                  struct err *err)
{
    if (count == 0)
        return refuse(path, "empty", err);
    if (is_safetensors(bytes, count)) {
        *format = WEIGHTS_SAFETENSORS;
        return 0;
    }
    if (weights_torch_is_old(bytes, count) || (count >= 4 && memcmp(bytes, "PK\x03\x04", 4) == 0)) {
        *format = WEIGHTS_TORCH;
        return 0;
    }
    if (count >= TAR_MAGIC_AT + 5 && memcmp((const char *)bytes + TAR_MAGIC_AT, "ustar", 5) == 0)
        return refuse(
            path, "a tar; if PyTorch before 0.1.10 wrote it, load it there and save it again", err);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (count >= others[i].bytes && memcmp(bytes, others[i].begin, others[i].bytes) == 0)
            return refuse(path, others[i].what, err);
    }
    return refuse(path,
                  is_markup(bytes, count) ? "an HTML or XML page, not the file"
                                          : "of no kind that is known",
                  err);
}
