#include "trainer/data/set/root.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/uri.h"
#include "trainer/data/index/entry.h"
#include "trainer/data/index/place.h"
#include "trainer/data/index/shard.h"
#include "trainer/data/set/manifest.h"

struct listing {
    size_t folders, pictures, tars;
    bool index;
};

static void count(struct listing *listing, const char *name, bool folder)
{
    if (data_entry_is_hidden(name))
        return;
    if (folder)
        listing->folders++;
    else if (strcmp(name, SHARD_TOP_NAME) == 0)
        listing->index = true;
    else if (data_entry_is_picture(name))
        listing->pictures++;
    else if (data_entry_is_tar(name))
        listing->tars++;
}

static bool settles(const struct listing *listing, bool brief)
{
    return (brief && listing->pictures > 0) || (listing->index && listing->tars > 0);
}

/* The same for a folder of a bucket. */
struct remote {
    struct listing *listing;
    bool brief;
};

static int count_remote(void *context, const struct data_found *found, struct err *err)
{
    const struct remote *remote = context;

    (void)err;
    count(remote->listing, found->name, found->folder);
    return settles(remote->listing, remote->brief);
}

static int list_remote(const char *folder, bool brief, struct listing *listing,
                       const volatile sig_atomic_t *cancel, struct err *err)
{
    struct remote remote = {listing, brief};
    bool any;

    if (data_place_list(folder, false, count_remote, &remote, &any, cancel, err) < 0)
        return -1;
    if (any)
        return 0;
    return err_set(err, ERR_INPUT, "there is nothing below '%s': no key begins with it and a '/'",
                   folder);
}

/* Only whether there is one of each kind matters, and a picture beside no index settles it: `brief`
 * stops there, so that looking into a class of a million pictures takes no time. So do a top index
 * and a tar, whatever else there is: they come first among a bucket's keys. */
static int list(const char *folder, bool brief, struct listing *listing,
                const volatile sig_atomic_t *cancel, struct err *err)
{
    const struct dirent *entry;
    DIR *dir;
    int failure;

    if (data_place_is_remote(folder))
        return list_remote(folder, brief, listing, cancel, err);
    dir = opendir(folder);
    if (dir == NULL)
        return err_set_errno(err, errno == ENOENT || errno == ENOTDIR ? ERR_INPUT : ERR_IO, errno,
                             "cannot read folder '%s'", folder);
    while (errno = 0, (entry = readdir(dir)) != NULL && !settles(listing, brief))
        count(listing, entry->d_name,
              !data_entry_is_hidden(entry->d_name) && data_entry_is_folder(dirfd(dir), entry));
    failure = errno;
    closedir(dir);
    if (failure != 0)
        return err_set_errno(err, ERR_IO, failure, "cannot read folder '%s'", folder);
    return 0;
}

static int is_folder(const char *path, bool *folder, struct err *err)
{
    if (data_place_is_remote(path))
        return data_place_exists(path, folder, err);
    *folder = file_is_folder(path);
    return 0;
}

/* A dataset, that is: not a class, which has pictures, and not an empty folder. */
static int is_dataset(const char *folder, bool *dataset, const volatile sig_atomic_t *cancel,
                      struct err *err)
{
    struct listing listing = {0};

    *dataset = false;
    if (is_folder(folder, dataset, err) < 0)
        return -1;
    if (!*dataset)
        return 0;
    if (list(folder, true, &listing, cancel, err) < 0)
        return -1;
    *dataset = listing.pictures == 0 && (listing.folders > 0 || listing.tars > 0 || listing.index);
    return 0;
}

int data_root_look(const char *root, enum data_root_kind *kind, const volatile sig_atomic_t *cancel,
                   struct err *err)
{
    char *train = uri_join(root, "train");
    struct listing listing = {0};
    bool splits = false;
    int rc = -1;

    if (data_manifest_is(root)) {
        *kind = DATA_ROOT_MANIFEST;
        rc = 0;
        goto out;
    }
    if (list(root, false, &listing, cancel, err) < 0)
        goto out;
    if (listing.folders > 0 && is_dataset(train, &splits, cancel, err) < 0)
        goto out;
    /* An index.json may be somebody's own beside class folders or pictures, and so may a tar: the
     * downloaded original. */
    if (listing.index && (listing.tars > 0 || (listing.folders == 0 && listing.pictures == 0)))
        *kind = DATA_ROOT_SHARDS;
    else if (listing.folders > 0)
        *kind = splits ? DATA_ROOT_SPLITS : DATA_ROOT_CLASSES;
    else if (listing.tars > 0)
        *kind = DATA_ROOT_TARS;
    else
        *kind = listing.pictures > 0 ? DATA_ROOT_PICTURES : DATA_ROOT_EMPTY;
    rc = 0;
out:
    free(train);
    return rc;
}

int data_root_find(const char *root, enum data_split split, char **path, struct err *err)
{
    static const char *const names[DATA_SPLITS][3] = {
        [DATA_SPLIT_TRAIN] = {"train"},
        [DATA_SPLIT_VALIDATION] = {"valid", "validation", "val"},
        [DATA_SPLIT_TEST] = {"test"},
    };
    char *found = NULL;

    for (size_t i = 0; i < 3 && names[split][i] != NULL; i++) {
        char *folder = uri_join(root, names[split][i]);
        bool there = false;
        const int rc = is_folder(folder, &there, err);

        if (!there) {
            free(folder);
            if (rc == 0)
                continue;
            free(found);
            return -1;
        }
        if (found != NULL) {
            err_set(err, ERR_INPUT, "both '%s' and '%s' are there: which one is for validation?",
                    found, folder);
            free(folder);
            free(found);
            return -1;
        }
        found = folder;
    }
    *path = found;
    return 0;
}
