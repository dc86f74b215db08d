/*
 * trainer/nn/kernel/avx2.c -- the kernels for CPUs with AVX2 and FMA.
 *
 * A tile of C, 6 rows by 16 columns, stays in registers while the depth goes by (Goto and van de
 * Geijn, "Anatomy of high-performance matrix multiplication", 2008):
 *
 *                          ymm12     ymm13        B, one of the depth: 16 floats
 *     A   row 0  ymm14     ymm0      ymm1         every float of A is broadcast and used twice;
 *         row 1  ymm15     ymm2      ymm3         ymm14 and ymm15 take turns
 *         row 2  ymm14     ymm4      ymm5
 *         row 3  ymm15     ymm6      ymm7
 *         row 4  ymm14     ymm8      ymm9
 *         row 5  ymm15     ymm10     ymm11
 *
 * So 8 loads feed 12 FMAs, which two load ports and two FMA ports finish in 6 cycles. The twelve
 * sums are enough for an FMA's latency of 4 or 5 cycles.
 *
 * product: the panel of B (depth x 16; 16 KiB at depth 256) is read again for every tile and is
 * meant for L1. The rows of A are meant for L2, from where they stream through L1 once per panel. C
 * is written once, wherever it is. outer: a tile of C stays in registers while its pixels go by; B
 * is read again for every tile and is meant for L1, A streams from L2.
 *
 * It is assembly because gcc 12 spills registers where it is given intrinsics. All operands
 * come from a struct in memory, so that it compiles without optimisation and with sanitizers as
 * well. The loop over the tiles is inside, so that one tile's end overlaps the next one's
 * beginning.
 */
#include "trainer/nn/kernel/kernels_table.h"
#include "trainer/nn/kernel/loops.h"

#define WIDTH       16
#define FETCH_BYTES "1536" /* of A in outer, from its use on */

/* clang-format off */

/* A field of the struct that rdi points to. */
#define AT(field) "%c[" #field "](%%rdi)"

/* f for each row of the tile: its number, the register that says where its A is, the register of
 * its broadcast, its two sums. */
#define SIX(f) f(0, r8, 14, 0, 1) f(1, r9, 15, 2, 3) f(2, r10, 14, 4, 5) \
               f(3, r11, 15, 6, 7) f(4, r12, 14, 8, 9) f(5, r13, 15, 10, 11)
#define SIX_OF(f, x) f(x, 0, r8, 14, 0, 1) f(x, 1, r9, 15, 2, 3) f(x, 2, r10, 14, 4, 5) \
                     f(x, 3, r11, 15, 6, 7) f(x, 4, r12, 14, 8, 9) f(x, 5, r13, 15, 10, 11)

#define ZERO(row, at, copy, s, t)                      \
    "vxorps %%ymm" #s ", %%ymm" #s ", %%ymm" #s "\n\t" \
    "vxorps %%ymm" #t ", %%ymm" #t ", %%ymm" #t "\n\t"

#define FMAS(copy, s, t)                                   \
    "vfmadd231ps %%ymm12, %%ymm" #copy ", %%ymm" #s "\n\t" \
    "vfmadd231ps %%ymm13, %%ymm" #copy ", %%ymm" #t "\n\t"

/* Fetch a line of what the caller reads next, and go on. */
#define FETCH_AHEAD(at, bytes) \
    "prefetcht1 (" at ")\n\t"  \
    "addq " bytes ", " at "\n\t"

#define VECTORS                                                                              \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define CLOBBERED                                                                     \
    "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", \
        "r15", "cc", "memory", VECTORS

/* A row's address is a base and four times its entry in a table. Of A the base is rcx and the
 * entries stay in registers; of C the base is rdx and r15 points to the entries. */
#define LOAD_A_AT(row, at, copy, s, t) "movq 8*" #row "(%%r14), %%" #at "\n\t"
#define FETCH_C(row, at, copy, s, t)    \
    "movq 8*" #row "(%%r15), %%rsi\n\t" \
    "prefetcht0 (%%rdx,%%rsi,4)\n\t"
#define ADD_C(row, at, copy, s, t)                         \
    "movq 8*" #row "(%%r15), %%rsi\n\t"                    \
    "vaddps (%%rdx,%%rsi,4), %%ymm" #s ", %%ymm" #s "\n\t" \
    "vaddps 32(%%rdx,%%rsi,4), %%ymm" #t ", %%ymm" #t "\n\t"
#define STORE_C(row, at, copy, s, t)             \
    "movq 8*" #row "(%%r15), %%rsi\n\t"          \
    "vmovups %%ymm" #s ", (%%rdx,%%rsi,4)\n\t"   \
    "vmovups %%ymm" #t ", 32(%%rdx,%%rsi,4)\n\t" \
    ZERO(row, at, copy, s, t)

/* rcx = the base of A in the segment whose entry rax points to */
#define SEGMENT                 \
    "movq (%%rax), %%rcx\n\t"   \
    "movq " AT(a) ", %%rdx\n\t" \
    "leaq (%%rdx,%%rcx,4), %%rcx\n\t"

/* The i-th of the depth from rcx (A) and rsi (B) on. */
#define DEEP_ROW(i, row, at, copy, s, t) \
    "vbroadcastss 4*" #i "(%%rcx,%%" #at ",4), %%ymm" #copy "\n\t" FMAS(copy, s, t)
#define DEEP(i)                                \
    "vmovaps 64*" #i "(%%rsi), %%ymm12\n\t"    \
    "vmovaps 64*" #i "+32(%%rsi), %%ymm13\n\t" \
    SIX_OF(DEEP_ROW, i)

#define FIELD(name) [name] "i"(offsetof(struct nn_product_loop, name))

/* The next tile's entries and base are loaded before this one's sums are stored, so that its first
 * broadcasts need not wait. Behind the last tile that is the last one again. */
static void product_tiles(struct nn_product_loop *p)
{
    __asm__ volatile(
        "movq " AT(a_at) ", %%r14\n\t"
        "movq " AT(c_at) ", %%r15\n\t"
        "movq " AT(ahead) ", %%rbx\n\t"
        SIX(LOAD_A_AT)
        "movq " AT(segment_at) ", %%rax\n\t"
        SEGMENT
        "movq " AT(c) ", %%rdx\n\t"
        SIX(ZERO)
        "\n1:\n\t" /* a tile */
        SIX(FETCH_C)
        "movq " AT(b) ", %%rsi\n"
        "2:\n\t" /* a segment: rcx runs until rdx */
        "movq " AT(run_fours) ", %%rdx\n\t"
        "addq %%rcx, %%rdx\n\t"
        "cmpq %%rdx, %%rcx\n\t"
        "je 4f\n\t"
        ".p2align 5\n"
        "3:\n\t"
        DEEP(0) DEEP(1) FETCH_AHEAD("%%rbx", AT(ahead_bytes))
        DEEP(2) DEEP(3)
        "addq $256, %%rsi\n\t"
        "addq $16, %%rcx\n\t"
        "cmpq %%rdx, %%rcx\n\t"
        "jne 3b\n"
        "4:\n\t"
        "addq " AT(run_rest) ", %%rdx\n\t"
        "cmpq %%rdx, %%rcx\n\t"
        "je 6f\n"
        "5:\n\t"
        DEEP(0)
        "addq $64, %%rsi\n\t"
        "addq $4, %%rcx\n\t"
        "cmpq %%rdx, %%rcx\n\t"
        "jne 5b\n"
        "6:\n\t"
        "addq $8, %%rax\n\t"
        "cmpq " AT(segment_end) ", %%rax\n\t"
        "je 7f\n\t"
        SEGMENT
        "jmp 2b\n"
        "7:\n\t" /* the tile's depth is through */
        "leaq 48(%%r14), %%rsi\n\t"
        "cmpq " AT(a_at_end) ", %%rsi\n\t"
        "cmovbq %%rsi, %%r14\n\t"
        SIX(LOAD_A_AT)
        "movq " AT(segment_at) ", %%rax\n\t"
        SEGMENT
        "movq " AT(c) ", %%rdx\n\t"
        "cmpq $0, " AT(add) "\n\t"
        "je 8f\n\t"
        SIX(ADD_C)
        "\n8:\n\t"
        SIX(STORE_C)
        "addq $48, %%r15\n\t"
        "cmpq " AT(c_at_end) ", %%r15\n\t"
        "jne 1b\n\t"
        "vzeroupper"
        :
        : "D"(p), FIELD(a), FIELD(b), FIELD(c), FIELD(a_at), FIELD(a_at_end), FIELD(c_at),
          FIELD(c_at_end), FIELD(segment_at), FIELD(segment_end), FIELD(run_fours),
          FIELD(run_rest), FIELD(ahead), FIELD(ahead_bytes), FIELD(add)
        : CLOBBERED);
}

#undef FIELD

/* A row of C, at rax; then on to the next one. */
#define ADD_ROW(row, at, copy, s, t)                 \
    "vaddps (%%rax), %%ymm" #s ", %%ymm" #s "\n\t"   \
    "vaddps 32(%%rax), %%ymm" #t ", %%ymm" #t "\n\t" \
    "addq %%rdx, %%rax\n\t"
#define FETCH_ROW(row, at, copy, s, t) \
    "prefetcht0 (%%rax)\n\t"           \
    "addq %%rdx, %%rax\n\t"
#define STORE_ROW(row, at, copy, s, t)   \
    "vmovups %%ymm" #s ", (%%rax)\n\t"   \
    "vmovups %%ymm" #t ", 32(%%rax)\n\t" \
    "addq %%rdx, %%rax\n\t"              \
    ZERO(row, at, copy, s, t)

/* A pixel; `a` and `b` are its addresses. */
#define PIXEL_ROW(a, row, at, copy, s, t) \
    "vbroadcastss 4*" #row a ", %%ymm" #copy "\n\t" FMAS(copy, s, t)
#define PIXEL(a, b)                \
    "vmovups " b ", %%ymm12\n\t"   \
    "vmovups 32" b ", %%ymm13\n\t" \
    SIX_OF(PIXEL_ROW, a)

/* Four pixels, the last of which leaves in the flags whether it was the last four; between them
 * something of A is fetched into L1. Where pixels lie side by side, that is the next tile's, too.
 * Where they lie in lines of their own, it is the eighth next pixel's last float, since the line
 * before may be there from the previous tile. In a bunch that would do harm. */
#define FOUR_PIXELS(fetch_0, fetch_1, fetch_2, fetch_3)     \
    FETCH_AHEAD("%%r15", "%%r13")                           \
    fetch_0 PIXEL("(%%r8)", "(%%rsi)")                      \
    fetch_1 PIXEL("(%%r8,%%r9)", "(%%rsi,%%r11)")           \
    fetch_2 PIXEL("(%%r8,%%r9,2)", "(%%rsi,%%r11,2)")       \
    fetch_3 PIXEL("(%%r8,%%r10)", "(%%rsi,%%r12)")          \
    "leaq (%%r8,%%r9,4), %%r8\n\t"                          \
    "leaq (%%rsi,%%r11,4), %%rsi\n\t"                       \
    "decq %%rcx\n\t"

#define FIELD(name) [name] "i"(offsetof(struct nn_outer_loop, name))

static void outer_tiles(struct nn_outer_loop *p)
{
    __asm__ volatile(
        "movq " AT(a) ", %%rbx\n\t"
        "movq " AT(c) ", %%r14\n\t"
        "movq " AT(a_bytes) ", %%r9\n\t"
        "leaq (%%r9,%%r9,2), %%r10\n\t"
        "movq " AT(b_bytes) ", %%r11\n\t"
        "leaq (%%r11,%%r11,2), %%r12\n\t"
        "movq " AT(ahead) ", %%r15\n\t"
        "movq " AT(ahead_bytes) ", %%r13\n\t"
        SIX(ZERO)
        "\n1:\n\t" /* a tile: its A at rbx, its C at r14; r8 in A, rsi in B */
        "movq " AT(c_bytes) ", %%rdx\n\t"
        "movq %%r14, %%rax\n\t"
        SIX(FETCH_ROW)
        "movq %%rbx, %%r8\n\t"
        "movq " AT(b) ", %%rsi\n\t"
        "movq " AT(fours) ", %%rcx\n\t"
        "testq %%rcx, %%rcx\n\t"
        "je 4f\n\t"
        "cmpq $64, %%r9\n\t"
        "jae 3f\n\t"
        ".p2align 5\n"
        "2:\n\t"
        FOUR_PIXELS("prefetcht0 " FETCH_BYTES "(%%r8)\n\t", "",
                    "prefetcht0 " FETCH_BYTES "+64(%%r8)\n\t", "")
        "jnz 2b\n\t"
        "jmp 4f\n\t"
        ".p2align 5\n"
        "3:\n\t"
        "leaq (%%r8,%%r9,8), %%rdx\n\t"
        FOUR_PIXELS("prefetcht0 20(%%rdx)\n\t", "prefetcht0 20(%%rdx,%%r9)\n\t",
                    "prefetcht0 20(%%rdx,%%r9,2)\n\t", "prefetcht0 20(%%rdx,%%r10)\n\t")
        "jnz 3b\n"
        "4:\n\t"
        "movq " AT(rest) ", %%rcx\n\t"
        "testq %%rcx, %%rcx\n\t"
        "je 6f\n"
        "5:\n\t"
        PIXEL("(%%r8)", "(%%rsi)")
        "addq %%r9, %%r8\n\t"
        "addq %%r11, %%rsi\n\t"
        "decq %%rcx\n\t"
        "jnz 5b\n"
        "6:\n\t"
        "addq " AT(a_tile_bytes) ", %%rbx\n\t"
        "movq " AT(c_bytes) ", %%rdx\n\t"
        "cmpq $0, " AT(add) "\n\t"
        "je 7f\n\t"
        "movq %%r14, %%rax\n\t"
        SIX(ADD_ROW)
        "\n7:\n\t"
        "movq %%r14, %%rax\n\t"
        SIX(STORE_ROW)
        "addq " AT(c_tile_bytes) ", %%r14\n\t"
        "decq " AT(tiles) "\n\t"
        "jnz 1b\n\t"
        "vzeroupper"
        :
        : "D"(p), FIELD(a), FIELD(b), FIELD(c), FIELD(tiles), FIELD(a_tile_bytes),
          FIELD(c_tile_bytes), FIELD(a_bytes), FIELD(b_bytes), FIELD(c_bytes), FIELD(fours),
          FIELD(rest), FIELD(ahead), FIELD(ahead_bytes), FIELD(add)
        : CLOBBERED);
}

#undef FIELD
#define FMAS_OF_ROW(row, at, copy, s, t) FMAS(12, s, t)

static double spin(size_t rounds)
{
    size_t left = rounds;

    if (rounds == 0)
        return 0;
    __asm__ volatile(SIX(ZERO)
                     "vxorps %%ymm12, %%ymm12, %%ymm12\n\t"
                     "vxorps %%ymm13, %%ymm13, %%ymm13\n"
                     "1:\n\t"
                     SIX(FMAS_OF_ROW) SIX(FMAS_OF_ROW) SIX(FMAS_OF_ROW) SIX(FMAS_OF_ROW)
                     "decq %0\n\t"
                     "jnz 1b\n\t"
                     "vzeroupper"
                     : "+a"(left)
                     :
                     : "cc", VECTORS);
    return (double)rounds * 4 * 12 * 16; /* 12 FMAs of 8 lanes, two operations each */
}
/* clang-format on */

static void product(const struct nn_product *p)
{
    struct nn_product_loop loop = nn_product_loop(p, 1);

    if (p->rows > 0)
        product_tiles(&loop);
}

static void outer(const struct nn_outer *p)
{
    struct nn_outer_loop loop = nn_outer_loop(p, 1);

    for (size_t column = 0; column < p->width; column += WIDTH) {
        loop.b = p->b + column;
        loop.c = p->c + column;
        loop.tiles = p->tiles;
        outer_tiles(&loop);
        loop.ahead_bytes = 0;
    }
}

static size_t panel_width(size_t n)
{
    (void)n;
    return WIDTH;
}

bool nn_kernels_avx2_run_here(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct nn_kernels nn_kernels_avx2 = {
    .name = "avx2",
    .panel_width = panel_width,
    .product = product,
    .outer = outer,
    .spin = spin,
};

#undef WIDTH
#undef FETCH_BYTES
#undef AT
#undef SIX
#undef SIX_OF
#undef ZERO
#undef FMAS
#undef FETCH_AHEAD
#undef FMAS_OF_ROW
#undef VECTORS
#undef CLOBBERED
#undef LOAD_A_AT
#undef FETCH_C
#undef ADD_C
#undef STORE_C
#undef SEGMENT
#undef DEEP_ROW
#undef DEEP
#undef FIELD
#undef ADD_ROW
#undef FETCH_ROW
#undef STORE_ROW
#undef PIXEL_ROW
#undef PIXEL
#undef FOUR_PIXELS
