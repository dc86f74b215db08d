#include "base/crc32c.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define POLYNOMIAL_REFLECTED 0x82f63b78u

/* tables[k][b] is what byte b adds to the CRC when k more zero bytes follow it. */
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void tables_make(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;

        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) != 0 ? POLYNOMIAL_REFLECTED : 0);
        tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xff];
}

uint32_t crc32c_table(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *p = data;

    pthread_once(&tables_once, tables_make);
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = tables[7][crc & 0xff] ^ tables[6][crc >> 8 & 0xff] ^ tables[5][crc >> 16 & 0xff] ^
              tables[4][crc >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
              tables[0][p[7]];
    }
    for (; bytes > 0; bytes--, p++)
        crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xff];
    return ~crc;
}

/* Polynomials over GF(2) modulo the CRC's, bit-reflected: bit 31 is x^0, bit 0 is x^31. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = 1u << 31; a != 0; bit >>= 1) {
        if ((a & bit) != 0) {
            product ^= b;
            a ^= bit;
        }
        b = (b >> 1) ^ ((b & 1) != 0 ? POLYNOMIAL_REFLECTED : 0);
    }
    return product;
}

/* x^exponent. */
static uint32_t power_of(uint64_t exponent)
{
    uint32_t power = 1u << 31, square = 1u << 30; /* x^0, x^1 */

    for (; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0)
            power = multiply(power, square);
        square = multiply(square, square);
    }
    return power;
}

/* What so many bytes behind do to a CRC's register. */
static uint32_t shift_of(uint64_t bytes)
{
    uint32_t power = power_of(bytes);

    for (int i = 0; i < 3; i++) /* a byte is x^8 */
        power = multiply(power, power);
    return power;
}

uint32_t crc32c_join(uint32_t first, uint32_t second, uint64_t second_bytes)
{
    return multiply(shift_of(second_bytes), first) ^ second;
}

#if defined(__x86_64__)

/* The instruction takes 3 cycles and one can begin in each: three runs of the data side by side,
 * and then put together (Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32
 * Instruction", Intel 2011). A run is long enough for the two multiplications to be cheap; three of
 * them are what curl hands over at a time, 16 KiB, but for 64 bytes. */
#define RUN_BYTES ((size_t)5440)

static uint32_t shift_1, shift_2; /* by one and two runs */
static pthread_once_t shifts_once = PTHREAD_ONCE_INIT;

static void shifts_make(void)
{
    shift_1 = shift_of(RUN_BYTES);
    shift_2 = shift_of(2 * RUN_BYTES);
}

__attribute__((target("sse4.2"))) static uint32_t three_runs(uint32_t crc, const unsigned char *p)
{
    uint64_t a = crc, b = 0, c = 0;

    for (size_t i = 0; i < RUN_BYTES; i += 8) {
        uint64_t words[3];

        memcpy(&words[0], p + i, 8);
        memcpy(&words[1], p + RUN_BYTES + i, 8);
        memcpy(&words[2], p + 2 * RUN_BYTES + i, 8);
        a = __builtin_ia32_crc32di(a, words[0]);
        b = __builtin_ia32_crc32di(b, words[1]);
        c = __builtin_ia32_crc32di(c, words[2]);
    }
    return multiply(shift_2, (uint32_t)a) ^ multiply(shift_1, (uint32_t)b) ^ (uint32_t)c;
}

bool crc32c_cpu_has(void)
{
    return __builtin_cpu_supports("sse4.2") != 0;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_cpu(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t wide = (uint32_t)~crc;

    if (bytes >= 3 * RUN_BYTES)
        pthread_once(&shifts_once, shifts_make);
    for (; bytes >= 3 * RUN_BYTES; bytes -= 3 * RUN_BYTES, p += 3 * RUN_BYTES)
        wide = three_runs((uint32_t)wide, p);
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; bytes > 0; bytes--, p++)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return ~crc;
}

/* Four registers of 64 bytes are multiplied by x^2048 and added to the 256 bytes behind, until none
 * are left: a polynomial with the remainder of all (Gopal et al., "Fast CRC Computation for Generic
 * Polynomials Using PCLMULQDQ Instruction", Intel 2009). The low half of 128 bits has the higher
 * powers; a product of reflected factors is off by x^33. */
#define FOLD_BYTES 256
#define FOLD_BITS  (8 * FOLD_BYTES)
#define FOLD_MIN   (4 * FOLD_BYTES) /* from where on it is worth it */

static uint64_t fold_low, fold_high;
static pthread_once_t folds_once = PTHREAD_ONCE_INIT;

static void folds_make(void)
{
    fold_low = power_of(FOLD_BITS + 64 - 33);
    fold_high = power_of(FOLD_BITS - 33);
}

bool crc32c_fold_has(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("vpclmulqdq");
}

/* To the register of the CRC, of whole blocks. */
__attribute__((target("avx512f,vpclmulqdq"))) static void
fold(uint32_t crc, const unsigned char *data, size_t blocks, unsigned char rest[FOLD_BYTES])
{
    const __m512i by = _mm512_set_epi64((int64_t)fold_high, (int64_t)fold_low, (int64_t)fold_high,
                                        (int64_t)fold_low, (int64_t)fold_high, (int64_t)fold_low,
                                        (int64_t)fold_high, (int64_t)fold_low);
    __m512i sums[4];

    for (int i = 0; i < 4; i++)
        sums[i] = _mm512_loadu_si512(data + 64 * i);
    sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    for (size_t block = 1; block < blocks; block++)
        for (int i = 0; i < 4; i++)
            sums[i] = _mm512_ternarylogic_epi64(
                _mm512_clmulepi64_epi128(sums[i], by, 0x00),
                _mm512_clmulepi64_epi128(sums[i], by, 0x11),
                _mm512_loadu_si512(data + block * FOLD_BYTES + 64 * (size_t)i), 0x96);
    for (int i = 0; i < 4; i++)
        _mm512_storeu_si512(rest + 64 * i, sums[i]);
}

uint32_t crc32c_fold(uint32_t crc, const void *data, size_t bytes)
{
    const size_t blocks = bytes / FOLD_BYTES;
    unsigned char rest[FOLD_BYTES];

    if (bytes < FOLD_MIN)
        return crc32c_cpu(crc, data, bytes);
    pthread_once(&folds_once, folds_make);
    fold(~crc, data, blocks, rest);
    crc = crc32c_cpu(~0u, rest, sizeof rest); /* ~0: the register begins at 0 */
    return crc32c_cpu(crc, (const unsigned char *)data + blocks * FOLD_BYTES,
                      bytes - blocks * FOLD_BYTES);
}

#elif defined(__aarch64__)

#define HWCAP_CRC32_BIT (1ul << 7) /* HWCAP_CRC32 of Linux's asm/hwcap.h */

bool crc32c_cpu_has(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT) != 0;
}

/* Assembly, because gcc and clang spell the builtin differently outside arm_acle.h. */
uint32_t crc32c_cpu(uint32_t crc, const void *data, size_t bytes)
{
    const unsigned char *p = data;

    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;

        memcpy(&word, p, sizeof word);
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
    }
    for (; bytes > 0; bytes--, p++)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*p));
    return ~crc;
}

#else

bool crc32c_cpu_has(void)
{
    return false;
}

uint32_t crc32c_cpu(uint32_t crc, const void *data, size_t bytes)
{
    assert(!"crc32c_cpu on a CPU without the instruction");
    return crc32c_table(crc, data, bytes);
}

#endif

#if !defined(__x86_64__)

bool crc32c_fold_has(void)
{
    return false;
}

uint32_t crc32c_fold(uint32_t crc, const void *data, size_t bytes)
{
    assert(!"crc32c_fold on a CPU without the instruction");
    return crc32c_table(crc, data, bytes);
}

#endif
