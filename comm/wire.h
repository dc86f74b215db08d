/*
 * comm/wire.h -- floats on the wire as bf16, with error feedback.
 *
 * bf16 is the upper half of an IEEE binary32: 8 bits of exponent, 7 of fraction. Rounding is to the
 * nearest, ties to even. What it loses is added to what is sent from the same place the next time,
 * so that errors do not add up over steps: Seide et al., "1-Bit Stochastic Gradient Descent and its
 * Application to Data-Parallel Distributed Training of Speech DNNs", Interspeech 2014; Karimireddy
 * et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019.
 */
#ifndef COMM_WIRE_H
#define COMM_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* What travels between hosts. */
enum comm_wire {
    COMM_WIRE_FP32, /* the sums' own floats: the same bits on any number of hosts */
    COMM_WIRE_BF16, /* half the bytes; the bits depend on the number of hosts and on buckets */
};

/** to = from + lost, rounded; lost = what that left out. Not a number stays none. */
void comm_wire_round(uint16_t *to, const float *from, float *lost, size_t count);
/** to = from. Exact. */
void comm_wire_widen(float *to, const uint16_t *from, size_t count);

#endif
