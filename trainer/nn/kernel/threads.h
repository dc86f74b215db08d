/*
 * trainer/nn/kernel/threads.h -- the arithmetic's environment: how many threads, how denormals are
 * treated, which kernels.
 */
#ifndef NN_THREADS_H
#define NN_THREADS_H

/** Set the number of OpenMP threads, OpenBLAS to one thread, and flush-to-zero and
 * denormals-are-zero in the calling thread and every OpenMP thread. Call once before any model
 * computes; again to change the number. */
void nn_threads_init(int threads);

/** Flush-to-zero and denormals-are-zero in the calling thread (a thread of one's own that computes
 * calls it). */
void nn_threads_flush_denormals(void);

/* Grows by one with every change of ours after which the same run has other bits: kernels, order of
 * additions, initial weights, augmentation, how pictures become pixels. */
#define NN_NUMERICS_VERSION 7

/** What the bits of a run depend on besides its inputs: version and build of Convoy, kernel set,
 * the algorithm that CONVOY_CONV forces on convolutions: for instance "convoy 0.1.0 numerics 7
 * gcc-12 RelWithDebInfo, kernels avx2", with "kernels avx2 conv direct" where one is forced. Where
 * OpenBLAS computes ("kernels generic", or "conv gemm"), its version and core follow: ", OpenBLAS
 * 0.3.21 SkylakeX". Static storage. */
const char *nn_numerics_id(void);

#endif
