/*
 * launcher/words.h -- a growing list of words, ended by NULL as execv wants it.
 *
 * All zero is an empty list. Out of memory aborts.
 */
#ifndef LAUNCH_WORDS_H
#define LAUNCH_WORDS_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

struct launch_words {
    char **at; /* (count + 1), the last one NULL; NULL while nothing was ever pushed */
    size_t count;
};

/** Accepts all-zero and NULL. */
void launch_words_release(struct launch_words *words);

/** Copies the word. */
void launch_words_push(struct launch_words *words, const char *word);
void launch_words_push_all(struct launch_words *words, const struct launch_words *more);

/** An option and its number: two words. */
void launch_words_push_integer(struct launch_words *words, const char *option, int64_t value);

/** Push the words of one line: cut at blanks; '...' and "..." keep blanks, and \ keeps the next
 * character outside of '...'. Nothing is expanded. ERR_USAGE, and nothing pushed, when a quote is
 * not closed. */
int launch_words_push_line(struct launch_words *words, const char *line, struct err *err);

/** Append the words as one line that a shell cuts into the same words. */
void launch_words_show(const struct launch_words *words, struct buf *line);

#endif
