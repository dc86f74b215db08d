#include "launcher/svg.h"

#include <string.h>

#include "base/buf.h"

static void escape(struct buf *svg, const char *text)
{
    static const struct {
        char character;
        const char *entity;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};

    for (; *text != '\0'; text++) {
        const char *entity = NULL;

        for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++)
            entity = *text == entities[i].character ? entities[i].entity : entity;
        if (entity != NULL)
            buf_append(svg, entity, strlen(entity));
        else
            buf_append(svg, *text >= ' ' && *text <= '~' ? text : "?", 1);
    }
}

void launch_svg_open(struct buf *svg, int width, int height, const char *title, const char *style)
{
    buf_printf(svg,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" "
               "height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>",
               width, height, width, height);
    escape(svg, title);
    buf_printf(svg,
               "</title>\n<style>%s</style>\n"
               "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
               style, width, height);
}

void launch_svg_close(struct buf *svg)
{
    buf_printf(svg, "</svg>\n");
}

void launch_svg_line(struct buf *svg, const char *class, struct launch_svg_at from,
                     struct launch_svg_at to)
{
    buf_printf(svg, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class,
               from.x, from.y, to.x, to.y);
}

void launch_svg_path(struct buf *svg, const char *class, const struct launch_svg_at *at,
                     size_t count)
{
    buf_printf(svg, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < count; i++)
        buf_printf(svg, "%s%.1f,%.1f", i == 0 ? "" : " ", at[i].x, at[i].y);
    buf_printf(svg, "\"/>\n");
}

void launch_svg_circle(struct buf *svg, const char *class, struct launch_svg_at at, double radius)
{
    buf_printf(svg, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>\n", class, at.x,
               at.y, radius);
}

void launch_svg_square(struct buf *svg, const char *class, struct launch_svg_at at, double half)
{
    buf_printf(svg, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
               class, at.x - half, at.y - half, 2 * half, 2 * half);
}

void launch_svg_text(struct buf *svg, const char *class, struct launch_svg_at at, int degrees,
                     const char *text)
{
    buf_printf(svg, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\"", class, at.x, at.y);
    if (degrees != 0)
        buf_printf(svg, " transform=\"rotate(%d %.1f %.1f)\"", degrees, at.x, at.y);
    buf_printf(svg, ">");
    escape(svg, text);
    buf_printf(svg, "</text>\n");
}

void launch_svg_group(struct buf *svg, const char *text)
{
    buf_printf(svg, "<g><title>");
    escape(svg, text);
    buf_printf(svg, "</title>\n");
}

void launch_svg_group_end(struct buf *svg)
{
    buf_printf(svg, "</g>\n");
}
