/*
 * trainer/nn/kernel/avx512.c -- the kernels for CPUs with AVX-512F.
 *
 * A tile of C, 6 rows by 64, 32 or 16 columns, stays in registers while the depth goes by (Goto and
 * van de Geijn, "Anatomy of high-performance matrix multiplication", 2008):
 *
 *                          zmm24  zmm25  zmm26  zmm27     B, one of the depth: up to 64 floats
 *     A   row 0  zmm28     zmm0   zmm1   zmm2   zmm3      every float of A is broadcast and used up
 *         row 1  zmm29     zmm4   zmm5   zmm6   zmm7      to four times; zmm28 to zmm31 take turns
 *         row 2  zmm30     zmm8   zmm9   zmm10  zmm11
 *         row 3  zmm31     zmm12  zmm13  zmm14  zmm15
 *         row 4  zmm28     zmm16  zmm17  zmm18  zmm19
 *         row 5  zmm29     zmm20  zmm21  zmm22  zmm23
 *
 * At 64 columns 10 loads feed 24 FMAs, at 32 columns (the first two of each row) 8 feed 12. At 16
 * columns 7 loads feed 6 FMAs, too few to hide an FMA's latency: three quarters of the peak at
 * best, which is still more than AVX2's peak. So panels are as wide as the columns allow.
 *
 * product: a panel of B 64 wide is 64 KiB at depth 256 and meant for L2, from where it comes at 21
 * bytes a cycle; the rows of a tile of A are meant for L1 or L2. outer as in avx2.c.
 *
 * The rest is as in avx2.c: arguments in memory, the loop over the tiles inside.
 */
#include "trainer/nn/kernel/kernels_table.h"
#include "trainer/nn/kernel/loops.h"
#include "trainer/nn/kernel/size.h"

#define FETCH_BYTES "1536" /* of A in outer, from its use on */

/* clang-format off */

/* A field of the struct that rdi points to. */
#define AT(field) "%c[" #field "](%%rdi)"

/* f for each row of the tile: V and i as given (V: vectors in a row of the tile), the row's number,
 * the register that says where its A is, the register of its broadcast, its sums. */
#define SIX(f, V, i)                                                        \
    f(V, i, 0, r8, 28, 0, 1, 2, 3)      f(V, i, 1, r9, 29, 4, 5, 6, 7)      \
    f(V, i, 2, r10, 30, 8, 9, 10, 11)   f(V, i, 3, r11, 31, 12, 13, 14, 15) \
    f(V, i, 4, r12, 28, 16, 17, 18, 19) f(V, i, 5, r13, 29, 20, 21, 22, 23)

/* g for each vector of a row: its number in the row, its register of B, x as given, its sum. */
#define VECTORS_1(g, x, s, t, u, v) g(0, 24, x, s)
#define VECTORS_2(g, x, s, t, u, v) g(0, 24, x, s) g(1, 25, x, t)
#define VECTORS_4(g, x, s, t, u, v) g(0, 24, x, s) g(1, 25, x, t) g(2, 26, x, u) g(3, 27, x, v)

#define ZERO_VECTOR(n, b, x, sum) "vpxord %%zmm" #sum ", %%zmm" #sum ", %%zmm" #sum "\n\t"
#define FMA_VECTOR(n, b, copy, sum) "vfmadd231ps %%zmm" #b ", %%zmm" #copy ", %%zmm" #sum "\n\t"

#define ZERO(V, i, row, at, copy, s, t, u, v) VECTORS_##V(ZERO_VECTOR, 0, s, t, u, v)

/* Fetch a line of what the caller reads next, and go on. */
#define FETCH_AHEAD(at, bytes) \
    "prefetcht1 (" at ")\n\t"  \
    "addq " bytes ", " at "\n\t"

/* A compiler that makes code for CPUs without AVX-512 knows and uses the first half only. */
#if defined(__AVX512F__)
#define UPPER_VECTORS                                                                           \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
#else
#define UPPER_VECTORS
#endif
#define CLOBBERED_VECTORS                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15" UPPER_VECTORS
#define CLOBBERED                                                                     \
    "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", \
        "r15", "cc", "memory", CLOBBERED_VECTORS

/* A row's address is a base and four times its entry in a table. Of A the base is rcx and the
 * entries stay in registers; of C the base is rdx and r15 points to the entries. */
#define LOAD_A_AT(V, i, row, at, copy, s, t, u, v) "movq 8*" #row "(%%r14), %%" #at "\n\t"
#define FETCH_C_VECTOR(n, b, x, sum) "prefetcht0 64*" #n "(%%rdx,%%rsi,4)\n\t"
#define FETCH_C(V, i, row, at, copy, s, t, u, v) \
    "movq 8*" #row "(%%r15), %%rsi\n\t" VECTORS_##V(FETCH_C_VECTOR, 0, s, t, u, v)
#define ADD_C_VECTOR(n, b, x, sum) \
    "vaddps 64*" #n "(%%rdx,%%rsi,4), %%zmm" #sum ", %%zmm" #sum "\n\t"
#define ADD_C(V, i, row, at, copy, s, t, u, v) \
    "movq 8*" #row "(%%r15), %%rsi\n\t" VECTORS_##V(ADD_C_VECTOR, 0, s, t, u, v)
#define STORE_C_VECTOR(n, b, x, sum) \
    "vmovups %%zmm" #sum ", 64*" #n "(%%rdx,%%rsi,4)\n\t" ZERO_VECTOR(n, b, x, sum)
#define STORE_C(V, i, row, at, copy, s, t, u, v) \
    "movq 8*" #row "(%%r15), %%rsi\n\t" VECTORS_##V(STORE_C_VECTOR, 0, s, t, u, v)

/* rcx = the base of A in the segment whose entry rax points to */
#define SEGMENT                 \
    "movq (%%rax), %%rcx\n\t"   \
    "movq " AT(a) ", %%rdx\n\t" \
    "leaq (%%rdx,%%rcx,4), %%rcx\n\t"

/* The i-th of the depth from rcx (A) and rsi (B) on. */
#define DEEP_B(n, b, at, sum) "vmovaps 64*" #n "+" at "(%%rsi), %%zmm" #b "\n\t"
#define DEEP_ROW(V, i, row, at, copy, s, t, u, v)                  \
    "vbroadcastss 4*" #i "(%%rcx,%%" #at ",4), %%zmm" #copy "\n\t" \
    VECTORS_##V(FMA_VECTOR, copy, s, t, u, v)
#define DEEP(V, i) VECTORS_##V(DEEP_B, "64*" #V "*" #i, 0, 0, 0, 0) SIX(DEEP_ROW, V, i)

#define FIELD(name) [name] "i"(offsetof(struct nn_product_loop, name))

/* The next tile's entries and base are loaded before this one's sums are stored, so that its first
 * broadcasts need not wait. Behind the last tile that is the last one again. */
#define PRODUCT_TILES(V)                                                                   \
    __asm__ volatile(                                                                      \
        "movq " AT(a_at) ", %%r14\n\t"                                                     \
        "movq " AT(c_at) ", %%r15\n\t"                                                     \
        "movq " AT(ahead) ", %%rbx\n\t"                                                    \
        SIX(LOAD_A_AT, V, 0)                                                               \
        "movq " AT(segment_at) ", %%rax\n\t"                                               \
        SEGMENT                                                                            \
        "movq " AT(c) ", %%rdx\n\t"                                                        \
        SIX(ZERO, V, 0)                                                                    \
        "\n1:\n\t" /* a tile */                                                            \
        SIX(FETCH_C, V, 0)                                                                 \
        "movq " AT(b) ", %%rsi\n"                                                          \
        "2:\n\t" /* a segment: rcx runs until rdx */                                       \
        "movq " AT(run_fours) ", %%rdx\n\t"                                                \
        "addq %%rcx, %%rdx\n\t"                                                            \
        "cmpq %%rdx, %%rcx\n\t"                                                            \
        "je 4f\n\t"                                                                        \
        ".p2align 5\n"                                                                     \
        "3:\n\t"                                                                           \
        DEEP(V, 0) FETCH_AHEAD("%%rbx", AT(ahead_bytes))                                   \
        DEEP(V, 1)                                                                         \
        DEEP(V, 2) FETCH_AHEAD("%%rbx", AT(ahead_bytes))                                   \
        DEEP(V, 3)                                                                         \
        "addq $256*" #V ", %%rsi\n\t"                                                      \
        "addq $16, %%rcx\n\t"                                                              \
        "cmpq %%rdx, %%rcx\n\t"                                                            \
        "jne 3b\n"                                                                         \
        "4:\n\t"                                                                           \
        "addq " AT(run_rest) ", %%rdx\n\t"                                                 \
        "cmpq %%rdx, %%rcx\n\t"                                                            \
        "je 6f\n"                                                                          \
        "5:\n\t"                                                                           \
        DEEP(V, 0)                                                                         \
        "addq $64*" #V ", %%rsi\n\t"                                                       \
        "addq $4, %%rcx\n\t"                                                               \
        "cmpq %%rdx, %%rcx\n\t"                                                            \
        "jne 5b\n"                                                                         \
        "6:\n\t"                                                                           \
        "addq $8, %%rax\n\t"                                                               \
        "cmpq " AT(segment_end) ", %%rax\n\t"                                              \
        "je 7f\n\t"                                                                        \
        SEGMENT                                                                            \
        "jmp 2b\n"                                                                         \
        "7:\n\t" /* the tile's depth is through */                                         \
        "leaq 48(%%r14), %%rsi\n\t"                                                        \
        "cmpq " AT(a_at_end) ", %%rsi\n\t"                                                 \
        "cmovbq %%rsi, %%r14\n\t"                                                          \
        SIX(LOAD_A_AT, V, 0)                                                               \
        "movq " AT(segment_at) ", %%rax\n\t"                                               \
        SEGMENT                                                                            \
        "movq " AT(c) ", %%rdx\n\t"                                                        \
        "cmpq $0, " AT(add) "\n\t"                                                         \
        "je 8f\n\t"                                                                        \
        SIX(ADD_C, V, 0)                                                                   \
        "\n8:\n\t"                                                                         \
        SIX(STORE_C, V, 0)                                                                 \
        "addq $48, %%r15\n\t"                                                              \
        "cmpq " AT(c_at_end) ", %%r15\n\t"                                                 \
        "jne 1b\n\t"                                                                       \
        "vzeroupper"                                                                       \
        :                                                                                  \
        : "D"(p), FIELD(a), FIELD(b), FIELD(c), FIELD(a_at), FIELD(a_at_end), FIELD(c_at), \
          FIELD(c_at_end), FIELD(segment_at), FIELD(segment_end), FIELD(run_fours),        \
          FIELD(run_rest), FIELD(ahead), FIELD(ahead_bytes), FIELD(add)                    \
        : CLOBBERED)

static void product_64(struct nn_product_loop *p) { PRODUCT_TILES(4); }
static void product_32(struct nn_product_loop *p) { PRODUCT_TILES(2); }
static void product_16(struct nn_product_loop *p) { PRODUCT_TILES(1); }

#undef FIELD

/* A row of C, at rax; then on to the next one. */
#define FETCH_ROW_VECTOR(n, b, x, sum) "prefetcht0 64*" #n "(%%rax)\n\t"
#define FETCH_ROW(V, i, row, at, copy, s, t, u, v) \
    VECTORS_##V(FETCH_ROW_VECTOR, 0, s, t, u, v) "addq %%rdx, %%rax\n\t"
#define ADD_ROW_VECTOR(n, b, x, sum) "vaddps 64*" #n "(%%rax), %%zmm" #sum ", %%zmm" #sum "\n\t"
#define ADD_ROW(V, i, row, at, copy, s, t, u, v) \
    VECTORS_##V(ADD_ROW_VECTOR, 0, s, t, u, v) "addq %%rdx, %%rax\n\t"
#define STORE_ROW_VECTOR(n, b, x, sum) "vmovups %%zmm" #sum ", 64*" #n "(%%rax)\n\t" ZERO_VECTOR(n, b, x, sum)
#define STORE_ROW(V, i, row, at, copy, s, t, u, v) \
    VECTORS_##V(STORE_ROW_VECTOR, 0, s, t, u, v) "addq %%rdx, %%rax\n\t"

/* A pixel; `a` and `b` are its addresses. */
#define PIXEL_B(n, b, at, sum) "vmovups 64*" #n at ", %%zmm" #b "\n\t"
#define PIXEL_ROW(V, a, row, at, copy, s, t, u, v)  \
    "vbroadcastss 4*" #row a ", %%zmm" #copy "\n\t" \
    VECTORS_##V(FMA_VECTOR, copy, s, t, u, v)
#define PIXEL(V, a, b) VECTORS_##V(PIXEL_B, b, 0, 0, 0, 0) SIX(PIXEL_ROW, V, a)

/* Four pixels, the last of which leaves in the flags whether it was the last four; between them
 * something of A is fetched into L1. Where pixels lie side by side, that is the next tile's, too.
 * Where they lie in lines of their own, it is the eighth next pixel's last float, since the line
 * before may be there from the previous tile. In a bunch that would do harm. */
#define FOUR_PIXELS(V, fetch_0, fetch_1, fetch_2, fetch_3)     \
    FETCH_AHEAD("%%r15", "%%r13")                           \
    fetch_0 PIXEL(V, "(%%r8)", "(%%rsi)")                      \
    fetch_1 PIXEL(V, "(%%r8,%%r9)", "(%%rsi,%%r11)")           \
    fetch_2 PIXEL(V, "(%%r8,%%r9,2)", "(%%rsi,%%r11,2)")       \
    fetch_3 PIXEL(V, "(%%r8,%%r10)", "(%%rsi,%%r12)")          \
    "leaq (%%r8,%%r9,4), %%r8\n\t"                          \
    "leaq (%%rsi,%%r11,4), %%rsi\n\t"                       \
    "decq %%rcx\n\t"

#define FIELD(name) [name] "i"(offsetof(struct nn_outer_loop, name))

#define OUTER_TILES(V) \
    __asm__ volatile(                                                                        \
        "movq " AT(a) ", %%rbx\n\t"                                                          \
        "movq " AT(c) ", %%r14\n\t"                                                          \
        "movq " AT(a_bytes) ", %%r9\n\t"                                                     \
        "leaq (%%r9,%%r9,2), %%r10\n\t"                                                      \
        "movq " AT(b_bytes) ", %%r11\n\t"                                                    \
        "leaq (%%r11,%%r11,2), %%r12\n\t"                                                    \
        "movq " AT(ahead) ", %%r15\n\t"                                                      \
        "movq " AT(ahead_bytes) ", %%r13\n\t"                                                \
        SIX(ZERO, V, 0)                                                                      \
        "\n1:\n\t" /* a tile: its A at rbx, its C at r14; r8 in A, rsi in B */               \
        "movq " AT(c_bytes) ", %%rdx\n\t"                                                    \
        "movq %%r14, %%rax\n\t"                                                              \
        SIX(FETCH_ROW, V, 0)                                                                 \
        "movq %%rbx, %%r8\n\t"                                                               \
        "movq " AT(b) ", %%rsi\n\t"                                                          \
        "movq " AT(fours) ", %%rcx\n\t"                                                      \
        "testq %%rcx, %%rcx\n\t"                                                             \
        "je 4f\n\t"                                                                          \
        "cmpq $64, %%r9\n\t"                                                                 \
        "jae 3f\n\t"                                                                         \
        ".p2align 5\n"                                                                       \
        "2:\n\t"                                                                             \
        FOUR_PIXELS(V, "prefetcht0 " FETCH_BYTES "(%%r8)\n\t", "",                           \
                    "prefetcht0 " FETCH_BYTES "+64(%%r8)\n\t", "")                           \
        "jnz 2b\n\t"                                                                         \
        "jmp 4f\n\t"                                                                         \
        ".p2align 5\n"                                                                       \
        "3:\n\t"                                                                             \
        "leaq (%%r8,%%r9,8), %%rdx\n\t"                                                      \
        FOUR_PIXELS(V, "prefetcht0 20(%%rdx)\n\t", "prefetcht0 20(%%rdx,%%r9)\n\t",          \
                    "prefetcht0 20(%%rdx,%%r9,2)\n\t", "prefetcht0 20(%%rdx,%%r10)\n\t")     \
        "jnz 3b\n"                                                                           \
        "4:\n\t"                                                                             \
        "movq " AT(rest) ", %%rcx\n\t"                                                       \
        "testq %%rcx, %%rcx\n\t"                                                             \
        "je 6f\n"                                                                            \
        "5:\n\t"                                                                             \
        PIXEL(V, "(%%r8)", "(%%rsi)")                                                        \
        "addq %%r9, %%r8\n\t"                                                                \
        "addq %%r11, %%rsi\n\t"                                                              \
        "decq %%rcx\n\t"                                                                     \
        "jnz 5b\n"                                                                           \
        "6:\n\t"                                                                             \
        "addq " AT(a_tile_bytes) ", %%rbx\n\t"                                               \
        "movq " AT(c_bytes) ", %%rdx\n\t"                                                    \
        "cmpq $0, " AT(add) "\n\t"                                                           \
        "je 7f\n\t"                                                                          \
        "movq %%r14, %%rax\n\t"                                                              \
        SIX(ADD_ROW, V, 0)                                                                   \
        "\n7:\n\t"                                                                           \
        "movq %%r14, %%rax\n\t"                                                              \
        SIX(STORE_ROW, V, 0)                                                                 \
        "addq " AT(c_tile_bytes) ", %%r14\n\t"                                               \
        "decq " AT(tiles) "\n\t"                                                             \
        "jnz 1b\n\t"                                                                         \
        "vzeroupper"                                                                         \
        :                                                                                    \
        : "D"(p), FIELD(a), FIELD(b), FIELD(c), FIELD(tiles), FIELD(a_tile_bytes),           \
          FIELD(c_tile_bytes), FIELD(a_bytes), FIELD(b_bytes), FIELD(c_bytes), FIELD(fours), \
          FIELD(rest), FIELD(ahead), FIELD(ahead_bytes), FIELD(add)                          \
        : CLOBBERED)

static void outer_64(struct nn_outer_loop *p) { OUTER_TILES(4); }
static void outer_32(struct nn_outer_loop *p) { OUTER_TILES(2); }
static void outer_16(struct nn_outer_loop *p) { OUTER_TILES(1); }

#undef FIELD

#define SPIN_ROW(V, i, row, at, copy, s, t, u, v) VECTORS_##V(FMA_VECTOR, 28, s, t, u, v)
#define SPIN_B(n, b, x, sum) "vpxord %%zmm" #b ", %%zmm" #b ", %%zmm" #b "\n\t"

static double spin(size_t rounds)
{
    size_t left = rounds;

    if (rounds == 0)
        return 0;
    __asm__ volatile(
        SIX(ZERO, 4, 0)
        VECTORS_4(SPIN_B, 0, 0, 0, 0, 0)
        "vpxord %%zmm28, %%zmm28, %%zmm28\n"
        "1:\n\t"
        SIX(SPIN_ROW, 4, 0) SIX(SPIN_ROW, 4, 0)
        "decq %0\n\t"
        "jnz 1b\n\t"
        "vzeroupper"
        : "+a"(left)
        :
        : "cc", CLOBBERED_VECTORS);
    return (double)rounds * 2 * 24 * 32; /* 24 FMAs of 16 lanes, two operations each */
}
/* clang-format on */

static void product(const struct nn_product *p)
{
    struct nn_product_loop loop = nn_product_loop(p, 2);

    if (p->rows == 0)
        return;
    if (p->width == 64)
        product_64(&loop);
    else if (p->width == 32)
        product_32(&loop);
    else
        product_16(&loop);
}

static void outer(const struct nn_outer *p)
{
    struct nn_outer_loop loop = nn_outer_loop(p, 1);
    size_t part;

    for (size_t column = 0; column < p->width; column += part) {
        const size_t left = p->width - column;

        part = left >= 64 ? 64 : left >= 32 ? 32 : 16;
        loop.b = p->b + column;
        loop.c = p->c + column;
        loop.tiles = p->tiles;
        if (part == 64)
            outer_64(&loop);
        else if (part == 32)
            outer_32(&loop);
        else
            outer_16(&loop);
        loop.ahead_bytes = 0;
    }
}

static size_t panel_width(size_t n)
{
    const size_t columns = nn_size_round_up(n, NN_LANES);

    return columns % 64 == 0 ? 64 : columns % 32 == 0 ? 32 : 16;
}

bool nn_kernels_avx512_run_here(void)
{
    return __builtin_cpu_supports("avx512f");
}

const struct nn_kernels nn_kernels_avx512 = {
    .name = "avx512",
    .panel_width = panel_width,
    .product = product,
    .outer = outer,
    .spin = spin,
};

#undef FETCH_BYTES
#undef AT
#undef SIX
#undef VECTORS_1
#undef VECTORS_2
#undef VECTORS_4
#undef ZERO_VECTOR
#undef FMA_VECTOR
#undef ZERO
#undef FETCH_AHEAD
#undef UPPER_VECTORS
#undef CLOBBERED_VECTORS
#undef CLOBBERED
#undef LOAD_A_AT
#undef FETCH_C_VECTOR
#undef FETCH_C
#undef ADD_C_VECTOR
#undef ADD_C
#undef STORE_C_VECTOR
#undef STORE_C
#undef SEGMENT
#undef DEEP_B
#undef DEEP_ROW
#undef DEEP
#undef FIELD
#undef PRODUCT_TILES
#undef FETCH_ROW_VECTOR
#undef FETCH_ROW
#undef ADD_ROW_VECTOR
#undef ADD_ROW
#undef STORE_ROW_VECTOR
#undef STORE_ROW
#undef PIXEL_B
#undef PIXEL_ROW
#undef PIXEL
#undef FOUR_PIXELS
#undef OUTER_TILES
#undef SPIN_ROW
#undef SPIN_B
