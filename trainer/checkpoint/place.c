/* trainer/checkpoint/place.c -- see place.h. */
#include "trainer/checkpoint/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uri.h"

int place_open(struct place *place, const char *text, struct err *err)
{
    struct uri uri = {0};

    if (uri_parse(&uri, text, err) < 0)
        return -1;
    *place = (struct place){.kind = &place_folder};
    if (uri.scheme == URI_FILE) {
        place->text = uri.path;
        return 0;
    }
    place->kind = &place_bucket;
    place->text = strdup(text);
    place->bucket = uri.bucket;
    place->prefix = uri.path[0] == '\0' ? strdup("") : uri_join(uri.path, "");
    if (place->text == NULL || place->prefix == NULL)
        abort();
    free(uri.path);
    return 0;
}

void place_release(struct place *place)
{
    if (place == NULL)
        return;
    free(place->text);
    free(place->bucket);
    free(place->prefix);
    *place = (struct place){0};
}

bool place_is_s3(const char *text)
{
    struct uri uri = {0};
    const bool s3 = uri_parse(&uri, text, NULL) == 0 && uri.scheme == URI_S3;

    uri_release(&uri);
    return s3;
}

char *place_path(const struct place *place, const char *name)
{
    return uri_join(place->text, name);
}

int place_list(const struct place *place, const char *beginning, place_visit *visit, void *context,
               struct err *err)
{
    return place->kind->list(place, beginning, visit, context, err);
}

int place_get(const struct place *place, const char *name, int *fd, struct err *err)
{
    return place->kind->get(place, name, fd, err);
}

int place_begin(const struct place *place, const char *name, struct file_new *file, struct err *err)
{
    return place->kind->begin(place, name, file, err);
}

int place_commit(const struct place *place, const char *name, struct file_new *file,
                 enum place_mode mode, struct err *err)
{
    return place->kind->commit(place, name, file, mode, err);
}

int place_remove(const struct place *place, const char *name, struct err *err)
{
    return place->kind->remove(place, name, err);
}

int place_check_writable(const struct place *place, struct err *err)
{
    return place->kind->check_writable(place, err);
}
