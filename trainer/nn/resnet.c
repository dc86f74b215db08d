#include "trainer/nn/resnet.h"

#include <stdio.h>
#include <string.h>

#include "trainer/nn/graph.h"
#include "trainer/nn/tuning.h"

#define STAGES_MAX 4
#define NAME_BYTES 64

struct nn_resnet {
    const char *name;
    bool cifar;             /* 3x3 stem without pooling, three stages */
    bool bottleneck;        /* 1x1, 3x3, 1x1 and four times as many channels behind the block */
    bool projects;          /* shortcut B where a block changes the shape, else A */
    int blocks[STAGES_MAX]; /* of each stage */
};

#define NAMES                                                                                      \
    "resnet18, resnet34, resnet50, resnet101, resnet152, resnet200, resnet20, resnet32, "          \
    "resnet44, resnet56, resnet110, resnet20b, resnet32b, resnet44b, resnet56b, resnet110b"

/* He et al. 2015: table 1, and section 4.2 with n = 3, 5, 7, 9, 18. The 200 layers are those of He
 * et al., "Identity mappings in deep residual networks", ECCV 2016 (arXiv:1603.05027), section 4,
 * in blocks of the first paper's form. */
static const struct nn_resnet resnets[] = {
    {"resnet18", false, false, true, {2, 2, 2, 2}},
    {"resnet34", false, false, true, {3, 4, 6, 3}},
    {"resnet50", false, true, true, {3, 4, 6, 3}},
    {"resnet101", false, true, true, {3, 4, 23, 3}},
    {"resnet152", false, true, true, {3, 8, 36, 3}},
    {"resnet200", false, true, true, {3, 24, 36, 3}},
    {"resnet20", true, false, false, {3, 3, 3}},
    {"resnet32", true, false, false, {5, 5, 5}},
    {"resnet44", true, false, false, {7, 7, 7}},
    {"resnet56", true, false, false, {9, 9, 9}},
    {"resnet110", true, false, false, {18, 18, 18}},
    {"resnet20b", true, false, true, {3, 3, 3}},
    {"resnet32b", true, false, true, {5, 5, 5}},
    {"resnet44b", true, false, true, {7, 7, 7}},
    {"resnet56b", true, false, true, {9, 9, 9}},
    {"resnet110b", true, false, true, {18, 18, 18}},
};

const struct nn_resnet *nn_resnet_find(const char *name)
{
    for (size_t i = 0; i < sizeof(resnets) / sizeof(*resnets); i++)
        if (strcmp(resnets[i].name, name) == 0)
            return &resnets[i];
    return NULL;
}

const char *nn_resnet_names(void)
{
    return NAMES;
}

int nn_resnet_image_size(const struct nn_resnet *resnet)
{
    return resnet->cifar ? 32 : 224;
}

/* The last stage then sees one pixel, or four in a CIFAR network. */
int nn_resnet_image_size_min(const struct nn_resnet *resnet)
{
    return resnet->cifar ? 8 : 32;
}

int nn_resnet_stages(const struct nn_resnet *resnet)
{
    int stages = 0;

    while (stages < STAGES_MAX && resnet->blocks[stages] > 0)
        stages++;
    return stages;
}

static int stem_planes(const struct nn_resnet *resnet)
{
    return resnet->cifar ? 16 : 64;
}

int nn_resnet_features(const struct nn_resnet *resnet)
{
    const int planes = stem_planes(resnet) << (nn_resnet_stages(resnet) - 1);

    return resnet->bottleneck ? 4 * planes : planes;
}

/* A block under construction: names are "<prefix>.conv1" and so on. */
struct block {
    const char *prefix;
    int planes, stride;
};

static int block_conv(struct nn_graph *graph, const struct block *block, int number, int in, int k,
                      int r, int stride)
{
    char conv[NAME_BYTES], norm[NAME_BYTES];

    snprintf(conv, sizeof(conv), "%s.conv%d", block->prefix, number);
    snprintf(norm, sizeof(norm), "%s.bn%d", block->prefix, number);
    return nn_graph_conv(graph, conv, norm, in, k, r, stride);
}

static bool changes_shape(const struct nn_graph *graph, const struct block *block, int in, int k)
{
    return block->stride != 1 || graph->values[in].c != k;
}

/* What goes around a block that changes its input's shape: a convolution of its own. */
static int projection(struct nn_graph *graph, const struct block *block, int in, int k)
{
    char conv[NAME_BYTES], norm[NAME_BYTES];

    snprintf(conv, sizeof(conv), "%s.downsample.0", block->prefix);
    snprintf(norm, sizeof(norm), "%s.downsample.1", block->prefix);
    return nn_graph_conv(graph, conv, norm, in, k, 1, block->stride);
}

/* A shortcut without parameters stands between the convolutions: behind the first, so that in
 * backward that one finishes the gradient of the block's input; before the last, which in
 * evaluation finishes the block. */
static int add_basic(struct nn_graph *graph, const struct nn_resnet *resnet,
                     const struct block *block, int in)
{
    const int k = block->planes;
    const bool changes = changes_shape(graph, block, in, k);
    int x = block_conv(graph, block, 1, in, k, 3, block->stride), around = in;

    if (changes && !resnet->projects)
        around = nn_graph_shortcut(graph, in, k);
    x = block_conv(graph, block, 2, x, k, 3, 1);
    if (changes && resnet->projects)
        around = projection(graph, block, in, k);
    return nn_graph_join(graph, x, around);
}

static int add_bottleneck(struct nn_graph *graph, const struct block *block, int in)
{
    const int k = 4 * block->planes;
    int x = block_conv(graph, block, 1, in, block->planes, 1, 1), around = in;

    x = block_conv(graph, block, 2, x, block->planes, 3, block->stride);
    x = block_conv(graph, block, 3, x, k, 1, 1);
    if (changes_shape(graph, block, in, k))
        around = projection(graph, block, in, k);
    return nn_graph_join(graph, x, around);
}

static int add_stage(struct nn_graph *graph, const struct nn_resnet *resnet, int stage, int x)
{
    for (int i = 0; i < resnet->blocks[stage]; i++) {
        char prefix[NAME_BYTES / 2];
        const struct block block = {
            .prefix = prefix,
            .planes = stem_planes(resnet) << stage,
            .stride = stage > 0 && i == 0 ? 2 : 1,
        };

        snprintf(prefix, sizeof(prefix), "layer%d.%d", stage + 1, i);
        x = resnet->bottleneck ? add_bottleneck(graph, &block, x)
                               : add_basic(graph, resnet, &block, x);
    }
    return x;
}

/* Names as PyTorch gives them where fc is replaced by Sequential(Linear, ReLU, ..., Linear). */
static void add_head(struct nn_graph *graph, const struct nn_tuning *tuning, int x, int classes)
{
    char name[NAME_BYTES] = "fc";

    for (int i = 0; i < tuning->hidden_count; i++) {
        snprintf(name, sizeof(name), "fc.%d", 2 * i);
        x = nn_graph_linear(graph, name, x, tuning->hidden[i], true);
        snprintf(name, sizeof(name), "fc.%d", 2 * i + 2);
    }
    nn_graph_linear(graph, name, x, classes, false);
}

void nn_resnet_build(const struct nn_resnet *resnet, int image_size, int classes,
                     const struct nn_tuning *tuning, struct nn_graph *graph)
{
    int x = 0;

    nn_graph_init(graph, 3, image_size, image_size);
    x = nn_graph_conv(graph, "conv1", "bn1", x, stem_planes(resnet), resnet->cifar ? 3 : 7,
                      resnet->cifar ? 1 : 2);
    /* A CIFAR network's first block reads the stem's ReLU twice. */
    x = resnet->cifar ? nn_graph_join(graph, x, NN_NONE) : nn_graph_maxpool(graph, x);
    for (int stage = 0; stage < nn_resnet_stages(resnet); stage++) {
        if (tuning->frozen == stage + 1)
            nn_graph_freeze(graph, tuning->frozen_batch);
        x = add_stage(graph, resnet, stage, x);
    }
    x = nn_graph_avgpool(graph, x);
    if (tuning->frozen == NN_FROZEN_BODY)
        nn_graph_freeze(graph, tuning->frozen_batch);
    add_head(graph, tuning, x, classes);
    nn_graph_finish(graph);
}
