#include "launcher/s3/meter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

void launch_s3_meter_init(struct launch_s3_meter *meter, const char *done, bool quiet)
{
    memset(meter, 0, sizeof *meter);
    pthread_mutex_init(&meter->mutex, NULL);
    meter->done = done;
    meter->quiet = quiet;
    meter->made = true;
    meter->begun_s = clock_now_s();
}

void launch_s3_meter_release(struct launch_s3_meter *meter)
{
    if (meter->made)
        pthread_mutex_destroy(&meter->mutex);
    meter->made = false;
}

void launch_s3_meter_bytes(uint64_t bytes, char text[LAUNCH_S3_BYTES_CHARS])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(text, LAUNCH_S3_BYTES_CHARS, "%u", (unsigned)bytes);
        return;
    }
    for (; value >= 1023.95; unit++) /* what "%.1f" would round to 1024.0 */
        value /= 1024;
    snprintf(text, LAUNCH_S3_BYTES_CHARS, "%.1f%s", value, units[unit]);
}

/* In a sentence a number alone would be of nothing. */
static void amount(uint64_t bytes, char text[LAUNCH_S3_BYTES_CHARS])
{
    launch_s3_meter_bytes(bytes, text);
    if (bytes < 1024)
        snprintf(text, LAUNCH_S3_BYTES_CHARS, "%uB", (unsigned)bytes);
}

static double mb_per_s(const struct launch_s3_meter *meter)
{
    const double seconds = clock_now_s() - meter->begun_s;

    return seconds > 0 ? (double)meter->bytes / 1e6 / seconds : 0;
}

/* Under the mutex. */
static void draw(const struct launch_s3_meter *meter)
{
    char line[160], bytes[LAUNCH_S3_BYTES_CHARS], total[LAUNCH_S3_BYTES_CHARS];
    int chars = 0;

    if (meter->quiet)
        return;
    amount(meter->bytes, bytes);
    amount(meter->bytes_total, total);
    if (meter->bytes_total > 0)
        chars = snprintf(line, sizeof line, "%3.0f %%  %s of %s  %.1f MB/s",
                         100.0 * (double)meter->bytes / (double)meter->bytes_total, bytes, total,
                         mb_per_s(meter));
    else if (meter->bytes > 0)
        chars = snprintf(line, sizeof line, "%s  %.1f MB/s", bytes, mb_per_s(meter));
    if (meter->objects_total > 1)
        snprintf(line + chars, sizeof line - (size_t)chars, "%s%" PRIu64 " of %" PRIu64 " objects",
                 chars > 0 ? "  " : "", meter->objects, meter->objects_total);
    else if (chars == 0)
        return;
    log_bar(line);
}

void launch_s3_meter_expect(struct launch_s3_meter *meter, uint64_t objects, uint64_t bytes)
{
    pthread_mutex_lock(&meter->mutex);
    meter->objects_total += objects;
    meter->bytes_total += bytes;
    pthread_mutex_unlock(&meter->mutex);
}

void launch_s3_meter_move(struct launch_s3_meter *meter, int64_t bytes)
{
    pthread_mutex_lock(&meter->mutex);
    meter->bytes += (uint64_t)bytes;
    draw(meter);
    pthread_mutex_unlock(&meter->mutex);
}

void launch_s3_meter_object(struct launch_s3_meter *meter)
{
    pthread_mutex_lock(&meter->mutex);
    meter->objects++;
    draw(meter);
    pthread_mutex_unlock(&meter->mutex);
}

void launch_s3_meter_end(struct launch_s3_meter *meter, bool failed)
{
    char bytes[LAUNCH_S3_BYTES_CHARS];

    if (meter->quiet)
        return;
    log_bar("");
    if (failed || meter->done == NULL)
        return;
    amount(meter->bytes, bytes);
    if (meter->bytes_total > 0)
        log_info("%s %" PRIu64 " object%s, %s in %.1f s (%.1f MB/s)", meter->done, meter->objects,
                 meter->objects == 1 ? "" : "s", bytes, clock_now_s() - meter->begun_s,
                 mb_per_s(meter));
    else
        log_info("%s %" PRIu64 " object%s in %.1f s", meter->done, meter->objects,
                 meter->objects == 1 ? "" : "s", clock_now_s() - meter->begun_s);
}
