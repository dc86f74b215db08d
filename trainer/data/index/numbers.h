/*
 * trainer/data/index/numbers.h -- classes that have no names but numbers.
 *
 * Where a source gives each picture a number, class number n is called n in decimal, with zeros in
 * front so that bytewise order of the names is the order of the numbers.
 */
#ifndef DATA_INDEX_NUMBERS_H
#define DATA_INDEX_NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct data_index;

#define DATA_LABEL_MAX 999999

/** A label as people write it: a whole number from 0 to DATA_LABEL_MAX in decimal, also as "7.0" or
 * "7.000000", white space around it. */
bool data_number_read(const char *text, size_t bytes, int32_t *label);

/** Give an index, whose samples have labels, its classes: as many as the largest label needs.
 * Numbers that no sample has are warned of where `whole` (a set that classes are taken from). */
void data_numbers_name(struct data_index *index, bool whole);

/** The names of classes 0 .. classes - 1; heap, each and all. */
char **data_numbers_names(int classes);
/** Whether these are such names. */
bool data_numbers_are(char *const *class_names, int classes);

/** The place of the class that is the same number as `name` ("07" and "7") among classes; -1 where
 * there is none, or name is no number. */
int data_numbers_find(char *const *class_names, int classes, const char *name);

#endif
