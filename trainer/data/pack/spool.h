/*
 * trainer/data/pack/spool.h -- a Pipe channel of SageMaker: a stream of labelled pictures, read
 * once and put into shards on this host's disk.
 *
 * Source: Amazon SageMaker Developer Guide, "Access Training Data" (Pipe mode) and "Augmented
 * Manifest Files". A channel is a FIFO that appears some time after the start, CHANNEL_0; the
 * stream is all of its S3 objects one behind another. What it is, its first bytes tell:
 *
 *   tars            as data_webdataset_next reads them, those of `convoy pack` among them
 *   RecordIO        image records (recordio.h); or, as RecordWrapperType RecordIO makes of files of
 *                   such records, a record for each file
 *   pairs           RecordIO, a record with a picture and one with its label as text in turn: an
 *                   augmented manifest whose attributes are image and label, in this order
 *
 * The pictures keep the stream's order: the shards are those that `convoy pack` writes of the same
 * data in files. The FIFOs of later epochs (CHANNEL_1, ...) are never opened: later epochs read
 * what is on the disk, in an order of their own each. A writer that dies between two records, or
 * between two tars, looks like one that has come to its end.
 */
#ifndef DATA_PACK_SPOOL_H
#define DATA_PACK_SPOOL_H

#include <signal.h>
#include <stdint.h>

struct err;

struct data_spool_options {
    const char *fifo;     /* or a file */
    const char *folder;   /* made where it is missing; what an earlier spool left there goes, as its
                             mark ".convoy-spool" tells */
    uint64_t shard_bytes; /* as data_pack_options */
    double wait_s;        /* the most time until the first byte is there */
    const volatile sig_atomic_t *cancel;
};
#define DATA_SPOOL_WAIT_S 600.0

/**
 * Wait for the FIFO, read it to its end, and write shards; index.json comes last, and without it
 * the folder is refused by all that reads it. Holds one record or picture.
 *
 * ERR_INPUT: the folder holds shards without that mark, or another process reads into it; nothing
 * came in time; the stream is empty, of no kind above (pictures alone have no
 * labels), cut short, or not what its kind says, with the place in it; ERR_IO: the disk is full
 * (space is looked at as it goes); ERR_STOPPED. A failure removes what was written.
 */
int data_spool(const struct data_spool_options *options, struct err *err);

#endif
