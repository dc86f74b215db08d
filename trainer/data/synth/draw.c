/*
 * trainer/data/synth/draw.c -- shapes, textures and what disturbs them.
 *
 * A picture spans 0..1 in both directions, whatever its pixels. It is sampled several times a pixel
 * and averaged, so that edges are smooth; then light and noise are laid over it.
 */
#include "trainer/data/synth/draw.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/philox.h"

enum shape {
    SHAPE_DISC,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_STAR,
    SHAPE_RING,
    SHAPE_CROSS,
    SHAPE_BAR,
    SHAPE_CRESCENT,
    SHAPE_ARROW,
    SHAPE_HEART,
    SHAPE_HEXAGON,
    SHAPE_ELL,
    SHAPE_DROP,
    SHAPE_DOME,
    SHAPES,
};

enum texture {
    TEXTURE_STRIPES,
    TEXTURE_CHECKS,
    TEXTURE_DOTS,
    TEXTURE_SOLID,
    TEXTURE_TARGET,
    TEXTURE_GRID,
    TEXTURE_ZIGZAG,
    TEXTURE_RAYS,
    TEXTURE_HALVES,
    TEXTURE_BRICKS,
    TEXTURES,
};

enum mark { MARK_NONE, MARK_RIM, MARK_CORE, MARKS };

static const char *const shape_names[SHAPES] = {"disc",    "square", "triangle", "star",  "ring",
                                                "cross",   "bar",    "crescent", "arrow", "heart",
                                                "hexagon", "ell",    "drop",     "dome"};
static const char *const texture_names[TEXTURES] = {
    "stripes", "checks", "dots", "solid", "target", "grid", "zigzag", "rays", "halves", "bricks"};
static const char *const mark_names[MARKS] = {"", "-rim", "-core"};

#define SCALES 3
static const char *const scale_names[SCALES] = {"", "-fine", "-wide"};
/* A texture's period in radii of the shape: 7 to 10 pixels where the picture has 32. */
static const float scale_periods[SCALES] = {0.7f, 0.4f, 1.1f};

#define PI       3.14159265f
#define TURN_MAX 0.6f  /* radians, to either side */
#define RIM_FROM 0.74f /* the rim lies outside the shape shrunk to this */
#define CORE_TO  0.45f

/* What a class is made of. */
struct recipe {
    enum shape shape;
    enum texture texture;
    int scale;
    enum mark mark;
};

static bool has_scale(enum texture texture)
{
    return texture != TEXTURE_SOLID && texture != TEXTURE_HALVES;
}

/* What has no scale comes once, not SCALES times. Shape and texture step together, so that the
 * first SHAPES classes differ in both. */
static bool recipe_find(int class, struct recipe *recipe)
{
    int number = 0;

    for (int mark = 0; mark < MARKS; mark++)
        for (int scale = 0; scale < SCALES; scale++)
            for (int shift = 0; shift < TEXTURES; shift++)
                for (int shape = 0; shape < SHAPES; shape++) {
                    const int texture = (shape + shift) % TEXTURES;

                    if (scale > 0 && !has_scale((enum texture)texture))
                        continue;
                    if (number++ != class)
                        continue;
                    *recipe = (struct recipe){(enum shape)shape, (enum texture)texture, scale,
                                              (enum mark)mark};
                    return true;
                }
    return false;
}

int data_draw_classes(void)
{
    return MARKS * (SCALES * SHAPES * TEXTURES - 2 * (SCALES - 1) * SHAPES);
}

void data_draw_name(int class, char *name, size_t bytes)
{
    struct recipe recipe = {0};
    const bool found = recipe_find(class, &recipe);

    assert(found);
    (void)found;
    snprintf(name, bytes, "%s-%s%s%s", shape_names[recipe.shape], texture_names[recipe.texture],
             scale_names[recipe.scale], mark_names[recipe.mark]);
}

/* ---- shapes: (u, v) in radii from the middle ---- */

static float square(float x)
{
    return x * x;
}

/* A polygon whose corners lie on two circles in turn, as a star's. */
static bool inside_star(float u, float v, int points, float inner)
{
    const float sector = 2 * PI / (float)points;
    float angle = fmodf(atan2f(v, u) + 2 * PI, sector), r = hypotf(u, v);
    float edge_x, edge_y;

    if (angle > sector / 2)
        angle = sector - angle;
    /* the line from the outer corner (1, 0) to the inner one */
    edge_x = inner * cosf(sector / 2) - 1;
    edge_y = inner * sinf(sector / 2);
    return edge_x * r * sinf(angle) - edge_y * (r * cosf(angle) - 1) > 0;
}

/* A regular polygon is the star whose inner corners lie in the middle of its edges. */
static bool inside_polygon(float u, float v, int corners)
{
    return inside_star(u, v, corners, cosf(PI / (float)corners));
}

static bool inside_box(float u, float v, float left, float right, float top, float bottom)
{
    return u > left && u < right && v > top && v < bottom;
}

static bool inside_arrow(float u, float v)
{
    return inside_box(u, v, -1, 0.1f, -0.28f, 0.28f) ||
           (u >= 0 && u < 1 && fabsf(v) < 0.85f * (1 - u));
}

static bool inside_heart(float u, float v)
{
    const float lobes = fabsf(u);

    if (square(lobes - 0.45f) + square(v + 0.35f) < square(0.52f))
        return true;
    return v > -0.3f && v < 1 && lobes < 0.93f * (1 - (v + 0.2f) / 1.2f);
}

static bool inside_drop(float u, float v)
{
    if (square(u) + square(v - 0.3f) < square(0.65f))
        return true;
    return v < 0.1f && v > -1 && fabsf(u) < 0.56f * (v + 1);
}

static bool inside(enum shape shape, float u, float v)
{
    const float rr = u * u + v * v;

    switch (shape) {
    case SHAPE_DISC:
        return rr < square(0.9f);
    case SHAPE_SQUARE:
        return inside_box(u, v, -0.78f, 0.78f, -0.78f, 0.78f);
    case SHAPE_TRIANGLE:
        return inside_polygon(u, v, 3);
    case SHAPE_STAR:
        return inside_star(u, v, 5, 0.42f);
    case SHAPE_RING:
        return rr < square(0.95f) && rr > square(0.48f);
    case SHAPE_CROSS:
        return (fabsf(u) < 0.32f && fabsf(v) < 0.95f) || (fabsf(v) < 0.32f && fabsf(u) < 0.95f);
    case SHAPE_BAR:
        return fabsf(u) < 1.1f && fabsf(v) < 0.36f;
    case SHAPE_CRESCENT:
        return rr < square(0.95f) && square(u - 0.5f) + square(v) > square(0.72f);
    case SHAPE_ARROW:
        return inside_arrow(u, v);
    case SHAPE_HEART:
        return inside_heart(u, v);
    case SHAPE_HEXAGON:
        return inside_polygon(u, v, 6);
    case SHAPE_ELL:
        return inside_box(u, v, -0.7f, -0.1f, -0.95f, 0.85f) ||
               inside_box(u, v, -0.7f, 0.8f, 0.25f, 0.85f);
    case SHAPE_DROP:
        return inside_drop(u, v);
    case SHAPE_DOME:
        return square(u) + square(v - 0.45f) < square(0.98f) && v < 0.45f;
    case SHAPES:
        break;
    }
    return false;
}

/* ---- textures: whether (u, v) has the second colour; x and y count periods ---- */

static float fraction(float x)
{
    return x - floorf(x);
}

static bool textured(enum texture texture, float u, float v, float period)
{
    const float x = u / period, y = v / period;

    switch (texture) {
    case TEXTURE_STRIPES:
        return fraction(x) < 0.5f;
    case TEXTURE_CHECKS:
        return (fraction(x) < 0.5f) != (fraction(y) < 0.5f);
    case TEXTURE_DOTS:
        return square(fraction(x) - 0.5f) + square(fraction(y) - 0.5f) < square(0.32f);
    case TEXTURE_SOLID:
        return false;
    case TEXTURE_TARGET:
        return fraction(hypotf(x, y) + 0.25f) < 0.5f;
    case TEXTURE_GRID:
        return fraction(x) < 0.3f || fraction(y) < 0.3f;
    case TEXTURE_ZIGZAG:
        return fraction(x + fabsf(2 * fraction(y / 2) - 1)) < 0.5f;
    case TEXTURE_RAYS: /* two to six pairs of sectors */
        return fraction(atan2f(v, u) / (2 * PI) * rintf(2.2f / period)) < 0.5f;
    case TEXTURE_HALVES:
        return u < 0;
    case TEXTURE_BRICKS:
        return fraction(2 * y) < 0.25f || fraction(x + (fraction(y) < 0.5f ? 0 : 0.5f)) < 0.16f;
    case TEXTURES:
        break;
    }
    return false;
}

/* ---- a scene ---- */

struct colour {
    float rgb[3];
};

#define CLUTTER_MAX 6

/* A blob (an ellipse) or a line (a long thin one), in the picture's coordinates. */
struct clutter {
    float x, y, cosine, sine;
    float per_long, per_short; /* 1 / half its length and width */
    bool front;                /* lies over the shape */
    struct colour colour;
};

struct scene {
    struct recipe recipe;
    float x, y, radius, cosine, sine; /* of the shape: place, size, turn */
    float stretch_u, stretch_v;       /* v may be mirrored */
    struct colour ground[2];          /* at the two ends of ... */
    float ground_x, ground_y;         /* ... this direction */
    struct colour fill[2], mark;
    struct clutter clutter[CLUTTER_MAX];
    int clutter_count;
    float light_x, light_y; /* brightness rises by this from edge to edge */
    float noise;            /* standard deviation */
};

static float between(struct philox *random, float low, float high)
{
    return low + (high - low) * philox_uniform(random);
}

static float brightness(struct colour colour)
{
    return 0.299f * colour.rgb[0] + 0.587f * colour.rgb[1] + 0.114f * colour.rgb[2];
}

/* A colour whose brightness differs from the others': JPEG keeps brightness at full resolution,
 * colour at half. */
static struct colour colour_unlike(struct philox *random, const struct colour *others, int count,
                                   float contrast)
{
    struct colour colour = {0};
    bool alike = true;

    for (int tries = 0; alike && tries < 100; tries++) {
        for (int c = 0; c < 3; c++)
            colour.rgb[c] = between(random, 0.03f, 0.97f);
        alike = false;
        for (int i = 0; i < count; i++)
            alike |= fabsf(brightness(colour) - brightness(others[i])) < contrast;
    }
    return colour;
}

static void scene_set_colours(struct scene *scene, struct philox *random)
{
    const float angle = between(random, 0, 2 * PI);
    struct colour taken[3];

    scene->ground[0] = colour_unlike(random, NULL, 0, 0);
    scene->ground[1] = scene->ground[0];
    for (int c = 0; c < 3; c++)
        scene->ground[1].rgb[c] += between(random, -0.15f, 0.15f);
    scene->ground_x = cosf(angle);
    scene->ground_y = sinf(angle);
    taken[0] = scene->ground[0];
    taken[1] = scene->fill[0] = colour_unlike(random, taken, 1, 0.3f);
    taken[2] = scene->fill[1] = colour_unlike(random, taken, 2, 0.3f);
    scene->mark = colour_unlike(random, taken, 3, 0.12f);
}

static void scene_add_clutter(struct scene *scene, struct philox *random)
{
    scene->clutter_count = 2 + (int)philox_below(random, CLUTTER_MAX - 1);
    for (int i = 0; i < scene->clutter_count; i++) {
        struct clutter *clutter = &scene->clutter[i];
        const float angle = between(random, 0, PI);
        const bool line = philox_below(random, 2) == 0;

        clutter->x = between(random, 0, 1);
        clutter->y = between(random, 0, 1);
        clutter->cosine = cosf(angle);
        clutter->sine = sinf(angle);
        clutter->per_long =
            1 / (line ? between(random, 0.1f, 0.5f) : between(random, 0.03f, 0.08f));
        clutter->per_short =
            1 / (line ? between(random, 0.008f, 0.02f) : between(random, 0.03f, 0.08f));
        clutter->front = i == 0 && line;
        clutter->colour = colour_unlike(random, NULL, 0, 0);
    }
}

static void scene_make(struct scene *scene, const struct recipe *recipe, struct philox *random)
{
    const float angle = between(random, -TURN_MAX, TURN_MAX), light = between(random, 0, 2 * PI);
    const float strength = between(random, 0, 0.3f);

    *scene = (struct scene){.recipe = *recipe};
    scene->radius = between(random, 0.34f, 0.47f);
    scene->x = between(random, 0.95f * scene->radius, 1 - 0.95f * scene->radius);
    scene->y = between(random, 0.95f * scene->radius, 1 - 0.95f * scene->radius);
    scene->cosine = cosf(angle);
    scene->sine = sinf(angle);
    scene->stretch_u = between(random, 0.88f, 1.12f);
    scene->stretch_v = between(random, 0.88f, 1.12f) * (philox_below(random, 2) == 0 ? 1 : -1);
    scene->light_x = strength * cosf(light);
    scene->light_y = strength * sinf(light);
    scene->noise = between(random, 0.01f, 0.04f);
    scene_set_colours(scene, random);
    scene_add_clutter(scene, random);
}

static bool clutter_covers(const struct clutter *clutter, float x, float y)
{
    const float dx = x - clutter->x, dy = y - clutter->y;
    const float along = dx * clutter->cosine + dy * clutter->sine;
    const float across = dy * clutter->cosine - dx * clutter->sine;

    return square(along * clutter->per_long) + square(across * clutter->per_short) < 1;
}

/* The clutter in front of the shape or behind it; NULL where there is none. */
static const struct colour *scene_clutter(const struct scene *scene, float x, float y, bool front)
{
    for (int i = scene->clutter_count; i-- > 0;)
        if (scene->clutter[i].front == front && clutter_covers(&scene->clutter[i], x, y))
            return &scene->clutter[i].colour;
    return NULL;
}

/* The shape's colour at a point; NULL beside it. */
static const struct colour *scene_shape(const struct scene *scene, float x, float y)
{
    const struct recipe *recipe = &scene->recipe;
    const float dx = (x - scene->x) / scene->radius, dy = (y - scene->y) / scene->radius;
    const float u = (dx * scene->cosine + dy * scene->sine) * scene->stretch_u;
    const float v = (dy * scene->cosine - dx * scene->sine) * scene->stretch_v;

    if (u * u + v * v > 2 || !inside(recipe->shape, u, v))
        return NULL;
    if (recipe->mark == MARK_RIM && !inside(recipe->shape, u / RIM_FROM, v / RIM_FROM))
        return &scene->mark;
    if (recipe->mark == MARK_CORE && u * u + v * v < square(CORE_TO))
        return &scene->mark;
    return &scene->fill[textured(recipe->texture, u, v, scale_periods[recipe->scale])];
}

/* Add a point's colour; whether it is one of the shape. */
static bool scene_sample(const struct scene *scene, float x, float y, float sum[3])
{
    const struct colour *colour = scene_clutter(scene, x, y, true);
    bool shape = false;
    float at;

    if (colour == NULL) {
        colour = scene_shape(scene, x, y);
        shape = colour != NULL;
    }
    if (colour == NULL)
        colour = scene_clutter(scene, x, y, false);
    if (colour != NULL) {
        for (int c = 0; c < 3; c++)
            sum[c] += colour->rgb[c];
        return shape;
    }
    at = 0.5f + (x - 0.5f) * scene->ground_x + (y - 0.5f) * scene->ground_y;
    for (int c = 0; c < 3; c++)
        sum[c] +=
            scene->ground[0].rgb[c] + at * (scene->ground[1].rgb[c] - scene->ground[0].rgb[c]);
    return false;
}

/* Nearly normal, standard deviation 1: four bytes' sum has mean 510 and variance 4 (256^2 - 1)
 * / 12. */
static float noise(struct philox *random)
{
    const uint32_t bits = philox_u32(random);
    const uint32_t sum = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24);

    return ((float)sum - 510) / 147.8f;
}

static uint8_t level(float value)
{
    const float scaled = value * 255 + 0.5f;

    return (uint8_t)(scaled < 0 ? 0 : scaled > 255 ? 255 : scaled);
}

void data_draw(int class, int size, struct philox *random, uint8_t *rgb)
{
    const int samples = size < 96 ? 3 : 2; /* along each side of a pixel */
    struct recipe recipe = {0};
    struct scene scene;

    recipe_find(class, &recipe);
    scene_make(&scene, &recipe, random);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            const float step = 1.0f / (float)(samples * size);
            const float middle_x = ((float)x + 0.5f) / (float)size - 0.5f;
            const float middle_y = ((float)y + 0.5f) / (float)size - 0.5f;
            const float light = 1 + middle_x * scene.light_x + middle_y * scene.light_y;
            float sum[3] = {0};

            for (int s = 0; s < samples * samples; s++)
                scene_sample(&scene, ((float)(x * samples + s % samples) + 0.5f) * step,
                             ((float)(y * samples + s / samples) + 0.5f) * step, sum);
            for (int c = 0; c < 3; c++)
                *rgb++ = level(sum[c] / (float)(samples * samples) * light +
                               scene.noise * noise(random));
        }
}

/* ---- the same for a photograph ---- */

#define PHOTO_SAMPLES   2     /* along each side of a coarse pixel */
#define PHOTO_TINT      0.08f /* how far a picture's colours lie from its class's, at most */
#define PHOTO_CLASS_KEY 133   /* of the classes' colours, which are the same in every set */

/* A class's own two colours, not quite. */
static void scene_tint(struct scene *scene, int class, struct philox *random)
{
    struct colour own[2];
    struct philox fixed;

    philox_init(&fixed, PHOTO_CLASS_KEY, (uint64_t) class, 0, PHILOX_SYNTH);
    own[0] = colour_unlike(&fixed, NULL, 0, 0);
    own[1] = colour_unlike(&fixed, own, 1, 0.3f);
    for (int i = 0; i < 2; i++)
        for (int c = 0; c < 3; c++)
            scene->fill[i].rgb[c] = own[i].rgb[c] + between(random, -PHOTO_TINT, PHOTO_TINT);
    scene->ground[0] = colour_unlike(random, scene->fill, 2, 0.1f);
    for (int c = 0; c < 3; c++)
        scene->ground[1].rgb[c] = scene->ground[0].rgb[c] + between(random, -0.3f, 0.3f);
}

/* From the square to a picture of wide x high, one of which is 1. */
static void scene_spread(struct scene *scene, float wide, float high)
{
    const float reach = 0.95f * scene->radius, share = 1 / (1 - 2 * reach);

    scene->x = reach + (scene->x - reach) * share * (wide - 2 * reach);
    scene->y = reach + (scene->y - reach) * share * (high - 2 * reach);
    for (int i = 0; i < scene->clutter_count; i++) {
        scene->clutter[i].x *= wide;
        scene->clutter[i].y *= high;
    }
}

void data_draw_coarse(int class, int width, int height, struct philox *random, float *rgba)
{
    const int samples = PHOTO_SAMPLES, shorter = width < height ? width : height;
    const float step = 1.0f / (float)(samples * shorter);
    struct recipe recipe = {0};
    struct scene scene;

    recipe_find(class, &recipe);
    scene_make(&scene, &recipe, random);
    scene_tint(&scene, class, random);
    scene_spread(&scene, (float)width / (float)shorter, (float)height / (float)shorter);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, rgba += 4) {
            const float light = 1 + ((float)x / (float)width - 0.5f) * scene.light_x +
                                ((float)y / (float)height - 0.5f) * scene.light_y;
            int inside_count = 0;

            rgba[0] = rgba[1] = rgba[2] = 0;
            for (int s = 0; s < samples * samples; s++)
                inside_count +=
                    scene_sample(&scene, ((float)(x * samples + s % samples) + 0.5f) * step,
                                 ((float)(y * samples + s / samples) + 0.5f) * step, rgba);
            for (int c = 0; c < 3; c++)
                rgba[c] *= light / (float)(samples * samples);
            rgba[3] = (float)inside_count / (float)(samples * samples);
        }
}
