#include "trainer/nn/resnet.h"

#include <stdio.h>
#include <string.h>

#include "trainer/nn/graph.h"

#define STAGES_MAX 4
#define NAME_BYTES 64

struct nn_resnet {
    const char *name;
    bool cifar;             /* 3x3 stem without pooling, three stages, shortcut A */
    bool bottleneck;        /* 1x1, 3x3, 1x1 and four times as many channels behind the block */
    int blocks[STAGES_MAX]; /* of each stage */
};

#define NAMES                                                                                      \
    "resnet18, resnet34, resnet50, resnet101, resnet152, resnet20, resnet32, resnet44, resnet56, " \
    "resnet110"

/* He et al. 2015: table 1, and section 4.2 with n = 3, 5, 7, 9, 18. */
static const struct nn_resnet resnets[] = {
    {"resnet18", false, false, {2, 2, 2, 2}},  {"resnet34", false, false, {3, 4, 6, 3}},
    {"resnet50", false, true, {3, 4, 6, 3}},   {"resnet101", false, true, {3, 4, 23, 3}},
    {"resnet152", false, true, {3, 8, 36, 3}}, {"resnet20", true, false, {3, 3, 3}},
    {"resnet32", true, false, {5, 5, 5}},      {"resnet44", true, false, {7, 7, 7}},
    {"resnet56", true, false, {9, 9, 9}},      {"resnet110", true, false, {18, 18, 18}},
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

/* A block under construction: names are "<prefix>.conv1" and so on. */
struct block {
    const char *prefix;
    int planes, stride;
};

static int block_conv(struct nn_graph *graph, const struct block *block, int number, int in, int k,
                      int r, int stride)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%s.conv%d", block->prefix, number);
    return nn_graph_conv(graph, name, in, k, r, stride);
}

static int block_bn(struct nn_graph *graph, const struct block *block, int number, int in,
                    int residual, bool relu)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%s.bn%d", block->prefix, number);
    return nn_graph_batchnorm(graph, name, in, residual, relu);
}

/*
 * The block's end. Addition and ReLU belong to its last batch norm: that of the last convolution
 * or, with a projection (downsample), that of the projection. So the list of nodes is in the order
 * of the state_dict.
 */
static int finish_block(struct nn_graph *graph, const struct nn_resnet *resnet,
                        const struct block *block, int number, int in, int last_conv)
{
    const int k = graph->values[last_conv].c;
    char name[NAME_BYTES];
    int residual = in, main_path;

    if (block->stride == 1 && graph->values[in].c == k)
        return block_bn(graph, block, number, last_conv, in, true);
    if (resnet->cifar) {
        residual = nn_graph_shortcut(graph, in, k);
        return block_bn(graph, block, number, last_conv, residual, true);
    }
    main_path = block_bn(graph, block, number, last_conv, NN_NONE, false);
    snprintf(name, sizeof(name), "%s.downsample.0", block->prefix);
    residual = nn_graph_conv(graph, name, in, k, 1, block->stride);
    snprintf(name, sizeof(name), "%s.downsample.1", block->prefix);
    return nn_graph_batchnorm(graph, name, residual, main_path, true);
}

static int add_basic(struct nn_graph *graph, const struct nn_resnet *resnet,
                     const struct block *block, int in)
{
    int x = block_conv(graph, block, 1, in, block->planes, 3, block->stride);

    x = block_bn(graph, block, 1, x, NN_NONE, true);
    x = block_conv(graph, block, 2, x, block->planes, 3, 1);
    return finish_block(graph, resnet, block, 2, in, x);
}

static int add_bottleneck(struct nn_graph *graph, const struct nn_resnet *resnet,
                          const struct block *block, int in)
{
    int x = block_conv(graph, block, 1, in, block->planes, 1, 1);

    x = block_bn(graph, block, 1, x, NN_NONE, true);
    x = block_conv(graph, block, 2, x, block->planes, 3, block->stride);
    x = block_bn(graph, block, 2, x, NN_NONE, true);
    x = block_conv(graph, block, 3, x, 4 * block->planes, 1, 1);
    return finish_block(graph, resnet, block, 3, in, x);
}

static int add_stages(struct nn_graph *graph, const struct nn_resnet *resnet, int x, int planes)
{
    for (int stage = 0; stage < STAGES_MAX; stage++, planes *= 2) {
        for (int i = 0; i < resnet->blocks[stage]; i++) {
            char prefix[NAME_BYTES / 2];
            const struct block block = {
                .prefix = prefix,
                .planes = planes,
                .stride = stage > 0 && i == 0 ? 2 : 1,
            };

            snprintf(prefix, sizeof(prefix), "layer%d.%d", stage + 1, i);
            x = resnet->bottleneck ? add_bottleneck(graph, resnet, &block, x)
                                   : add_basic(graph, resnet, &block, x);
        }
    }
    return x;
}

void nn_resnet_build(const struct nn_resnet *resnet, int image_size, int classes,
                     struct nn_graph *graph)
{
    const int planes = resnet->cifar ? 16 : 64;
    int x = 0;

    nn_graph_init(graph, 3, image_size, image_size);
    x = nn_graph_conv(graph, "conv1", x, planes, resnet->cifar ? 3 : 7, resnet->cifar ? 1 : 2);
    x = nn_graph_batchnorm(graph, "bn1", x, NN_NONE, true);
    if (!resnet->cifar)
        x = nn_graph_maxpool(graph, x);
    x = add_stages(graph, resnet, x, planes);
    x = nn_graph_avgpool(graph, x);
    nn_graph_linear(graph, "fc", x, classes);
    nn_graph_finish(graph);
}
