#include "launcher/words.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

void launch_words_release(struct launch_words *words)
{
    if (words == NULL)
        return;
    for (size_t i = 0; i < words->count; i++)
        free(words->at[i]);
    free(words->at);
    *words = (struct launch_words){0};
}

void launch_words_push(struct launch_words *words, const char *word)
{
    char **at = realloc(words->at, (words->count + 2) * sizeof *at);

    if (at == NULL)
        abort();
    words->at = at;
    at[words->count] = strdup(word);
    if (at[words->count] == NULL)
        abort();
    at[++words->count] = NULL;
}

void launch_words_push_integer(struct launch_words *words, const char *option, int64_t value)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, value);
    launch_words_push(words, option);
    launch_words_push(words, text);
}

void launch_words_push_all(struct launch_words *words, const struct launch_words *more)
{
    assert(words != more);
    for (size_t i = 0; i < more->count; i++)
        launch_words_push(words, more->at[i]);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* One word from *line into `word`, quotes taken off; *line then stands behind it. False: a quote is
 * open. */
static bool next_word(const char **line, struct buf *word)
{
    const char *at = *line;
    char quote = '\0';

    for (; *at != '\0' && (quote != '\0' || !is_blank(*at)); at++) {
        if (quote == '\0' && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == quote)
            quote = '\0';
        else if (*at == '\\' && quote != '\'' && at[1] != '\0')
            buf_append(word, ++at, 1);
        else
            buf_append(word, at, 1);
    }
    *line = at;
    return quote == '\0';
}

int launch_words_push_line(struct launch_words *words, const char *line, struct err *err)
{
    struct launch_words found = {0};
    const char *at = line;
    int rc = 0;

    for (at += strspn(at, " \t\n"); rc == 0 && *at != '\0'; at += strspn(at, " \t\n")) {
        struct buf word = {0};

        if (next_word(&at, &word))
            launch_words_push(&found, buf_text(&word));
        else
            rc = err_set(err, ERR_USAGE, "a quote is not closed in '%s'", line);
        buf_release(&word);
    }
    if (rc == 0)
        launch_words_push_all(words, &found);
    launch_words_release(&found);
    return rc;
}

/* Bare where no shell finds a meaning in it, else in '...', which keeps all but a ' itself. */
static void show_word(const char *word, struct buf *line)
{
    const size_t bare = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789-_=+,./:@%");

    if (bare > 0 && word[bare] == '\0') {
        buf_printf(line, "%s", word);
        return;
    }
    buf_printf(line, "'");
    for (const char *c = word; *c != '\0'; c++) {
        if (*c == '\'')
            buf_printf(line, "'\\''");
        else
            buf_append(line, c, 1);
    }
    buf_printf(line, "'");
}

void launch_words_show(const struct launch_words *words, struct buf *line)
{
    for (size_t i = 0; i < words->count; i++) {
        if (i > 0)
            buf_printf(line, " ");
        show_word(words->at[i], line);
    }
}
