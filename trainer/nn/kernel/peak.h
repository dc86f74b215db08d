/*
 * trainer/nn/kernel/peak.h -- how fast this core could be: what a kernel's speed is divided by.
 */
#ifndef NN_PEAK_H
#define NN_PEAK_H

/** GFLOP/s of nn_kernels()'s own instructions on registers alone, on the calling thread: the median
 * of several measurements, some milliseconds in all. A fused multiply-add counts as two. */
double nn_kernels_peak_gflops(void);

#endif
