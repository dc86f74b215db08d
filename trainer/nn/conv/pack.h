/*
 * trainer/nn/conv/pack.h -- filters in the panels that the kernels want (kernel/kernels.h), and
 * their gradients back.
 *
 * A convolution, and each residue class of the pixels of its backward to the data, is a product of
 * windows with a matrix of (taps * channels in, channels out). The depth is cut into chunks of
 * channels: within a panel first the chunk, then the tap, then the channel of the chunk, so that
 * one chunk of all taps is one run.
 */
#ifndef NN_CONV_PACK_H
#define NN_CONV_PACK_H

#include <stdbool.h>
#include <stddef.h>

struct nn_conv;

/* The taps of one dimension: the i-th is filter row (or column) first + i * step. */
struct nn_taps {
    int count, first, step;
};

struct nn_pack {
    const struct nn_conv *conv;
    bool back; /* from the K channels to the C, else from C to K */
    struct nn_taps y, x;
    size_t chunk; /* channels in */
    size_t width; /* of a panel */
};

/** Floats of a panel: taps * channels in * width. */
size_t nn_pack_panel_floats(const struct nn_pack *pack);

/** Write panels [panel, panel + panels) to out (panels, nn_pack_panel_floats()); columns beyond the
 * channels are 0. scale: as in nn_conv_forward; NULL with `back`. */
void nn_pack_panels(const struct nn_pack *pack, const float *w, const float *scale, size_t panel,
                    size_t panels, float *out);

/*
 * Gradients come as sums of shape (panels of K, chunks of C, rows, width). In a chunk of n channels
 * tap t of the filter has rows from t * nn_sums_tap(n) on, one for each channel. Either each tap's
 * are rounded up to NN_TILE_ROWS, or, `dense`, the taps lie side by side and only all of them are.
 */
struct nn_sums {
    const struct nn_conv *conv;
    size_t chunk, width;
    bool dense;
};

size_t nn_sums_tap(const struct nn_sums *sums, size_t n);

/** Rows of a chunk of n channels. */
size_t nn_sums_rows(const struct nn_sums *sums, size_t n);

size_t nn_sums_panel_floats(const struct nn_sums *sums);

/** Write one panel's gradients to dw (K, R, R, C). */
void nn_sums_unpack(const struct nn_sums *sums, const float *panel_sums, size_t panel, float *dw);

#endif
