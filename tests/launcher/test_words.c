/* tests/launcher/test_words.c */
#include "launcher/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static void words_push_line_cuts_at_blanks_and_honours_quotes(void **state)
{
    static const struct {
        const char *line;
        const char *want[5];
    } cases[] = {
        {"", {NULL}},
        {"  \t ", {NULL}},
        {"a", {"a"}},
        {" a  bc\td\n", {"a", "bc", "d"}},
        {"'a b' \"c d\"", {"a b", "c d"}},
        {"x'a b'y", {"xa by"}},
        {"''", {""}},
        {"a\\ b \\' \"\\\"\"", {"a b", "'", "\""}},
        {"'\\'", {"\\"}},
        {"$HOME `x` ; *", {"$HOME", "`x`", ";", "*"}},
        {"a\\", {"a\\"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct launch_words words = {0};
        struct err err = {0};
        size_t count = 0;

        assert_int_equal(launch_words_push_line(&words, cases[i].line, &err), 0);
        while (cases[i].want[count] != NULL)
            count++;
        if (words.count != count)
            fail_msg("'%s' gave %zu words", cases[i].line, words.count);
        for (size_t w = 0; w < count; w++)
            assert_string_equal(words.at[w], cases[i].want[w]);
        launch_words_release(&words);
    }
}

static void words_push_line_refuses_an_open_quote_and_pushes_nothing(void **state)
{
    static const char *const lines[] = {"a 'b", "a \"b c", "'", "a \"b\\\""};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct launch_words words = {0};
        struct err err = {0};

        assert_int_equal(launch_words_push_line(&words, lines[i], &err), -1);
        assert_int_equal(err.code, ERR_USAGE);
        assert_int_equal(words.count, 0);
        launch_words_release(&words);
    }
}

static void words_end_with_null_as_execv_wants_it(void **state)
{
    struct launch_words words = {0}, more = {0};

    (void)state;
    launch_words_push_all(&words, &more);
    assert_int_equal(words.count, 0);
    for (int i = 0; i < 20; i++) {
        launch_words_push(&words, "w");
        assert_null(words.at[words.count]);
    }
    launch_words_push(&more, "m");
    launch_words_push_all(&words, &more);
    assert_int_equal(words.count, 21);
    assert_string_equal(words.at[20], "m");
    assert_null(words.at[21]);
    launch_words_release(&words);
    launch_words_release(&more);
    launch_words_release(NULL);
}

static void words_show_is_what_push_line_takes_back(void **state)
{
    static const char *const odd[] = {"train", "--x=a b", "", "it's", "$HOME;`id`*", "\\", "\""};
    struct launch_words words = {0}, back = {0};
    struct buf line = {0};

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        launch_words_push(&words, odd[i]);
    launch_words_show(&words, &line);
    assert_string_equal(buf_text(&line), "train '--x=a b' '' 'it'\\''s' '$HOME;`id`*' '\\' '\"'");
    assert_int_equal(launch_words_push_line(&back, buf_text(&line), NULL), 0);
    assert_int_equal(back.count, words.count);
    for (size_t i = 0; i < words.count; i++)
        assert_string_equal(back.at[i], words.at[i]);
    buf_release(&line);
    launch_words_release(&words);
    launch_words_release(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_push_line_cuts_at_blanks_and_honours_quotes),
        cmocka_unit_test(words_push_line_refuses_an_open_quote_and_pushes_nothing),
        cmocka_unit_test(words_end_with_null_as_execv_wants_it),
        cmocka_unit_test(words_show_is_what_push_line_takes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
