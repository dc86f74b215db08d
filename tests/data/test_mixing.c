/*
 * tests/data/test_mixing.c -- how well the order mixes pictures that lie sorted by class on disk.
 *
 *     test_data_mixing [PICTURES]
 *
 * A random draw of b pictures out of n has of a class with a share p of them b p on average, with
 * the variance of the hypergeometric distribution, b p (1 - p) (n - b) / (n - 1). The sum of all
 * squared deviations by their variance, over all micro-batches of an epoch and all classes, is
 * compared with what shuffles come to: in standard deviations of these.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/philox.h"
#include "trainer/data/index/order.h"
#include "trainer/data/set/open.h"

enum { CLASSES = 1000, BATCH = 256, MICRO = 32, SHUFFLES = 12 };

static uint64_t pictures = 100000;

struct picture {
    unsigned char sha256[DIGEST_SHA256_BYTES];
    uint16_t label;
};

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct picture *)a)->sha256, ((const struct picture *)b)->sha256,
                  DIGEST_SHA256_BYTES);
}

/* Labels in the order in which the pictures of a class lie behind one another. */
static uint16_t *sorted_labels(void)
{
    uint16_t *const labels = malloc(pictures * sizeof *labels);

    assert_non_null(labels);
    for (uint64_t i = 0; i < pictures; i++)
        labels[i] = (uint16_t)(i * CLASSES / pictures);
    return labels;
}

/* The same as data_index_open() orders them: by the SHA-256 of their keys. */
static uint16_t *index_labels(void)
{
    struct picture *const all = calloc(pictures, sizeof *all);
    uint16_t *const labels = sorted_labels();

    assert_non_null(all);
    for (uint64_t i = 0; i < pictures; i++) {
        char key[64];

        snprintf(key, sizeof key, "n%08u/n%08u_%llu.jpg", labels[i], labels[i],
                 (unsigned long long)i);
        digest_sha256(key, strlen(key), all[i].sha256);
        all[i].label = labels[i];
    }
    qsort(all, pictures, sizeof *all, by_digest);
    for (uint64_t i = 0; i < pictures; i++)
        labels[i] = all[i].label;
    free(all);
    return labels;
}

struct sums {
    double squares;       /* of deviations, by their variance, over the count of them */
    double share_beyond3; /* of counts that are more than 3 sigma off */
    double classes;       /* that a micro-batch has, on average */
};

struct counter {
    unsigned counts[CLASSES];
    double of[CLASSES]; /* share of each class */
    uint64_t batches, beyond, there;
    double squares;
};

static void count_classes(struct counter *counter, const uint16_t *labels)
{
    *counter = (struct counter){0};
    for (uint64_t i = 0; i < pictures; i++)
        counter->of[labels[i]] += 1.0 / (double)pictures;
}

static void end_batch(struct counter *counter)
{
    const double n = (double)pictures, b = MICRO;

    for (int c = 0; c < CLASSES; c++) {
        const double p = counter->of[c], off = counter->counts[c] - b * p,
                     variance = b * p * (1 - p) * (n - b) / (n - 1);

        counter->squares += off * off / variance;
        counter->beyond += off * off > 9 * variance;
        counter->there += counter->counts[c] > 0;
        counter->counts[c] = 0;
    }
    counter->batches++;
}

static struct sums sums_of(const struct counter *counter)
{
    const double all = (double)counter->batches * CLASSES;

    return (struct sums){.squares = counter->squares / all,
                         .share_beyond3 = (double)counter->beyond / all,
                         .classes = (double)counter->there / (double)counter->batches};
}

/* An epoch's micro-batches of full steps, as trained. */
static struct sums of_order(const uint16_t *labels, uint64_t chunk, uint32_t epoch)
{
    const struct data_order order = {.samples = pictures,
                                     .chunk_samples = chunk,
                                     .seed = 1,
                                     .batch = BATCH,
                                     .lanes = BATCH / MICRO,
                                     .drop_last = true};
    struct counter counter;

    count_classes(&counter, labels);
    for (uint64_t step = 0; step < data_order_steps(&order); step++)
        for (uint32_t lane = 0; lane < order.lanes; lane++) {
            for (uint32_t i = 0; i < MICRO; i++)
                counter.counts[labels[data_order_sample(&order, epoch, step, lane, i)]]++;
            end_batch(&counter);
        }
    return sums_of(&counter);
}

/* A shuffle of all, cut into micro-batches. */
static struct sums of_shuffle(const uint16_t *labels, uint64_t seed)
{
    uint16_t *const all = malloc(pictures * sizeof *all);
    struct counter counter;
    struct philox philox;

    assert_non_null(all);
    memcpy(all, labels, pictures * sizeof *all);
    philox_init(&philox, seed, 0, 0, PHILOX_SYNTH);
    for (uint32_t i = (uint32_t)pictures; i-- > 1;) {
        const uint32_t j = philox_below(&philox, i + 1);
        const uint16_t swap = all[i];

        all[i] = all[j];
        all[j] = swap;
    }
    count_classes(&counter, labels);
    for (uint64_t i = 0; i + BATCH <= pictures; i += BATCH)
        for (uint64_t at = i; at < i + BATCH; at++) {
            counter.counts[all[at]]++;
            if ((at + 1 - i) % MICRO == 0)
                end_batch(&counter);
        }
    free(all);
    return sums_of(&counter);
}

/* Mean and standard deviation of what shuffles come to. */
struct chance {
    struct sums mean, sigma;
};

static void add(double x, double *mean, double *square)
{
    *mean += x / SHUFFLES;
    *square += x * x / SHUFFLES;
}

static double deviation(double mean, double square)
{
    return sqrt((square - mean * mean) * SHUFFLES / (SHUFFLES - 1));
}

static struct chance of_chance(const uint16_t *labels)
{
    struct sums mean = {0}, square = {0};

    for (uint64_t seed = 1; seed <= SHUFFLES; seed++) {
        const struct sums sums = of_shuffle(labels, seed);

        add(sums.squares, &mean.squares, &square.squares);
        add(sums.share_beyond3, &mean.share_beyond3, &square.share_beyond3);
        add(sums.classes, &mean.classes, &square.classes);
    }
    return (struct chance){
        .mean = mean,
        .sigma = {.squares = deviation(mean.squares, square.squares),
                  .share_beyond3 = deviation(mean.share_beyond3, square.share_beyond3),
                  .classes = deviation(mean.classes, square.classes)}};
}

static double off(double x, double mean, double sigma)
{
    return (x - mean) / sigma;
}

static void tell(const char *what, const struct sums *sums, const struct chance *chance)
{
    printf("%-28s squares %.5f (%+.1f sigma), beyond 3 sigma %.4f %% (%+.1f), classes %.3f "
           "(%+.1f)\n",
           what, sums->squares, off(sums->squares, chance->mean.squares, chance->sigma.squares),
           100 * sums->share_beyond3,
           off(sums->share_beyond3, chance->mean.share_beyond3, chance->sigma.share_beyond3),
           sums->classes, off(sums->classes, chance->mean.classes, chance->sigma.classes));
}

/* Pictures of about 110 KB have chunks of 36; small ones of 256. */
static void classes_sorted_on_disk_are_mixed_as_by_a_shuffle(void **state)
{
    static const uint64_t chunks[] = {36, 256};
    uint16_t *const labels = index_labels();
    const struct chance chance = of_chance(labels);
    char what[64];

    (void)state;
    tell("a shuffle", &chance.mean, &chance);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++)
        for (uint32_t epoch = 0; epoch < 3; epoch++) {
            const struct sums sums = of_order(labels, chunks[i], epoch);

            snprintf(what, sizeof what, "chunks of %d, epoch %u", (int)chunks[i], epoch);
            tell(what, &sums, &chance);
            assert_true(fabs(off(sums.squares, chance.mean.squares, chance.sigma.squares)) < 3);
            assert_true(fabs(off(sums.classes, chance.mean.classes, chance.sigma.classes)) < 3);
        }
    free(labels);
}

/* What the digest is for: an index in the order of the disk would not be mixed by chunks and
 * windows alone. */
static void index_sorted_by_class_would_not_be_mixed(void **state)
{
    uint16_t *const labels = sorted_labels();
    const struct chance chance = of_chance(labels);
    const struct sums sums = of_order(labels, 36, 0);

    (void)state;
    tell("index by class, chunks of 36", &sums, &chance);
    assert_true(off(sums.squares, chance.mean.squares, chance.sigma.squares) > 100);
    free(labels);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_sorted_on_disk_are_mixed_as_by_a_shuffle),
        cmocka_unit_test(index_sorted_by_class_would_not_be_mixed),
    };

    if (argc > 1)
        pictures = strtoull(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
