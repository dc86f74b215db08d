/*
 * trainer/data/jpeg.c -- JPEG by libjpeg-turbo.
 *
 * libjpeg reports a fatal error by a function that must not return, so ours jumps back to where
 * decoding began. Damage it can live with is a warning: the ones that mean "bits were missing" set
 * image->truncated.
 */
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h> /* behind jpeglib.h, which tells it the version: the codes shift with it */

#include "base/buf.h"
#include "base/err.h"
#include "trainer/data/codec.h"
#include "trainer/data/image.h"

/* A progressive picture has about ten scans. A small file can hold thousands, each of which costs a
 * pass over all coefficients (libjpeg-turbo's own advisory of 2019 recommends a limit). */
#define JPEG_SCANS_MAX 100
#define JPEG_TRIES_MAX 3 /* again, each time with less of a damaged file's end */

/* libjpeg hands out pointers to its own structs; ours begin with them. */
struct jpeg_errors {
    struct jpeg_error_mgr manager;
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
    bool ended;     /* the data ended before the picture did */
    bool missing;   /* bits of the picture were missing: by the end of the data or by damage */
    bool row_lacks; /* they were missing in the first row of blocks of the first scan */
};

struct jpeg_reader {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_errors errors;
    struct jpeg_progress_mgr progress;
};

static void jpeg_fatal(j_common_ptr cinfo)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)cinfo->err;

    errors->manager.format_message(cinfo, errors->message);
    longjmp(errors->escape, 1);
}

static void jpeg_silent(j_common_ptr cinfo)
{
    (void)cinfo;
}

static void jpeg_warned(j_common_ptr cinfo, int level)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)cinfo->err;
    const struct jpeg_decompress_struct *reader = (const struct jpeg_decompress_struct *)cinfo;

    if (level >= 0 || !cinfo->is_decompressor)
        return;
    if (errors->manager.msg_code == JWRN_JPEG_EOF)
        errors->ended = true;
    if (errors->manager.msg_code == JWRN_HUFF_BAD_CODE ||
        errors->manager.msg_code == JWRN_MUST_RESYNC)
        errors->missing = true;
    if (errors->manager.msg_code == JWRN_HIT_MARKER) {
        errors->missing = true;
        if (reader->input_scan_number <= 1 && reader->input_iMCU_row == 0)
            errors->row_lacks = true;
    }
}

static void jpeg_limit_scans(j_common_ptr cinfo)
{
    struct jpeg_errors *errors = (struct jpeg_errors *)cinfo->err;

    if (((j_decompress_ptr)cinfo)->input_scan_number <= JPEG_SCANS_MAX)
        return;
    snprintf(errors->message, sizeof errors->message, "more than %d scans", JPEG_SCANS_MAX);
    longjmp(errors->escape, 1);
}

static struct jpeg_error_mgr *jpeg_errors_init(struct jpeg_errors *errors)
{
    jpeg_std_error(&errors->manager);
    errors->manager.error_exit = jpeg_fatal;
    errors->manager.output_message = jpeg_silent;
    errors->manager.emit_message = jpeg_warned;
    return &errors->manager;
}

bool data_jpeg_known(const unsigned char *data, size_t bytes)
{
    return bytes >= 3 && data[0] == 0xff && data[1] == 0xd8 && data[2] == 0xff;
}

/* Ink to light. Adobe's programs store 255 - ink, and say so by their marker (APP14). */
static void jpeg_cmyk_to_rgb(const uint8_t *cmyk, int width, bool inverted, uint8_t *rgb)
{
    const unsigned flip = inverted ? 0 : 255;

    for (int i = 0; i < width; i++) {
        const unsigned light = cmyk[4 * i + 3] ^ flip; /* 255 - v is v ^ 255 */

        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)(((cmyk[4 * i + c] ^ flip) * light + 127) / 255);
    }
}

static void jpeg_read_rows(struct jpeg_decompress_struct *cinfo, struct data_image *image)
{
    const bool cmyk = cinfo->out_color_space == JCS_CMYK;
    const size_t row_bytes = (size_t)image->width * 3;
    JSAMPARRAY inks = NULL;

    if (cmyk)
        inks = cinfo->mem->alloc_sarray((j_common_ptr)cinfo, JPOOL_IMAGE,
                                        (JDIMENSION)image->width * 4, 1);
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW row = image->rgb + cinfo->output_scanline * row_bytes;

        jpeg_read_scanlines(cinfo, cmyk ? inks : &row, 1);
        if (cmyk)
            jpeg_cmyk_to_rgb(inks[0], image->width, cinfo->saw_Adobe_marker, row);
    }
}

/* May jump to errors.escape. */
static int jpeg_read(struct jpeg_reader *reader, const unsigned char *data, size_t bytes,
                     struct data_image *image, struct err *err)
{
    struct jpeg_decompress_struct *cinfo = &reader->cinfo;

    jpeg_create_decompress(cinfo);
    reader->progress.progress_monitor = jpeg_limit_scans;
    cinfo->progress = &reader->progress;
    jpeg_mem_src(cinfo, data, (unsigned long)bytes);
    jpeg_read_header(cinfo, TRUE);
    cinfo->dct_method = JDCT_ISLOW;
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_RGB;
    if (data_image_reserve(image, cinfo->image_width, cinfo->image_height, err) < 0)
        return -1;
    jpeg_start_decompress(cinfo);
    jpeg_read_rows(cinfo, image);
    return 0;
}

static int jpeg_refuse(const struct jpeg_errors *errors, struct err *err)
{
    const int code = errors->manager.msg_code;
    const bool other = code == JERR_BAD_PRECISION || code == JERR_SOF_UNSUPPORTED ||
                       code == JERR_CONVERSION_NOTIMPL;

    return err_set(err, ERR_INPUT, "%s: %s",
                   other ? "a JPEG of a kind that is not read" : "a damaged JPEG", errors->message);
}

/* One attempt. *upto is set when it fails between two scans of a picture, in a marker segment that
 * is cut or damaged: what came before this place can be shown. Else it is 0. */
static int jpeg_attempt(const unsigned char *data, size_t bytes, struct data_image *image,
                        size_t *upto, struct err *err)
{
    struct jpeg_reader reader = {0};
    int rc;

    *upto = 0;
    reader.cinfo.err = jpeg_errors_init(&reader.errors);
    if (setjmp(reader.errors.escape) == 0) {
        rc = jpeg_read(&reader, data, bytes, image, err);
        if (rc == 0 && reader.errors.row_lacks)
            rc = err_set(err, ERR_INPUT, "a JPEG cut short before its first row of blocks");
        image->truncated = reader.errors.ended || reader.errors.missing;
    } else {
        if (reader.cinfo.input_scan_number > 0)
            *upto = reader.errors.ended ? bytes : bytes - reader.cinfo.src->bytes_in_buffer;
        rc = jpeg_refuse(&reader.errors, err);
    }
    jpeg_destroy_decompress(&reader.cinfo);
    return rc;
}

/* Where the last marker begins: inside a scan's data 0xff is followed by 0 or a restart marker
 * only. */
static size_t jpeg_last_marker(const unsigned char *data, size_t bytes)
{
    for (size_t at = bytes - 1; at-- > 2;) {
        const unsigned char next = data[at + 1];

        if (data[at] == 0xff && next != 0 && next != 0xff && (next < 0xd0 || next > 0xd7))
            return at;
    }
    return 0;
}

int data_jpeg_decode(const unsigned char *data, size_t bytes, struct data_image *image,
                     struct err *err)
{
    size_t upto = 0, whole;
    struct err first = {0};
    int rc = jpeg_attempt(data, bytes, image, &upto, &first);

    for (int tries = 0; rc < 0 && upto > 2 && tries < JPEG_TRIES_MAX; tries++) {
        whole = jpeg_last_marker(data, upto);
        if (whole == 0)
            break;
        rc = jpeg_attempt(data, whole, image, &upto, NULL);
    }
    return rc < 0 ? err_set(err, first.code, "%s", first.msg) : 0;
}

/* May jump to errors.escape; the JPEG is *jpeg then or later, by malloc. */
static void jpeg_write(struct jpeg_compress_struct *cinfo, const uint8_t *rgb, int quality,
                       unsigned char **jpeg, unsigned long *bytes)
{
    const size_t row_bytes = (size_t)cinfo->image_width * 3;

    jpeg_mem_dest(cinfo, jpeg, bytes);
    cinfo->input_components = 3;
    cinfo->in_color_space = JCS_RGB;
    jpeg_set_defaults(cinfo);
    jpeg_set_quality(cinfo, quality, TRUE);
    jpeg_start_compress(cinfo, TRUE);
    while (cinfo->next_scanline < cinfo->image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(rgb + cinfo->next_scanline * row_bytes);

        jpeg_write_scanlines(cinfo, &row, 1);
    }
    jpeg_finish_compress(cinfo);
}

int data_jpeg_encode(const uint8_t *rgb, int width, int height, int quality, struct buf *out,
                     struct err *err)
{
    struct {
        struct jpeg_compress_struct cinfo;
        struct jpeg_errors errors;
        unsigned char *jpeg;
        unsigned long bytes;
    } writer = {0};
    int rc;

    writer.cinfo.err = jpeg_errors_init(&writer.errors);
    if (setjmp(writer.errors.escape) == 0) {
        jpeg_create_compress(&writer.cinfo);
        writer.cinfo.image_width = (JDIMENSION)width;
        writer.cinfo.image_height = (JDIMENSION)height;
        jpeg_write(&writer.cinfo, rgb, quality, &writer.jpeg, &writer.bytes);
        buf_append(out, writer.jpeg, writer.bytes);
        rc = 0;
    } else {
        rc = err_set(err, ERR_INTERNAL, "cannot write a JPEG: %s", writer.errors.message);
    }
    jpeg_destroy_compress(&writer.cinfo);
    free(writer.jpeg);
    return rc;
}
