/*
 * trainer/report/tables.h -- how an evaluation went for each class: confusion.csv and classes.csv,
 * and the classes that are known least.
 *
 * CSV as in RFC 4180, but lines end with "\n": a header line, names of classes in quotes.
 */
#ifndef REPORT_TABLES_H
#define REPORT_TABLES_H

#include <stdint.h>

struct buf;
struct err;

struct report_tables {
    int classes;
    char *const *names;       /* (classes) */
    const int64_t *pictures;  /* (classes) of this label */
    const int64_t *correct;   /* (classes) whose first guess is the label */
    const int64_t *correct5;  /* (classes) whose label is among the first five guesses */
    const int64_t *guessed;   /* (classes) of any label, first guess is this class */
    const int64_t *confusion; /* (classes, classes) by label, then first guess; NULL: not counted */
};

/** FOLDER/classes.csv and, where it was counted, FOLDER/confusion.csv; where it was not, one that
 * is there is removed. Makes the folder. Each appears whole. ERR_IO. */
int report_tables_write(const struct report_tables *tables, const char *folder, struct err *err);

/** Up to `lines` lines, each ended by a newline, of the classes with the lowest accuracy (below 1),
 * the worst first: accuracy, pictures, name, and the class that it was taken for most often. */
void report_tables_worst(const struct report_tables *tables, int lines, struct buf *out);

#endif
