#include "trainer/report/lines.h"

#include <stdarg.h>
#include <stdio.h>

static void line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void line(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

double report_accuracy(const struct report_sum *sum)
{
    return sum->images > 0 ? (double)sum->correct / (double)sum->images : 0;
}

double report_accuracy5(const struct report_sum *sum)
{
    return sum->images > 0 ? (double)sum->correct5 / (double)sum->images : 0;
}

void report_line_batch(int epoch, uint64_t batch, double images_per_s, const struct report_sum *sum)
{
    line("Epoch[%d] Batch [%llu]\tSpeed: %.3f samples/sec\taccuracy=%.6f", epoch,
         (unsigned long long)batch, images_per_s, report_accuracy(sum));
}

void report_line_train(const char *host, int epoch, const struct report_sum *sum, double seconds)
{
    line("Epoch[%d] Train-accuracy=%.6f", epoch, report_accuracy(sum));
    line("Epoch[%d] Train-loss=%.6f", epoch, sum->loss);
    line("Epoch[%d] Time cost=%.3f", epoch, seconds);
    line("#quality_metric: host=%s, epoch=%d, train accuracy=%.6f", host, epoch,
         report_accuracy(sum));
}

void report_line_validation(const char *host, int epoch, const struct report_sum *sum)
{
    line("Epoch[%d] Validation-accuracy=%.6f", epoch, report_accuracy(sum));
    line("Epoch[%d] Validation-loss=%.6f", epoch, sum->loss);
    line("#quality_metric: host=%s, epoch=%d, validation accuracy=%.6f", host, epoch,
         report_accuracy(sum));
}

void report_line_test(const struct report_sum *sum)
{
    line("Testing Loss: %.6f", sum->loss);
    line("Testing Accuracy: %.6f", report_accuracy(sum));
}

void report_line_test5(const struct report_sum *sum)
{
    line("Testing Top-5 Accuracy: %.6f", report_accuracy5(sum));
}

void report_line_stopped(int epochs, int of)
{
    line("stopped epoch=%d of=%d", epochs, of);
}

void report_line_weights(const char *hex)
{
    line("weights sha256=%s", hex);
}
