/*
 * base/text.h -- text on the heap, text from the environment, and numbers in text.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A copy on the heap, the caller frees; NULL of NULL. Ends the process where there is no memory.
 */
char *text_copy(const char *text);
/** The same of the first `bytes` bytes, or up to a NUL among them. Not of NULL. */
char *text_copy_bytes(const char *text, size_t bytes);

/** A variable of the environment; NULL where it is unset or empty. */
const char *text_variable(const char *name);

/** A decimal number: digits and nothing else, at most UINT64_MAX. False, and *number as it was,
 * where text (not NULL) is none. */
bool text_number(const char *text, uint64_t *number);

#endif
