#include "trainer/data/picture/huffman.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jpegint.h> /* behind jpeglib.h */

#define LOOK_BITS    11
#define ADVANCE_END  127
#define LOOK_SIZE    (1 << LOOK_BITS)
#define CODE_BITS    16
#define TABLES       4
#define BLOCKS_MAX   D_MAX_BLOCKS_IN_MCU
#define PADDING      4096 /* more than the codes of an MCU can take */
#define DC_MAX       (1 << 20)
#define SCAN_END     0xd9 /* EOI */
#define RESTART_MASK 0xf8
#define RESTART      0xd0

/* An entry of a table, found by the next LOOK_BITS bits. 0: a longer code, or none. */
#define ENTRY_BITS(e)    ((e)&63)         /* of the code and the value behind it */
#define ENTRY_ADVANCE(e) ((e) >> 6 & 127) /* coefficients: the zeros before, and itself */
#define ENTRY_WHOLE      (1u << 13)       /* the value lies within the bits looked at: */
#define ENTRY_VALUE(e)   ((int32_t)(e) >> 16)
#define ENTRY_SIZE(e)    ((e) >> 16 & 15) /* else: how many bits it has; 0: no value */
#define ENTRY_LAST       (1u << 14)       /* the end of the block */

struct table {
    uint8_t bits[17], symbols[256]; /* what it was made of */
    bool made;
    uint32_t one[LOOK_SIZE];          /* a symbol */
    uint32_t passing[LOOK_SIZE];      /* as many symbols as there are, without values */
    int32_t code_end[CODE_BITS + 1];  /* behind the last code of a length; -1: it has none */
    int32_t symbol_at[CODE_BITS + 1]; /* what to add to a code for its symbol's place */
};

struct data_huffman {
    struct jpeg_decompress_struct *cinfo;
    unsigned char *bytes; /* the scan's, without stuffing and markers */
    size_t capacity;
    size_t *ends; /* (segments) of it where restart markers stood, and the last */
    size_t segments, ends_capacity, segment;
    struct table dc[TABLES], ac[TABLES];
    struct {
        int component;
        const struct table *dc, *ac;
    } blocks[BLOCKS_MAX];
    size_t at; /* the next bit */
    int dc_values[MAX_COMPS_IN_SCAN];
    uint32_t mcu, mcus, column, first_column, last_column, restart_left;
    bool failed;
};

/* Zigzag; a run that leads beyond the block stays in it, and is found out. */
static const uint8_t natural[64 + 16] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33,
    40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36,
    29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63};

/* ---- tables ---- */

/* A value's bits as they stand (T.81, F.2.2.1, EXTEND). */
static int extend(uint32_t bits, unsigned size)
{
    return bits < 1u << (size - 1) ? (int)bits - (1 << size) + 1 : (int)bits;
}

/* The entry of a code of `length` bits for a symbol, where `look` are the bits. */
static uint32_t entry_of(uint32_t look, unsigned length, unsigned symbol, bool is_dc)
{
    const unsigned size = is_dc ? symbol : symbol & 15, run = is_dc ? 0 : symbol >> 4;
    const unsigned all = length + size;
    uint32_t entry = all | (run + 1) << 6;

    if (size == 0 && !is_dc && run != 15)
        return entry | ENTRY_LAST;
    if (size == 0 && !is_dc)
        return entry; /* 16 zeros */
    if (all > LOOK_BITS)
        return entry | size << 16;
    look = look >> (LOOK_BITS - all) & ((1u << size) - 1);
    return entry | ENTRY_WHOLE | (uint32_t)(size > 0 ? extend(look, size) : 0) << 16;
}

/* Symbols one after the other as long as they are within the bits. */
static uint32_t entry_passing(const struct table *table, uint32_t look)
{
    const uint32_t first = table->one[look];
    unsigned bits = ENTRY_BITS(first), advance = ENTRY_ADVANCE(first);

    if (first == 0 || first & ENTRY_LAST)
        return ADVANCE_END << 6;
    while (bits < LOOK_BITS) {
        const uint32_t next = table->one[look << bits & (LOOK_SIZE - 1)];

        if (next == 0 || next & ENTRY_LAST || bits + ENTRY_BITS(next) > LOOK_BITS ||
            advance + ENTRY_ADVANCE(next) > 63)
            break;
        bits += ENTRY_BITS(next);
        advance += ENTRY_ADVANCE(next);
    }
    return bits | advance << 6;
}

/* T.81, annex C and F.2.2.3. libjpeg has checked that the codes are some. */
static void table_make(struct table *table, const JHUFF_TBL *from, bool is_dc)
{
    uint32_t code = 0;
    int place = 0;

    if (table->made && memcmp(table->bits, from->bits, sizeof table->bits) == 0 &&
        memcmp(table->symbols, from->huffval, sizeof table->symbols) == 0)
        return;
    memcpy(table->bits, from->bits, sizeof table->bits);
    memcpy(table->symbols, from->huffval, sizeof table->symbols);
    memset(table->one, 0, sizeof table->one);
    for (unsigned length = 1; length <= CODE_BITS; length++, code <<= 1) {
        table->symbol_at[length] = place - (int)code;
        for (int i = 0; i < from->bits[length]; i++, code++, place++) {
            const uint32_t begin = code << (LOOK_BITS - (length < LOOK_BITS ? length : LOOK_BITS));

            for (uint32_t k = 0; length <= LOOK_BITS && k < 1u << (LOOK_BITS - length); k++)
                table->one[begin + k] = entry_of(begin + k, length, from->huffval[place], is_dc);
        }
        table->code_end[length] = from->bits[length] > 0 ? (int32_t)code : -1;
    }
    for (uint32_t look = 0; !is_dc && look < LOOK_SIZE; look++)
        table->passing[look] = entry_passing(table, look);
    table->made = true;
}

/* ---- bits ---- */

/* The next bits stand at the top of `bits`; `count` of them are there. */
struct reader {
    const unsigned char *next;
    uint64_t bits;
    unsigned count;
};

static inline __attribute__((always_inline)) void reader_fill(struct reader *r) /* to at least 56 */
{
    uint64_t word;

    memcpy(&word, r->next, sizeof word);
    r->bits |= __builtin_bswap64(word) >> r->count;
    r->next += (63 - r->count) >> 3;
    r->count |= 56;
}

static inline __attribute__((always_inline)) void reader_take(struct reader *r, unsigned bits)
{
    r->bits <<= bits;
    r->count -= bits;
}

/* An entry as those of `one`, without a value, for whatever stands there; 0: no code. */
static __attribute__((noinline)) uint32_t reader_long(const struct table *table, uint64_t bits,
                                                      bool is_dc)
{
    for (unsigned length = LOOK_BITS + 1; length <= CODE_BITS; length++) {
        const int32_t code = (int32_t)(bits >> (64 - length));
        const int32_t place = code + table->symbol_at[length];

        if (code < table->code_end[length] && place >= 0 && place < 256)
            return entry_of(0, length, table->symbols[place], is_dc);
    }
    return 0;
}

/* The value of an entry that has not got it. */
static inline int reader_value(const struct reader *r, uint32_t entry)
{
    const unsigned size = ENTRY_SIZE(entry), length = ENTRY_BITS(entry) - size;

    return size == 0 ? 0 : extend((uint32_t)(r->bits << length >> (64 - size)), size);
}

/* ---- blocks ---- */

static inline bool read_dc(struct reader *r, const struct table *table, int *value)
{
    uint32_t entry;

    reader_fill(r);
    entry = table->one[r->bits >> (64 - LOOK_BITS)];
    if (entry == 0 && (entry = reader_long(table, r->bits, true)) == 0)
        return false;
    *value += entry & ENTRY_WHOLE ? ENTRY_VALUE(entry) : reader_value(r, entry);
    reader_take(r, ENTRY_BITS(entry));
    return *value > -DC_MAX && *value < DC_MAX;
}

/* A symbol whose value is not in the table: at most 31 bits. Returns where the block goes on, or
 * -1; 64 is its end. Inline, as the reader is to stay in registers. */
static inline __attribute__((always_inline)) int
read_other(struct reader *r, const struct table *table, uint32_t entry, int k, JCOEF *block)
{
    if (entry == 0 && (entry = reader_long(table, r->bits, false)) == 0)
        return -1;
    if (!(entry & ENTRY_LAST)) {
        k += (int)ENTRY_ADVANCE(entry);
        if (k > 64)
            return -1;
        if (ENTRY_SIZE(entry) > 0 && block != NULL)
            block[natural[k - 1]] =
                (JCOEF)(entry & ENTRY_WHOLE ? ENTRY_VALUE(entry) : reader_value(r, entry));
    } else {
        k = 64;
    }
    reader_take(r, ENTRY_BITS(entry));
    return k;
}

/* 56 bits are three of LOOK_BITS at most, and after two of them enough for any symbol. */
static bool read_ac(struct reader *reader, const struct table *table, JCOEF *block)
{
    struct reader r = *reader;
    int k = 1;

    while (k < 64) {
        reader_fill(&r);
        for (int i = 0; i < 3 && k < 64; i++) {
            const uint32_t entry = table->one[r.bits >> (64 - LOOK_BITS)];

            if (!(entry & ENTRY_WHOLE)) {
                k = read_other(&r, table, entry, k, block);
                if (k < 0)
                    return false;
                break;
            }
            k += (int)ENTRY_ADVANCE(entry);
            block[natural[k - 1]] = (JCOEF)ENTRY_VALUE(entry);
            reader_take(&r, ENTRY_BITS(entry));
        }
    }
    *reader = r;
    return k == 64;
}

/* The end of a passed block, or a place where an entry may be too much: again by single symbols. */
static int pass_end(struct reader *r, const struct table *table, int k)
{
    while (k >= 0 && k < 64) {
        reader_fill(r);
        k = read_other(r, table, table->one[r->bits >> (64 - LOOK_BITS)], k, NULL);
    }
    return k;
}

/* The same, for a block that nobody wants. An entry is of 27 bits at most, and two of them leave
 * some. */
static bool pass_ac(struct reader *reader, const struct table *table)
{
    struct reader r = *reader;
    int k = 1;

    for (;;) {
        uint32_t entry;

        reader_fill(&r);
        entry = table->passing[r.bits >> (64 - LOOK_BITS)];
        if (k + (int)ENTRY_ADVANCE(entry) >= 64)
            break;
        k += (int)ENTRY_ADVANCE(entry);
        reader_take(&r, ENTRY_BITS(entry));
        entry = table->passing[r.bits >> (64 - LOOK_BITS)];
        if (k + (int)ENTRY_ADVANCE(entry) >= 64)
            break;
        k += (int)ENTRY_ADVANCE(entry);
        reader_take(&r, ENTRY_BITS(entry));
    }
    *reader = r;
    return pass_end(reader, table, k) == 64;
}

/* ---- MCUs ---- */

/* A segment has to end where its codes do, within the last byte. */
static bool next_segment(struct data_huffman *h)
{
    if ((h->at + 7) / 8 != h->ends[h->segment] || h->segment + 1 >= h->segments)
        return false;
    h->at = h->ends[h->segment++] * 8;
    h->restart_left = h->cinfo->restart_interval;
    memset(h->dc_values, 0, sizeof h->dc_values);
    return true;
}

static bool read_mcu(struct data_huffman *h, JBLOCKROW *to)
{
    struct reader r = {.next = h->bytes + h->at / 8};
    const int blocks = h->cinfo->blocks_in_MCU;

    if (h->cinfo->restart_interval > 0 && h->restart_left == 0) {
        if (!next_segment(h))
            return false;
        r.next = h->bytes + h->at / 8;
    }
    reader_fill(&r);
    reader_take(&r, h->at % 8);
    for (int i = 0; i < blocks; i++) {
        int *const dc = &h->dc_values[h->blocks[i].component];

        if (!read_dc(&r, h->blocks[i].dc, dc))
            return false;
        if (to == NULL) {
            if (!pass_ac(&r, h->blocks[i].ac))
                return false;
            continue;
        }
        (*to[i])[0] = (JCOEF)*dc;
        if (!read_ac(&r, h->blocks[i].ac, *to[i]))
            return false;
    }
    h->at = (size_t)(r.next - h->bytes) * 8 - r.count;
    h->restart_left--;
    return h->at <= h->ends[h->segment] * 8;
}

/* In libjpeg's place. It has set all coefficients to 0. */
static boolean decode_mcu(j_decompress_ptr cinfo, JBLOCKROW *to)
{
    struct data_huffman *const h = cinfo->client_data;
    const bool wanted = h->column >= h->first_column && h->column <= h->last_column;

    if (h->failed || h->mcu == h->mcus || !read_mcu(h, wanted ? to : NULL)) {
        h->failed = true;
        return FALSE; /* to libjpeg: no more data for now */
    }
    h->mcu++;
    h->column = h->column + 1 == cinfo->MCUs_per_row ? 0 : h->column + 1;
    return TRUE;
}

/* ---- a picture ---- */

static void add_end(struct data_huffman *h, size_t end)
{
    if (h->segments == h->ends_capacity) {
        h->ends_capacity = h->ends_capacity * 2 + 16;
        h->ends = realloc(h->ends, h->ends_capacity * sizeof *h->ends);
        if (h->ends == NULL)
            abort();
    }
    h->ends[h->segments++] = end;
}

/* Copy the scan without the 0 behind each 0xff; restart markers part it. false: it has no end, or
 * other markers. */
static bool unstuff(struct data_huffman *h, const unsigned char *from, size_t bytes)
{
    const unsigned char *const behind = from + bytes;
    unsigned char *to = h->bytes;

    h->segments = 0;
    while (from + 1 < behind) {
        const unsigned char *const mark = memchr(from, 0xff, (size_t)(behind - from - 1));

        if (mark == NULL)
            return false;
        memcpy(to, from, (size_t)(mark - from));
        to += mark - from;
        from = mark + 2;
        if (mark[1] == 0) {
            *to++ = 0xff;
        } else if (mark[1] == SCAN_END) {
            memset(to, 0, PADDING);
            add_end(h, (size_t)(to - h->bytes));
            return true;
        } else if ((mark[1] & RESTART_MASK) == RESTART && (mark[1] & 7) == h->segments % 8) {
            add_end(h, (size_t)(to - h->bytes));
        } else {
            return false;
        }
    }
    return false;
}

static bool is_for_it(struct jpeg_decompress_struct *cinfo)
{
    return !cinfo->progressive_mode && !cinfo->arith_code && cinfo->data_precision == 8 &&
           !jpeg_has_multiple_scans(cinfo) && cinfo->Ss == 0 && cinfo->Se == 63 && cinfo->Ah == 0 &&
           cinfo->Al == 0;
}

static void set_blocks(struct data_huffman *h, const struct jpeg_decompress_struct *cinfo)
{
    for (int i = 0; i < cinfo->comps_in_scan; i++) {
        const jpeg_component_info *const component = cinfo->cur_comp_info[i];

        table_make(&h->dc[component->dc_tbl_no], cinfo->dc_huff_tbl_ptrs[component->dc_tbl_no],
                   true);
        table_make(&h->ac[component->ac_tbl_no], cinfo->ac_huff_tbl_ptrs[component->ac_tbl_no],
                   false);
    }
    for (int i = 0; i < cinfo->blocks_in_MCU; i++) {
        const int c = cinfo->MCU_membership[i];

        h->blocks[i].component = c;
        h->blocks[i].dc = &h->dc[cinfo->cur_comp_info[c]->dc_tbl_no];
        h->blocks[i].ac = &h->ac[cinfo->cur_comp_info[c]->ac_tbl_no];
    }
}

struct data_huffman *data_huffman_new(void)
{
    struct data_huffman *const h = calloc(1, sizeof *h);

    if (h == NULL)
        abort();
    return h;
}

void data_huffman_free(struct data_huffman *huffman)
{
    if (huffman == NULL)
        return;
    free(huffman->bytes);
    free(huffman->ends);
    free(huffman);
}

bool data_huffman_begin(struct data_huffman *huffman, struct jpeg_decompress_struct *cinfo,
                        JDIMENSION x, JDIMENSION width)
{
    struct data_huffman *const h = huffman;
    const size_t bytes = cinfo->src->bytes_in_buffer;
    JDIMENSION mcu_width; /* in the output */

    if (!is_for_it(cinfo))
        return false;
    if (bytes + PADDING > h->capacity) {
        free(h->bytes);
        h->capacity = (bytes + PADDING) * 5 / 4;
        h->bytes = malloc(h->capacity);
        if (h->bytes == NULL) { /* libjpeg needs none */
            h->capacity = 0;
            return false;
        }
    }
    if (!unstuff(h, cinfo->src->next_input_byte, bytes) ||
        (cinfo->restart_interval == 0 && h->segments > 1))
        return false;
    mcu_width = DCTSIZE * cinfo->scale_num / cinfo->scale_denom *
                (JDIMENSION)(cinfo->comps_in_scan == 1 ? 1 : cinfo->max_h_samp_factor);
    h->cinfo = cinfo;
    h->segment = h->at = 0;
    h->mcu = h->column = 0;
    h->mcus = cinfo->MCUs_per_row * cinfo->MCU_rows_in_scan;
    h->first_column = x / mcu_width;
    h->last_column = (x + width - 1) / mcu_width;
    h->restart_left = cinfo->restart_interval;
    memset(h->dc_values, 0, sizeof h->dc_values);
    h->failed = false;
    set_blocks(h, cinfo);
    cinfo->client_data = h;
    cinfo->entropy->decode_mcu = decode_mcu;
    return true;
}

bool data_huffman_failed(const struct data_huffman *huffman)
{
    return huffman->failed;
}
