/* tests/data/test_root.c -- telling a folder of splits from one of classes and one of shards. */
#include "trainer/data/set/root.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "tree.h"

static enum data_root_kind look(const char *name)
{
    enum data_root_kind kind;
    struct err err = {0};

    assert_int_equal(data_root_look(tree_path(name), &kind, NULL, &err), 0);
    return kind;
}

static void root_tells_each_kind(void **state)
{
    (void)state;
    tree_class("splits/train", "cat", 1);
    tree_class("classes", "cat", 1);
    tree_write("classes/original.tar", "x", 1);
    tree_class("site", "cat", 1);
    tree_write("site/index.json", "{}", 2);
    tree_write("shards/index.json", "{}", 2);
    tree_write("shards/shard-000000.tar", "x", 1);
    tree_write("packed/train/index.json", "{}", 2);
    tree_write("packed/train/shard-000000.tar", "x", 1);
    tree_write("tars/a.tar", "x", 1);
    tree_picture("pictures/1.JPG", 0);
    tree_picture("gallery/1.jpg", 0);
    tree_write("gallery/index.json", "{}", 2);
    tree_write("index/index.json", "{}", 2);
    tree_write("empty/.hidden", "x", 1);
    assert_int_equal(look("splits"), DATA_ROOT_SPLITS);
    assert_int_equal(look("packed"), DATA_ROOT_SPLITS);
    assert_int_equal(look("classes"), DATA_ROOT_CLASSES);
    assert_int_equal(look("site"), DATA_ROOT_CLASSES);
    assert_int_equal(look("shards"), DATA_ROOT_SHARDS);
    assert_int_equal(look("gallery"), DATA_ROOT_PICTURES);
    assert_int_equal(look("index"), DATA_ROOT_SHARDS);
    assert_int_equal(look("tars"), DATA_ROOT_TARS);
    assert_int_equal(look("pictures"), DATA_ROOT_PICTURES);
    assert_int_equal(look("empty"), DATA_ROOT_EMPTY);
}

static void root_takes_train_for_a_class_when_it_holds_pictures(void **state)
{
    char name[64];

    (void)state;
    tree_class("vehicles", "train", 1);
    for (int i = 0; i < 20; i++) { /* many, so that one is seen before the picture */
        snprintf(name, sizeof name, "vehicles/train/old%d/1.jpg", i);
        tree_picture(name, 0);
    }
    tree_class("vehicles", "bus", 3);
    assert_int_equal(look("vehicles"), DATA_ROOT_CLASSES);
}

static void root_names_the_folder_when_it_is_missing(void **state)
{
    enum data_root_kind kind;
    struct err err = {0};

    (void)state;
    assert_int_equal(data_root_look(tree_path("nowhere"), &kind, NULL, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
    assert_non_null(strstr(err.msg, "nowhere"));
}

static void root_finds_each_split_by_its_names(void **state)
{
    static const char *const names[] = {"valid", "validation", "val"};
    struct err err = {0};
    char root[32], folder[32];
    char *path;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        snprintf(root, sizeof root, "root%zu", i);
        snprintf(folder, sizeof folder, "root%zu/%s", i, names[i]);
        tree_class(folder, "cat", 1);
        assert_int_equal(data_root_find(tree_path(root), DATA_SPLIT_VALIDATION, &path, &err), 0);
        assert_string_equal(path, tree_path(folder));
        free(path);
        assert_int_equal(data_root_find(tree_path(root), DATA_SPLIT_TEST, &path, &err), 0);
        assert_null(path);
    }
}

static void root_refuses_two_validation_folders(void **state)
{
    struct err err = {0};
    char *path;

    (void)state;
    tree_class("root/val", "cat", 1);
    tree_class("root/valid", "cat", 1);
    assert_int_equal(data_root_find(tree_path("root"), DATA_SPLIT_VALIDATION, &path, &err), -1);
    assert_int_equal(err.code, ERR_INPUT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(root_tells_each_kind),
        CASE(root_takes_train_for_a_class_when_it_holds_pictures),
        CASE(root_names_the_folder_when_it_is_missing),
        CASE(root_finds_each_split_by_its_names),
        CASE(root_refuses_two_validation_folders),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
