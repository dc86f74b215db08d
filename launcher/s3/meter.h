/*
 * launcher/s3/meter.h -- what was done and how fast: a bar on the terminal, a line at the end.
 */
#ifndef LAUNCH_S3_METER_H
#define LAUNCH_S3_METER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct launch_s3_meter {
    const char *done; /* "copied"; NULL: no closing line */
    bool quiet, made;
    double begun_s;
    pthread_mutex_t mutex; /* guards what follows */
    uint64_t objects, objects_total, bytes, bytes_total;
};

/** quiet: neither bar nor line. Release accepts all-zero. */
void launch_s3_meter_init(struct launch_s3_meter *meter, const char *done, bool quiet);
void launch_s3_meter_release(struct launch_s3_meter *meter);

/** So much more is to do; a total of 0 bytes means that they are not counted. Any thread, as all
 * below. */
void launch_s3_meter_expect(struct launch_s3_meter *meter, uint64_t objects, uint64_t bytes);
/** Bytes went (negative: went back, to be sent again), and redraw the bar. */
void launch_s3_meter_move(struct launch_s3_meter *meter, int64_t bytes);
void launch_s3_meter_object(struct launch_s3_meter *meter);

/** Wipe the bar; and say what was done, unless it failed. */
void launch_s3_meter_end(struct launch_s3_meter *meter, bool failed);

/** "17", "1.5KiB", "20.0GiB": one word of at most 9 characters. */
#define LAUNCH_S3_BYTES_CHARS 16
void launch_s3_meter_bytes(uint64_t bytes, char text[LAUNCH_S3_BYTES_CHARS]);

#endif
