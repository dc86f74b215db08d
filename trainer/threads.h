/*
 * trainer/threads.h -- how many threads of a rank compute, and how many read and decode pictures.
 *
 * A picture takes less to decode than to train on, even by the smallest network: one decoding
 * thread keeps one computing thread busy, and more would only take memory. Where computing leaves
 * cores free they decode; where it has them all, half as many threads share them with it: they run
 * while a step waits, and the ring of micro-batches ahead bounds what they do.
 */
#ifndef TRAIN_THREADS_H
#define TRAIN_THREADS_H

struct err;

#define TRAIN_DECODE_THREADS_MAX 1024

/** Computing threads of a rank where none were asked for: its share of the processors
 * that this process may use. */
int train_threads(int ranks_of_host);

/** The option's text: auto, which is 0, or a number. ERR_USAGE. */
int train_decode_threads_read(const char *text, int *threads, struct err *err);

/** How many a rank has that may use `cores` and computes with `threads`: those that were `asked`
 * for; of auto the cores that are left, at most `threads`; where none is left half of `threads`,
 * rounded up. */
int train_decode_threads(int asked, int cores, int threads);

#endif
