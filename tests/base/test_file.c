/* tests/base/test_file.c -- each case works in a folder of its own. */
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"

static char folder[64], path[128];

static int folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/convoy-file-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int folder_remove(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int entries(void)
{
    DIR *dir = opendir(folder);
    int count = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

static void file_read_appends_what_file_replace_wrote(void **state)
{
    static const size_t sizes[] = {0, 1, 65536, 300001};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *data = malloc(sizes[i] + 1);
        struct buf got = {0};

        for (size_t b = 0; b < sizes[i]; b++)
            data[b] = (unsigned char)(b * 7);
        assert_int_equal(file_replace(in_folder("f"), data, sizes[i], NULL), 0);
        buf_append(&got, "head", 4);
        assert_int_equal(file_read(path, sizes[i], &got, NULL), 0);
        assert_int_equal(got.bytes, 4 + sizes[i]);
        assert_memory_equal(got.data, "head", 4);
        assert_memory_equal(got.data + 4, data, sizes[i]);
        buf_release(&got);
        free(data);
    }
    assert_int_equal(entries(), 1);
}

static void file_read_says_what_is_wrong(void **state)
{
    struct buf got = {0};
    struct err err = {0};

    (void)state;
    buf_append(&got, "kept", 4);
    assert_int_equal(file_read(in_folder("none"), 10, &got, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, path));
    assert_int_equal(file_replace(in_folder("f"), "12345", 5, &err), 0);
    assert_int_equal(file_read(path, 4, &got, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "longer than 4 bytes"));
    assert_int_equal(file_read(folder, 4, &got, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(got.bytes, 4);
    buf_release(&got);
}

static void file_make_folder_makes_all_that_is_missing(void **state)
{
    char *cwd = getcwd(NULL, 0);

    (void)state;
    assert_int_equal(file_make_folder(in_folder("a/b//c/"), NULL), 0);
    assert_true(file_is_folder(in_folder("a/b/c")));
    assert_int_equal(file_make_folder(path, NULL), 0);
    assert_int_equal(file_make_folder("/", NULL), 0);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(file_make_folder("x/y", NULL), 0);
    assert_true(file_is_folder(in_folder("x/y")));
    assert_int_equal(chdir(cwd), 0);
    free(cwd);
}

static void file_make_folder_names_the_part_that_cannot_be_made(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(file_replace(in_folder("plain"), "", 0, NULL), 0);
    assert_int_equal(file_make_folder(in_folder("plain/a/b"), &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/plain'"));
    assert_true(file_exists(in_folder("plain")));
    assert_false(file_is_folder(path));
}

static void file_check_writable_leaves_nothing_behind(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(file_check_writable(folder, &err), 0);
    assert_int_equal(entries(), 0);
    assert_int_equal(file_check_writable(in_folder("new/one"), &err), 0);
    assert_int_equal(rmdir(path), 0);
}

static void file_check_writable_refuses_what_takes_no_files(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(file_check_writable("/proc/self", &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "/proc/self"));
}

static void file_new_appears_whole_at_commit_and_not_before(void **state)
{
    struct file_new file = {.fd = -1};
    struct buf got = {0};
    char want[64];

    (void)state;
    assert_int_equal(file_replace(in_folder("f"), "old", 3, NULL), 0);
    assert_int_equal(file_new_open(&file, path, NULL), 0);
    assert_int_equal(file_new_write(&file, "ne", 2, NULL), 0);
    assert_int_equal(file_new_write(&file, "w!", 2, NULL), 0);
    assert_int_equal(entries(), 2);
    assert_int_equal(file_read(path, 10, &got, NULL), 0);
    assert_string_equal(buf_text(&got), "old");
    snprintf(want, sizeof want, "/.f.tmp-%ld.sagemaker-ignore", (long)getpid());
    assert_non_null(strstr(file.temp, want));
    assert_int_equal(file_new_commit(&file, NULL), 0);
    file_new_release(&file);
    got.bytes = 0;
    assert_int_equal(file_read(path, 10, &got, NULL), 0);
    assert_string_equal(buf_text(&got), "new!");
    assert_int_equal(entries(), 1);
    buf_release(&got);
}

static void file_new_takes_every_name_that_a_folder_takes(void **state)
{
    char a[256], b[256];
    struct file_new file = {.fd = -1}, other = {.fd = -1};
    struct err err = {0};
    const int folder_fd = open(folder, O_RDONLY | O_DIRECTORY);

    (void)state;
    memset(a, 'n', 255);
    a[255] = '\0';
    strcpy(b, a);
    b[254] = 'm'; /* both at once: they must not share a temporary name */
    assert_int_equal(fchdir(folder_fd), 0);
    assert_int_equal(file_new_open(&file, a, &err), 0);
    assert_int_equal(file_new_open(&other, b, &err), 0);
    assert_int_equal(entries(), 2);
    assert_int_equal(file_new_commit(&file, &err), 0);
    assert_int_equal(file_new_commit(&other, &err), 0);
    assert_true(file_exists(a) && file_exists(b));
    assert_int_equal(entries(), 2);
    file_new_release(&file);
    file_new_release(&other);
    close(folder_fd);
    assert_int_equal(chdir("/"), 0);
}

static void file_new_release_without_commit_removes_it(void **state)
{
    struct file_new file = {.fd = -1};
    struct file_new zero = {0};

    (void)state;
    assert_int_equal(file_new_open(&file, in_folder("f"), NULL), 0);
    assert_int_equal(file_new_write(&file, "x", 1, NULL), 0);
    file_new_release(&file);
    assert_int_equal(entries(), 0);
    file_new_release(&file);
    file_new_release(&zero);
    file_new_release(NULL);
}

static void file_new_open_names_the_file_when_the_folder_is_missing(void **state)
{
    struct file_new file = {.fd = -1};
    struct err err = {0};

    (void)state;
    assert_int_equal(file_new_open(&file, in_folder("none/f"), &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, path));
    file_new_release(&file);
}

/* /dev/full takes an open and fails every write as a full disk does. */
static void file_new_write_reports_a_full_disk(void **state)
{
    struct file_new file = {.fd = -1};
    struct err err = {0};

    (void)state;
    assert_int_equal(file_new_open(&file, in_folder("f"), NULL), 0);
    close(file.fd);
    file.fd = open("/dev/full", O_WRONLY);
    assert_int_equal(file_new_write(&file, "x", 1, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "No space left on device"));
    file_new_release(&file);
    assert_int_equal(entries(), 0);
}

static void file_new_commit_fails_when_a_folder_is_in_the_way(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(file_make_folder(in_folder("f"), NULL), 0);
    assert_int_equal(file_replace(path, "x", 1, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(entries(), 1);
}

static void file_new_in_memory_holds_what_is_written_and_leaves_nothing(void **state)
{
    struct file_new file = {.fd = -1};
    char text[8] = "";

    (void)state;
    assert_int_equal(file_new_open_memory(&file, in_folder("f"), NULL), 0);
    assert_int_equal(file_new_write(&file, "abc", 3, NULL), 0);
    assert_int_equal(file_new_write(&file, "de", 2, NULL), 0);
    assert_int_equal(pread(file.fd, text, sizeof text, 0), 5);
    assert_memory_equal(text, "abcde", 5);
    const int fd = file.fd;

    file_new_release(&file);
    assert_int_equal(close(fd), -1); /* it was closed */
    file_new_release(&file);
    assert_int_equal(entries(), 0);
}

static void nameless_file_is_never_seen(void **state)
{
    struct file_new file;
    struct err err = {0};
    char text[8] = "", link[64], name[4096] = "";
    const int there = open(in_folder("."), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(file_new_open_nameless(&file, in_folder("f"), NULL), 0);
    assert_int_equal(entries(), 0);
    snprintf(link, sizeof link, "/proc/self/fd/%d", file.fd);
    assert_true(readlink(link, name, sizeof name - 1) > 0);
    if (there >= 0) { /* the file system can: it never had a name */
        assert_null(strstr(name, "/f."));
        close(there);
    }
    assert_int_equal(file_new_write(&file, "abcde", 5, NULL), 0);
    assert_int_equal(pread(file.fd, text, sizeof text, 0), 5);
    assert_memory_equal(text, "abcde", 5);
    file_new_release(&file);
    assert_int_equal(entries(), 0);
    assert_int_equal(file_new_open_nameless(&file, in_folder("nowhere/f"), &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_non_null(strstr(err.msg, "nowhere/f"));
}

static void file_temp_root_is_what_the_environment_says(void **state)
{
    const char *kept = getenv("TMPDIR");
    char *copy = kept == NULL ? NULL : strdup(kept);

    (void)state;
    setenv("TMPDIR", "/else/where", 1);
    assert_string_equal(file_temp_root(), "/else/where");
    setenv("TMPDIR", "", 1);
    assert_string_equal(file_temp_root(), "/tmp");
    unsetenv("TMPDIR");
    assert_string_equal(file_temp_root(), "/tmp");
    if (copy != NULL)
        setenv("TMPDIR", copy, 1);
    free(copy);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(file_read_appends_what_file_replace_wrote),
        CASE(file_read_says_what_is_wrong),
        CASE(file_make_folder_makes_all_that_is_missing),
        CASE(file_make_folder_names_the_part_that_cannot_be_made),
        CASE(file_check_writable_leaves_nothing_behind),
        CASE(file_check_writable_refuses_what_takes_no_files),
        CASE(file_new_appears_whole_at_commit_and_not_before),
        CASE(file_new_takes_every_name_that_a_folder_takes),
        CASE(file_new_release_without_commit_removes_it),
        CASE(file_new_open_names_the_file_when_the_folder_is_missing),
        CASE(file_new_write_reports_a_full_disk),
        CASE(file_new_commit_fails_when_a_folder_is_in_the_way),
        CASE(file_new_in_memory_holds_what_is_written_and_leaves_nothing),
        CASE(nameless_file_is_never_seen),
        CASE(file_temp_root_is_what_the_environment_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
