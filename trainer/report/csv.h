/*
 * trainer/report/csv.h -- a text as a field of CSV (RFC 4180).
 */
#ifndef REPORT_CSV_H
#define REPORT_CSV_H

struct buf;

/** Append the text in quotes; quotes inside are doubled. */
void report_csv_text(struct buf *out, const char *text);

#endif
