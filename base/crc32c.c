#include "base/crc32c.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#if defined(__aarch64__)
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

/* x^(8 bytes): what so many bytes behind do to a CRC's register. */
static uint32_t shift_of(uint64_t bytes)
{
    uint32_t power = 1u << 31, square = 1u << 23; /* x^0, x^8 */

    for (; bytes > 0; bytes >>= 1) {
        if ((bytes & 1) != 0)
            power = multiply(power, square);
        square = multiply(square, square);
    }
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
