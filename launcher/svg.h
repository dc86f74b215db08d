/*
 * launcher/svg.h -- a drawing as SVG 1.1 (https://www.w3.org/TR/SVG11/): what a plot needs of it.
 *
 * Everything is appended to a buf. Coordinates are pixels from the upper left corner. How a thing
 * looks is its class: the rules of it are given to launch_svg_open once.
 */
#ifndef LAUNCH_SVG_H
#define LAUNCH_SVG_H

#include <stddef.h>

struct buf;

struct launch_svg_at {
    double x, y;
};

/** Light background. title: what who cannot see it is told; style: CSS, ours. */
void launch_svg_open(struct buf *svg, int width, int height, const char *title, const char *style);
void launch_svg_close(struct buf *svg);

void launch_svg_line(struct buf *svg, const char *class, struct launch_svg_at from,
                     struct launch_svg_at to);
/** A line through `count` points. */
void launch_svg_path(struct buf *svg, const char *class, const struct launch_svg_at *at,
                     size_t count);
void launch_svg_circle(struct buf *svg, const char *class, struct launch_svg_at at, double radius);
void launch_svg_square(struct buf *svg, const char *class, struct launch_svg_at at, double half);

/** Any text: markup in it is escaped, and what is not printable ASCII becomes '?'. degrees turns it
 * about its place; it begins there unless the class says text-anchor. */
void launch_svg_text(struct buf *svg, const char *class, struct launch_svg_at at, int degrees,
                     const char *text);

/** What follows until the end belongs together; a mouse held over it is shown the text. */
void launch_svg_group(struct buf *svg, const char *text);
void launch_svg_group_end(struct buf *svg);

#endif
