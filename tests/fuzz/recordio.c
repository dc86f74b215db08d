/* tests/fuzz/recordio.c -- any bytes as a RecordIO file. Read, looked at and joined, from memory
 * and as a stream, a record is the same; written again it is read again. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "fuzz.h"
#include "tests/data/stranger.h"
#include "trainer/data/foreign/bytes.h"
#include "trainer/data/foreign/recordio.h"
#include "trainer/data/index/numbers.h"

static void check_again(const struct buf *record)
{
    struct buf file = {0}, again = {0};
    struct data_bytes memory;
    struct err err = {0};
    uint64_t at = 0;

    stranger_record(&file, record->bytes > 0 ? record->data : (const unsigned char *)"",
                    record->bytes);
    data_bytes_open_memory(&memory, file.data, file.bytes, "again.rec");
    fuzz_must(data_record_next(&memory, &at, &again, &err) == 1 && at == file.bytes);
    fuzz_must_equal(again.data, again.bytes, record->data, record->bytes);
    data_bytes_close(&memory);
    buf_release(&file);
    buf_release(&again);
}

static void check_record(const uint8_t *data, const struct buf *record,
                         const struct data_record *looked)
{
    struct buf raw = {0};
    int32_t label = -1;
    size_t picture;

    fuzz_must(looked->bytes == record->bytes && looked->head_bytes <= record->bytes);
    fuzz_must_equal(looked->head, looked->head_bytes, record->data, looked->head_bytes);
    buf_append(&raw, data + looked->at, looked->raw_bytes);
    fuzz_must(data_record_join(raw.data, raw.bytes) == (int64_t)record->bytes);
    fuzz_must_equal(raw.data, record->bytes, record->data, record->bytes);
    if (data_record_image(looked->head, looked->head_bytes, looked->bytes, &label, &picture) ==
        NULL)
        fuzz_must(picture < record->bytes && label >= 0 && label <= DATA_LABEL_MAX);
    buf_release(&raw);
    check_again(record);
}

/* All of the input as one record, with nothing behind it. */
static void check_join(const uint8_t *data, size_t bytes)
{
    unsigned char *const exact = malloc(bytes);

    if (exact == NULL)
        abort();
    memcpy(exact, data, bytes);
    fuzz_must(data_record_join(exact, bytes) < (int64_t)bytes);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct data_bytes memory, stream;
    struct buf record = {0}, streamed = {0};
    uint64_t next_at = 0, look_at = 0, stream_at = 0;
    int rc;

    if (bytes > 0)
        check_join(data, bytes);
    data_bytes_open_memory(&memory, data, bytes, "x.rec");
    data_bytes_open_stream(&stream, fuzz_file(data, bytes), "x.rec", NULL);
    do {
        struct data_record looked;
        struct err err = {0}, look_err = {0}, stream_err = {0};

        rc = data_record_next(&memory, &next_at, &record, &err);
        fuzz_must(data_record_look(&memory, &look_at, &looked, &look_err) == rc);
        fuzz_must(data_record_next(&stream, &stream_at, &streamed, &stream_err) == rc);
        fuzz_must_say(rc, &err, FUZZ_INPUT);
        fuzz_must_say(rc, &look_err, FUZZ_INPUT);
        fuzz_must_say(rc, &stream_err, FUZZ_INPUT);
        if (rc != 1)
            break;
        fuzz_must(look_at == next_at && stream_at == next_at && next_at <= bytes);
        fuzz_must_equal(streamed.data, streamed.bytes, record.data, record.bytes);
        check_record(data, &record, &looked);
    } while (true);
    data_bytes_close(&memory);
    data_bytes_close(&stream);
    buf_release(&record);
    buf_release(&streamed);
    return 0;
}
