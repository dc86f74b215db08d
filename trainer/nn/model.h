/*
 * trainer/nn/model.h -- a residual network: its parameters, and one micro-batch through it and
 * back.
 *
 * Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016
 * (arXiv:1512.03385). resnet18/34/50/101/152 have torchvision's shapes, names and strides ("v1.5":
 * the 3x3 of a bottleneck carries the stride), and resnet200 is a longer one; resnet20/32/44/56/110
 * are the paper's CIFAR networks (section 4.2, shortcut A without parameters), resnet20b/... the
 * same with projections (section 3.3, shortcut B), with names in the same manner (conv1, bn1,
 * layer1.0.conv1, layer2.0.downsample.0, ..., fc).
 *
 * Pictures are (N, H, W, C), C = 3. A model is used by one caller at a time; inside it computes
 * with OpenMP threads. The bits of every result depend on the inputs and the shapes, never on the
 * number of threads.
 */
#ifndef NN_MODEL_H
#define NN_MODEL_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/nn/tuning.h"

struct err;
struct nn_model;

struct nn_model_options {
    const char *name;    /* "resnet18", ... */
    int classes;         /* >= 2 */
    int image_size;      /* pixels: the pictures are square */
    int micro_batch_max; /* images that a call may bring; buffers are sized for it once */
    bool training; /* false: only nn_model_evaluate will be called, and little memory is taken */
    struct nn_tuning tuning; /* all zero: every layer is trained, and the head is "fc" */
};

/** The names nn_model_new knows, comma-separated, for messages. */
const char *nn_model_names(void);
/** The image size a model is usually trained at (224 or 32), or 0 for an unknown name. */
int nn_model_default_image_size(const char *name);
/** Classes of the pictures that a model was made for: CIFAR-10's 10 or ImageNet's 1000. */
int nn_model_default_classes(const char *name);

/** ERR_USAGE: an unknown name, a size that the network cannot shrink, more images than it takes at
 * once. */
int nn_model_check(const struct nn_model_options *options, struct err *err);

/** Build the network with all buffers; the caller frees it. Weights are zero until nn_model_init or
 * a load. NULL: ERR_USAGE as nn_model_check, or ERR_MEMORY (naming micro-batch and size). */
struct nn_model *nn_model_new(const struct nn_model_options *options, struct err *err);
void nn_model_free(struct nn_model *model);

/* What a model takes, in bytes. */
struct nn_model_memory {
    size_t weights;  /* the weight and running vectors */
    size_t trained;  /* the weights that are trained: what an optimizer's vector takes */
    size_t gradient; /* of one gradient with its statistics; the caller has as many as it needs */
    size_t values;   /* between layers, and their gradients */
    size_t working;  /* of the layers: packed filters, tiles, sums */
    size_t working_of_thread; /* the same, for each thread */
    size_t features;          /* of one image, as nn_model_feature_count; the caller keeps them */
};

/** What nn_model_new would take for these options, without taking it. ERR_USAGE as there. */
int nn_model_memory(const struct nn_model_options *options, struct nn_model_memory *memory,
                    struct err *err);

/** torchvision's initialisation: convolutions normal with variance 2 / (K R S) ("kaiming", fan
 * out), batch norm 1 and 0, the fully connected layer uniform within 1/sqrt(inputs); drawn by
 * Philox from seed in the order of torchvision's state_dict and of each tensor's elements there. */
void nn_model_init(struct nn_model *model, uint64_t seed);

/** The same for one tensor, by its number in nn_model_tensors(): each draws from a stream of its
 * own, which its number names. */
void nn_model_init_tensor(struct nn_model *model, size_t number, uint64_t seed);

/* --- parameters ---
 * One flat vector holds all trained values, another all running statistics. Inside the weight
 * vector the tensors stand in the order in which backward finishes their gradients: the fully
 * connected layer first, conv1 last. So the gradients that are ready at any moment are a prefix,
 * and a bucket is a plain range.
 */

enum nn_tensor_kind {
    NN_TENSOR_CONV,    /* (K, R, S, C) here, (K, C, R, S) in files */
    NN_TENSOR_LINEAR,  /* (K, C) */
    NN_TENSOR_VECTOR,  /* a bias, or batch norm's weight or bias */
    NN_TENSOR_RUNNING, /* batch norm's running_mean or running_var: lives in the running vector */
};

struct nn_tensor {
    const char *name; /* as torchvision's state_dict names it; the model's */
    enum nn_tensor_kind kind;
    int dims;       /* 1, 2 or 4 */
    size_t size[4]; /* in the order of files: K, C, R, S */
    size_t offset;  /* floats from the start of its vector */
    size_t count;   /* floats */
};

/** All tensors in the order of torchvision's state_dict (num_batches_tracked, an integer, is not
 * among them). */
size_t nn_model_tensor_count(const struct nn_model *model);
const struct nn_tensor *nn_model_tensors(const struct nn_model *model);

/** The weight vector and its length; the running vector (per batch norm: C means, then C variances)
 * and its length. The caller may change the values between calls; those of frozen layers only
 * before the first micro-batch, or with nn_model_frozen_changed(). */
float *nn_model_weights(struct nn_model *model);
size_t nn_model_weight_count(const struct nn_model *model);
float *nn_model_running(struct nn_model *model);
size_t nn_model_running_count(const struct nn_model *model);

/** Say that frozen weights or their running statistics were changed: what was made of them at the
 * first micro-batch is made anew at the next one. */
void nn_model_frozen_changed(struct nn_model *model);

/** How much of the weight vector is trained: frozen layers come last there. Gradients, and what an
 * optimizer keeps, are vectors of so many floats. */
size_t nn_model_trained_count(const struct nn_model *model);

/** Running statistics that training changes: the last so many of the running vector. */
size_t nn_model_measured_count(const struct nn_model *model);

/** Floats of an image's features: what the frozen layers give to the trained ones. 0 where nothing
 * is frozen, or where frozen batch norms take the batch's mean and variance, so that an image has
 * no features of its own. */
size_t nn_model_feature_count(const struct nn_model *model);

/** Copy one tensor between a vector laid out like the model's (weights, gradients, momentum,
 * running) and the order of files. `file` holds tensor->count floats. */
void nn_tensor_to_file_order(const struct nn_tensor *tensor, const float *vector, float *file);
void nn_tensor_from_file_order(const struct nn_tensor *tensor, const float *file, float *vector);

/* --- one micro-batch --- */

/* What a pass over some images found. Sums of integers, so that they are equal on any number of
 * ranks. */
struct nn_score {
    int64_t images;
    int64_t correct;  /* the largest logit is the label's (the first of equals) */
    int64_t correct5; /* the label is among the five largest */
    int64_t
        loss; /* sum of cross entropies, in units of 1 / NN_LOSS_UNIT, each rounded to nearest */
    int64_t nonfinite; /* images whose loss is NaN or infinite; they add nothing to loss */
};
#define NN_LOSS_UNIT 16777216.0 /* 2^24: 10^9 images of loss 20 fit */

/** Add b to a. */
void nn_score_add(struct nn_score *a, const struct nn_score *b);

struct nn_step {
    const float *x;        /* (n, H, W, 3), normalised; not read where features are given */
    const float *features; /* (n, feature count), as nn_model_features gives them, or NULL: the
                              same bits as from x */
    const int32_t *labels; /* (n), each in [0, classes) */
    int n;                 /* 1 .. micro_batch_max */
    float scale; /* what each image's loss is multiplied with before backward: 1 / images of the
                    step */
    float label_smoothing;       /* [0, 1): as torch.nn.CrossEntropyLoss defines it */
    const double *class_weights; /* (classes), as there; NULL: all 1 */
    float *statistics; /* (measured count) out: this micro-batch's means and unbiased variances, in
                          the places of the running vector's end (variance 0 where a channel saw one
                          value) */
    float *gradient;   /* (trained count) out: overwritten, not added to */
    /* Called by the computing thread in forward, before a trained layer reads its weights: those
     * from `begin` on have to be there. Returns 0; anything else cancels. May be NULL. */
    int (*need)(void *context, size_t begin);
    /* Called by the computing thread, between layers, as gradients become final: gradient[0 ..
     * floats) is done. The last call has floats = the trained count. May be NULL; must not block
     * for long. */
    void (*ready)(void *context, size_t floats);
    void *context;
    const volatile sig_atomic_t *cancel; /* may be NULL; non-zero: give up at the next layer */
};

/** Forward in training mode, loss, backward. Adds to *score. The running vector is not touched:
 * averaging statistics over micro-batches and applying momentum is the loop's. Allocates nothing.
 *  Returns 0; or 1 when cancelled (gradient, statistics and score are then worthless). */
int nn_model_train(struct nn_model *model, const struct nn_step *step, struct nn_score *score);

/** Its two halves, one after the other with the same step: forward and the loss, then backward.
 * Forward writes the statistics, backward the gradient; only backward reads step->gradient. */
int nn_model_forward(struct nn_model *model, const struct nn_step *step, struct nn_score *score);
int nn_model_backward(struct nn_model *model, const struct nn_step *step);

/** Apply one step's averaged statistics (measured count): running += momentum * (statistics -
 * running). */
void nn_model_update_running(struct nn_model *model, const float *statistics, float momentum);
#define NN_RUNNING_MOMENTUM 0.1f /* PyTorch's default */

/** Forward with running statistics. Adds to *score if labels is not NULL; copies (n, classes)
 * logits if logits is not NULL. An image's logits do not depend on n, on its place, or on the other
 * images. Returns 0, or 1 when cancelled. */
int nn_model_evaluate(struct nn_model *model, const float *x, const int32_t *labels, int n,
                      float *logits, const volatile sig_atomic_t *cancel, struct nn_score *score);

/** What the frozen layers make of pictures x: (n, feature count), each image's by itself. Returns
 * 0, or 1 when cancelled. */
int nn_model_features(struct nn_model *model, const float *x, int n, float *features,
                      const volatile sig_atomic_t *cancel);
/** nn_model_evaluate from there on: the same bits. */
int nn_model_evaluate_features(struct nn_model *model, const float *features, const int32_t *labels,
                               int n, float *logits, const volatile sig_atomic_t *cancel,
                               struct nn_score *score);

#endif
