#include "trainer/report/csv.h"

#include "base/buf.h"

void report_csv_text(struct buf *out, const char *text)
{
    buf_append(out, "\"", 1);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"')
            buf_append(out, c, 1);
        buf_append(out, c, 1);
    }
    buf_append(out, "\"", 1);
}
