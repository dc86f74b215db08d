/*
 * trainer/data/foreign/recordio.h -- records of a RecordIO file or stream, and the pictures in
 * them.
 *
 * Source: dmlc-core, recordio.h (framing), and MXNet, image_recordio.h (what im2rec writes); little
 * endian. A record: u32 magic 0xced7230a; u32, its upper 3 bits a part's place (0 whole, 1 first, 2
 * middle, 3 last), its lower 29 bits the part's length; the bytes; zeros to a multiple of 4. Where
 * the magic itself stands in the data at a multiple of 4, the record is cut there and the magic
 * left out. An image record: u32 flag, f32 label, u64 id, u64 id2; flag > 0: so many f32 labels
 * more, which go before the first; then a JPEG or PNG.
 */
#ifndef DATA_FOREIGN_RECORDIO_H
#define DATA_FOREIGN_RECORDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct data_bytes;
struct err;

#define DATA_RECORD_MAGIC      0xced7230au
#define DATA_RECORD_HEAD_BYTES 8
#define DATA_IMAGE_HEAD_BYTES  24
/* Longer than any picture; a stream's record has to be held. */
#define DATA_RECORD_BYTES_MAX  ((size_t)1 << 30)

/** Whether bytes begin as a record does. */
bool data_record_begins(const void *data, size_t bytes);

/** Replace what is in `record` by the record that begins at *at, parts joined; *at goes on behind
 * it. 1; 0 at the end; -1: ERR_INPUT with file and place (no record, parts out of order, above
 * DATA_RECORD_BYTES_MAX, cut short), and what data_bytes_get says. Holds the record and no more. */
int data_record_next(struct data_bytes *bytes, uint64_t *at, struct buf *record, struct err *err);

/* What is known of a record without its bytes. */
struct data_record {
    uint64_t at, raw_bytes;                        /* in the file, heads and padding included */
    uint64_t bytes;                                /* joined */
    unsigned char head[DATA_IMAGE_HEAD_BYTES + 4]; /* its first bytes */
    size_t head_bytes;
};
/** The same, passing over the bytes. */
int data_record_look(struct data_bytes *bytes, uint64_t *at, struct data_record *record,
                     struct err *err);

/** Join a record of raw bytes in place: its length. -1 where it is none. */
int64_t data_record_join(unsigned char *raw, size_t raw_bytes);

/** The head of an image record of `bytes` bytes, of which head has the first head_bytes: the label
 * and where the picture begins. NULL, or why it is none (text of ours): no whole label, several
 * labels, nothing behind them. */
const char *data_record_image(const unsigned char *head, size_t head_bytes, uint64_t bytes,
                              int32_t *label, size_t *picture);

#endif
