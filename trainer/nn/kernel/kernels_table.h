/*
 * trainer/nn/kernel/kernels_table.h -- the tables that kernels.c chooses from, one per file.
 */
#ifndef NN_KERNELS_TABLE_H
#define NN_KERNELS_TABLE_H

#include "trainer/nn/kernel/kernels.h"

extern const struct nn_kernels nn_kernels_generic; /* generic.c: any CPU */

#if defined(__x86_64__)
extern const struct nn_kernels nn_kernels_avx2; /* avx2.c */
bool nn_kernels_avx2_run_here(void);
extern const struct nn_kernels nn_kernels_avx512; /* avx512.c */
bool nn_kernels_avx512_run_here(void);
#endif

#endif
