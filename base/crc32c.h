/*
 * base/crc32c.h -- how digest_crc32c counts; for base/digest.c and the tests
 * only.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Whether this CPU has the instruction (SSE 4.2, ARMv8 CRC). crc32c_cpu may be called only then.
 */
bool crc32c_cpu_has(void);
uint32_t crc32c_cpu(uint32_t crc, const void *data, size_t bytes);

/** Whether it multiplies polynomials in 512 bits too (VPCLMULQDQ): faster from a kilobyte on. */
bool crc32c_fold_has(void);
uint32_t crc32c_fold(uint32_t crc, const void *data, size_t bytes);

/** As digest_crc32c_join. */
uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes);

/** Eight bytes at a time by tables ("slicing-by-8", Kounavis and Berry, ISCC 2005). Any CPU, any
 * thread. */
uint32_t crc32c_table(uint32_t crc, const void *data, size_t bytes);

#endif
