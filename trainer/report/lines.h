/*
 * trainer/report/lines.h -- the metric lines on stdout, which platforms search with regular
 * expressions.
 *
 * Their shape is that of SageMaker's built-in Image Classification log, so that the definitions
 * people have keep working: plain decimals, never nan or inf, one line each, flushed. Epochs count
 * from 0. Rank 0 only.
 */
#ifndef REPORT_LINES_H
#define REPORT_LINES_H

#include <stdint.h>

struct report_sum {
    int64_t images, correct, correct5;
    double loss; /* mean per image */
};

/** The share that is right; 0 where there are no images. */
double report_accuracy(const struct report_sum *sum);
/** The share whose label is among the first five guesses. */
double report_accuracy5(const struct report_sum *sum);

/** "Epoch[3] Batch [20]\tSpeed: 191.406 samples/sec\taccuracy=0.976190" */
void report_line_batch(int epoch, uint64_t batch, double images_per_s,
                       const struct report_sum *sum);
/** "Epoch[3] Train-accuracy=0.980847", "Epoch[3] Train-loss=0.061234", "Epoch[3] Time cost=4.990"
 * and "#quality_metric: host=..., epoch=3, train accuracy=0.980847" */
void report_line_train(const char *host, int epoch, const struct report_sum *sum, double seconds);
/** "Epoch[3] Validation-accuracy=0.802083", "Epoch[3] Validation-loss=..." and "#quality_metric:
 * host=..., epoch=3, validation accuracy=0.802083" */
void report_line_validation(const char *host, int epoch, const struct report_sum *sum);
/** "Testing Loss: 0.557000", "Testing Accuracy: 0.855263" */
void report_line_test(const struct report_sum *sum);
/** "Testing Top-5 Accuracy: 0.961722" */
void report_line_test5(const struct report_sum *sum);
/** "stopped epoch=3 of=10": epochs that are whole. */
void report_line_stopped(int epochs, int of);
/** "weights sha256=<64 hex>" */
void report_line_weights(const char *hex);

#endif
