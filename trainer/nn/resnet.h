/*
 * trainer/nn/resnet.h -- builds the graph of a residual network by its name.
 */
#ifndef NN_RESNET_H
#define NN_RESNET_H

struct nn_graph;
struct nn_resnet;
struct nn_tuning;

/** The network called `name`, or NULL. Static storage. */
const struct nn_resnet *nn_resnet_find(const char *name);
/** All names, comma-separated. */
const char *nn_resnet_names(void);

/** The image size that it is usually trained at, and the smallest that it can shrink. */
int nn_resnet_image_size(const struct nn_resnet *resnet);
int nn_resnet_image_size_min(const struct nn_resnet *resnet);

/** Stages of blocks: layer1, layer2, ...; and the channels behind the last. */
int nn_resnet_stages(const struct nn_resnet *resnet);
int nn_resnet_features(const struct nn_resnet *resnet);

/** Build it; the caller releases the graph. */
void nn_resnet_build(const struct nn_resnet *resnet, int image_size, int classes,
                     const struct nn_tuning *tuning, struct nn_graph *graph);

#endif
