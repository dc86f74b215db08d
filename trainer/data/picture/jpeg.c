/*
 * trainer/data/picture/jpeg.c -- JPEG by libjpeg-turbo.
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
#include "trainer/data/picture/codec.h"
#include "trainer/data/picture/exif.h"
#include "trainer/data/picture/huffman.h"
#include "trainer/data/picture/image.h"

/* A progressive picture has about ten scans. A small file can hold thousands, each of which costs a
 * pass over all coefficients (libjpeg-turbo's own advisory of 2019 recommends a limit). */
#define JPEG_SCANS_MAX 100
#define JPEG_TRIES_MAX 3 /* again, each time with less of a damaged file's end */
/* A chroma sample on either side of a column takes part in its pixels (fancy upsampling), and of
 * components less than three samples wide none does: a part is a little wider, and not narrow. */
#define JPEG_MARGIN    2
#define JPEG_NARROW    16
#define JPEG_ROWS      16 /* asked for at a time */

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

struct data_jpeg {
    struct jpeg_reader reader; /* all zero when no picture is open */
    struct data_huffman *huffman;
    bool plain;                /* nothing but libjpeg reads this picture */
    const unsigned char *data; /* the caller's */
    size_t bytes;
    struct data_shape shape;
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

/* How smooth to make the blocks of a progressive picture whose scans are not all there depends on
 * blocks around, which a part does not have. */
static bool jpeg_is_complete(const struct jpeg_reader *reader)
{
    const struct jpeg_decompress_struct *const cinfo = &reader->cinfo;

    if (!cinfo->progressive_mode)
        return true;
    if (reader->errors.ended || reader->errors.missing || cinfo->coef_bits == NULL)
        return false;
    for (int c = 0; c < cinfo->num_components; c++)
        for (int i = 0; i < DCTSIZE2; i++)
            if (cinfo->coef_bits[c][i] != 0)
                return false;
    return true;
}

/* Have libjpeg decode the part's columns only: *x and *width become what it gives. */
static void jpeg_crop_columns(struct jpeg_reader *reader, const struct data_part *part,
                              JDIMENSION *x, JDIMENSION *width)
{
    const int whole = (int)reader->cinfo.output_width;
    int left = part->x - JPEG_MARGIN, right = part->x + part->width + JPEG_MARGIN;

    if (right - left < JPEG_NARROW)
        left = right - JPEG_NARROW;
    left = left < 0 ? 0 : left;
    if (right - left < JPEG_NARROW)
        right = left + JPEG_NARROW;
    right = right > whole ? whole : right;
    *x = (JDIMENSION)left;
    *width = (JDIMENSION)(right - left);
    if (jpeg_is_complete(reader))
        jpeg_crop_scanline(&reader->cinfo, x, width);
    else
        *x = 0, *width = (JDIMENSION)whole;
}

static void jpeg_read_rows(struct jpeg_decompress_struct *cinfo, struct data_image *image)
{
    const bool cmyk = cinfo->out_color_space == JCS_CMYK;
    const size_t row_bytes = (size_t)image->width * 3;
    const JDIMENSION begin = (JDIMENSION)image->y, end = begin + (JDIMENSION)image->height;
    JSAMPARRAY inks = NULL;
    JSAMPROW rows[JPEG_ROWS];

    if (cmyk)
        inks = cinfo->mem->alloc_sarray((j_common_ptr)cinfo, JPOOL_IMAGE,
                                        (JDIMENSION)image->width * 4, 1);
    while (cinfo->output_scanline < end) {
        const JDIMENSION left = end - cinfo->output_scanline;
        const JDIMENSION count = cmyk ? 1 : left < JPEG_ROWS ? left : JPEG_ROWS;

        for (JDIMENSION i = 0; i < count; i++)
            rows[i] = image->rgb + (cinfo->output_scanline - begin + i) * row_bytes;
        if (jpeg_read_scanlines(cinfo, cmyk ? inks : rows, count) == 0)
            break; /* data_huffman has failed */
        if (cmyk)
            jpeg_cmyk_to_rgb(inks[0], image->width, cinfo->saw_Adobe_marker, rows[0]);
    }
}

/* Below the part, libjpeg alone. What a whole decode would find missing there is found as well. */
static void jpeg_pass_rest(struct jpeg_decompress_struct *cinfo)
{
    const JDIMENSION left = cinfo->output_height - cinfo->output_scanline;
    JSAMPARRAY row;

    if (left == 0 || jpeg_has_multiple_scans(cinfo)) /* those are all read at the start */
        return;
    row = cinfo->mem->alloc_sarray((j_common_ptr)cinfo, JPOOL_IMAGE, cinfo->output_width * 4, 1);
    if (left > 1)
        jpeg_skip_scanlines(cinfo, left - 1);
    jpeg_read_scanlines(cinfo, row, 1);
}

/* May jump to errors.escape. */
static int jpeg_look(struct jpeg_reader *reader, const unsigned char *data, size_t bytes,
                     struct err *err)
{
    struct jpeg_decompress_struct *const cinfo = &reader->cinfo;

    jpeg_create_decompress(cinfo);
    reader->progress.progress_monitor = jpeg_limit_scans;
    cinfo->progress = &reader->progress;
    jpeg_mem_src(cinfo, data, (unsigned long)bytes);
    jpeg_read_header(cinfo, TRUE);
    cinfo->dct_method = JDCT_ISLOW;
    cinfo->out_color_space = cinfo->num_components == 4 ? JCS_CMYK : JCS_RGB;
    return data_image_check(cinfo->image_width, cinfo->image_height, err);
}

/* May jump to errors.escape. *odd becomes true where the data are to be read by libjpeg alone. */
static int jpeg_read(struct data_jpeg *jpeg, const struct data_part *part, struct data_image *image,
                     bool *odd, struct err *err)
{
    struct jpeg_decompress_struct *const cinfo = &jpeg->reader.cinfo;
    JDIMENSION x = 0, width;
    bool fast;

    cinfo->scale_num = 1;
    cinfo->scale_denom = (unsigned)(part != NULL ? part->shrink : 1);
    jpeg_start_decompress(cinfo);
    width = cinfo->output_width;
    if (part != NULL && part->width < (int)width)
        jpeg_crop_columns(&jpeg->reader, part, &x, &width);
    if (data_image_reserve(image, width,
                           part != NULL ? (JDIMENSION)part->height : cinfo->output_height, err) < 0)
        return -1;
    fast = !jpeg->plain && data_huffman_begin(jpeg->huffman, cinfo, x, width);
    image->x = (int)x;
    if (part != NULL) {
        image->y = part->y;
        image->shrink = part->shrink;
        jpeg_skip_scanlines(cinfo, (JDIMENSION)part->y);
    }
    *odd = fast && data_huffman_failed(jpeg->huffman);
    if (!*odd)
        jpeg_read_rows(cinfo, image);
    if (!fast)
        jpeg_pass_rest(cinfo);
    *odd = fast && data_huffman_failed(jpeg->huffman);
    return 0;
}

static int jpeg_refuse(const struct jpeg_errors *errors, struct err *err)
{
    const int code = errors->manager.msg_code;
    const bool other = code == JERR_BAD_PRECISION || code == JERR_SOF_UNSUPPORTED ||
                       code == JERR_CONVERSION_NOTIMPL || code == JERR_FRACT_SAMPLE_NOTIMPL ||
                       code == JERR_CCIR601_NOTIMPL;

    return err_set(err, ERR_INPUT, "%s: %s",
                   other ? "a JPEG of a kind that is not read" : "a damaged JPEG", errors->message);
}

static void jpeg_end(struct data_jpeg *jpeg)
{
    jpeg_destroy_decompress(&jpeg->reader.cinfo); /* also of an all-zero one */
    jpeg->reader = (struct jpeg_reader){0};
}

struct data_jpeg *data_jpeg_new(void)
{
    struct data_jpeg *const jpeg = calloc(1, sizeof *jpeg);

    if (jpeg == NULL)
        abort();
    jpeg->huffman = data_huffman_new();
    return jpeg;
}

void data_jpeg_free(struct data_jpeg *jpeg)
{
    if (jpeg == NULL)
        return;
    jpeg_end(jpeg);
    data_huffman_free(jpeg->huffman);
    free(jpeg);
}

/* Look at the first `bytes` of the data, afresh. */
static int jpeg_open(struct data_jpeg *jpeg, size_t bytes, struct err *err)
{
    struct jpeg_reader *const reader = &jpeg->reader;

    jpeg_end(jpeg);
    jpeg->bytes = bytes;
    reader->cinfo.err = jpeg_errors_init(&reader->errors);
    if (setjmp(reader->errors.escape) != 0)
        return jpeg_refuse(&reader->errors, err);
    return jpeg_look(reader, jpeg->data, bytes, err);
}

int data_jpeg_begin(struct data_jpeg *jpeg, const unsigned char *data, size_t bytes,
                    struct data_shape *shape, struct err *err)
{
    jpeg->data = data;
    jpeg->plain = false;
    if (jpeg_open(jpeg, bytes, err) < 0)
        return -1;
    jpeg->shape = (struct data_shape){.width = (int)jpeg->reader.cinfo.image_width,
                                      .height = (int)jpeg->reader.cinfo.image_height,
                                      .orientation = data_exif_orientation(data, bytes),
                                      .shrinks = true};
    if (shape != NULL)
        *shape = jpeg->shape;
    return 0;
}

/* One attempt. *upto is set when it fails between two scans of a picture, in a marker segment that
 * is cut or damaged: what came before this place can be shown. Else it is 0. */
static int jpeg_attempt(struct data_jpeg *jpeg, const struct data_part *part,
                        struct data_image *image, size_t *upto, struct err *err)
{
    struct jpeg_reader *const reader = &jpeg->reader;
    const struct jpeg_errors *const errors = &reader->errors;
    bool odd = false;
    int rc;

    *upto = 0;
    if (setjmp(reader->errors.escape) != 0) {
        if (reader->cinfo.input_scan_number > 0)
            *upto = errors->ended ? jpeg->bytes : jpeg->bytes - reader->cinfo.src->bytes_in_buffer;
        return jpeg_refuse(errors, err);
    }
    rc = jpeg_read(jpeg, part, image, &odd, err);
    if (rc == 0 && odd) {
        jpeg->plain = true;
        if (jpeg_open(jpeg, jpeg->bytes, err) < 0)
            return -1;
        return jpeg_attempt(jpeg, part, image, upto, err);
    }
    if (rc == 0 && errors->row_lacks)
        rc = err_set(err, ERR_INPUT, "a JPEG cut short before its first row of blocks");
    image->truncated = errors->ended || errors->missing;
    image->whole = jpeg->shape;
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

int data_jpeg_part(struct data_jpeg *jpeg, const struct data_part *part, struct data_image *image,
                   struct err *err)
{
    size_t upto = 0, whole;
    struct err first = {0};
    int rc = jpeg_attempt(jpeg, part, image, &upto, &first);

    for (int tries = 0; rc < 0 && upto > 2 && tries < JPEG_TRIES_MAX; tries++) {
        whole = jpeg_last_marker(jpeg->data, upto);
        if (whole == 0)
            break;
        upto = 0;
        rc = jpeg_open(jpeg, whole, NULL);
        if (rc == 0)
            rc = jpeg_attempt(jpeg, part, image, &upto, NULL);
    }
    jpeg_end(jpeg);
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
