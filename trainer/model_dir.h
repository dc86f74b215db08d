/*
 * trainer/model_dir.h -- what a finished run leaves, and whoever uses the model reads:
 * model.safetensors, class_labels.json, config.json.
 *
 * config.json says how the network is built and what it is fed: "format" ("convoy-model-1"),
 * "model", "classes", "head", and what data/transform_text.h describes; "hyperparameters" tell how
 * it was trained. class_labels.json is the list of class names by label.
 */
#ifndef TRAIN_MODEL_DIR_H
#define TRAIN_MODEL_DIR_H

#include "base/buf.h"
#include "base/digest.h"
#include "trainer/data/picture/transform.h"
#include "trainer/nn/tuning.h"
#include "trainer/weights/weights.h"

struct data_index;
struct err;
struct nn_model;
struct train_options;

/** Write the three files to options->model_dir, a folder or s3://BUCKET/PREFIX, each appearing
 * whole, the model last; what is there of those names is replaced. `hex` receives the SHA-256 of
 * the model file's data section. Nothing in them tells time, host or path: equal runs leave equal
 * files. ERR_IO, ERR_MEMORY; in S3 ERR_INPUT, ERR_NET. */
int train_model_dir_write(const struct train_options *options, struct nn_model *model,
                          const struct data_index *classes, uint64_t steps,
                          char hex[DIGEST_HEX_CHARS], struct err *err);

/* The files' content. */
struct train_model_files {
    struct buf config, labels, weights;
};

/* A model that was left, as its files describe it. */
struct train_model_dir {
    char *where; /* as it was named */
    char *name;  /* of the network: "resnet18" */
    int classes;
    char **class_names;               /* (classes) by label */
    struct nn_tuning tuning;          /* the head; nothing is frozen */
    struct data_transform evaluation; /* of pictures */
    struct buf config, labels;        /* the files, as train_model_dir_parse wants them */
    struct weights weights;           /* empty after train_model_dir_parse */
};

/**
 * Read a model and check what can be checked without building its network.
 *
 * where  a folder, an s3:// prefix, or a tar (.tar, .tar.gz, .tgz) of such a folder, local or in
 *        S3; or a folder that has no config.json but a model.tar.gz, as SageMaker hands it on.
 *
 * Of a config.json that has no "head" (it is older) the head is what its hyperparameters say, else
 * linear; without "eval_transform" it is that of the network's size. Blocks. ERR_INPUT names the
 * file, and the key that is missing or of no use; ERR_IO, ERR_NET, ERR_MEMORY. Release accepts
 * all-zero.
 */
int train_model_dir_open(struct train_model_dir *dir, const char *where, struct err *err);
void train_model_dir_release(struct train_model_dir *dir);

/** The same for a place that may be none: 1; 0 where there is no config.json: *dir is all zero, and
 * err says what there is instead; -1. */
int train_model_dir_find(struct train_model_dir *dir, const char *where, struct err *err);

/** The same from config and labels alone, which another rank has read: they are copied. */
int train_model_dir_parse(struct train_model_dir *dir, const char *where, const struct buf *config,
                          const struct buf *labels, struct err *err);

/* Where a model is to be used. */
struct train_model_use {
    int batch;         /* images that go through it together */
    int batches_ahead; /* that are decoded before they do */
    int threads;       /* computing ones */
    int ranks_of_host; /* that have the same model, each its own */
};

/** Build the network, its weights undefined; the caller frees it. NULL: ERR_INPUT (there is no such
 * network), ERR_USAGE (more memory than this host has: a smaller --batch needs less), ERR_MEMORY.
 */
struct nn_model *train_model_dir_network(const struct train_model_dir *dir,
                                         const struct train_model_use *use, struct err *err);

/** Copy the weights into the network and let go of them. ERR_INPUT names the tensor that is missing
 * or of another shape; then the network's values are undefined. */
int train_model_dir_load(struct train_model_dir *dir, struct nn_model *model, struct err *err);

/** model_tar.c: the three files out of a tar, compressed or not, wherever in it they lie; none is
 * taken that this host has no memory for. Release `files` in any case. 1; 0: there is no
 * config.json, as err says; -1: ERR_INPUT names `path`: no tar, damaged, or without another of
 * them. */
int train_model_tar_read(const struct buf *tar, const char *path, struct train_model_files *files,
                         struct err *err);
void train_model_files_release(struct train_model_files *files);

#define TRAIN_MODEL_CONFIG_BYTES_MAX ((size_t)1 << 20)
#define TRAIN_MODEL_LABELS_BYTES_MAX ((size_t)16 << 20)

#endif
