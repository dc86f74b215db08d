/*
 * tests/trainer/pictures.c -- `pictures DIR`: writes one picture of each kind that people have
 * among their files, for the tests that run the programs.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/uri.h"
#include "tests/data/pictures.h"

static int write_picture(const char *folder, const char *name, const struct buf *bytes,
                         size_t count)
{
    char *const path = uri_join(folder, name);
    struct err err = {0};
    int rc = 0;

    if (file_replace(path, bytes->data, count, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        rc = 1;
    }
    free(path);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum picture_colours colours;
        bool half;
    } jpegs[] = {
        {.name = "grey.jpg", .colours = PICTURE_GREY},
        {.name = "cmyk.jpg", .colours = PICTURE_CMYK},
        {.name = "adobe.jpg", .colours = PICTURE_CMYK_ADOBE},
        {.name = "ycck.jpg", .colours = PICTURE_YCCK},
        {.name = "truncated.jpg", .colours = PICTURE_YCC, .half = true},
    };
    int rc = 0;

    if (argc != 2)
        return 2;
    for (size_t i = 0; i < sizeof jpegs / sizeof jpegs[0]; i++) {
        const struct picture picture = {.width = 64, .height = 64, .colours = jpegs[i].colours};
        struct buf bytes = {0};

        picture_jpeg(&picture, &bytes);
        rc |= write_picture(argv[1], jpegs[i].name, &bytes,
                            jpegs[i].half ? bytes.bytes * 3 / 4 : bytes.bytes);
        buf_release(&bytes);
    }
    for (int kind = PICTURE_PNG_RGB; kind <= PICTURE_PNG_16; kind++) {
        struct buf bytes = {0};
        char name[32];

        snprintf(name, sizeof name, "png-%d.png", kind);
        picture_png(64, 64, (enum picture_png)kind, false, &bytes);
        rc |= write_picture(argv[1], name, &bytes, bytes.bytes);
        buf_release(&bytes);
    }
    return rc;
}
