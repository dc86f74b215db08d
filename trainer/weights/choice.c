/* trainer/weights/choice.c -- see choice.h. */
#include "trainer/weights/choice.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/text.h"

static bool ends_with(const char *name, const char *end)
{
    const size_t bytes = strlen(name), tail = strlen(end);

    return bytes > tail && strcmp(name + bytes - tail, end) == 0;
}

/* 0: no weights. */
static int rank_of(const char *name)
{
    if (strcmp(name, "model.safetensors") == 0)
        return 5;
    if (strcmp(name, "model.pth") == 0)
        return 4;
    if (ends_with(name, ".safetensors") || ends_with(name, ".pth") || ends_with(name, ".pt"))
        return 3;
    if (strcmp(name, "model.tar.gz") == 0)
        return 2;
    return ends_with(name, ".tar.gz") || ends_with(name, ".tgz");
}

bool weights_is_name(const char *name)
{
    return rank_of(name) > 0;
}

bool weights_choice_offer(struct weights_choice *choice, const char *name)
{
    const int rank = name[0] != '.' ? rank_of(name) : 0; /* hidden ones are half-written */

    choice->params |= ends_with(name, ".params");
    if (rank > choice->rank) {
        weights_choice_release(choice);
        choice->name = text_copy(name);
        choice->rank = rank;
        return true;
    }
    if (rank > 0 && rank == choice->rank && choice->other == NULL)
        choice->other = text_copy(name);
    return false;
}

int weights_choice_settle(const struct weights_choice *choice, const char *path, struct err *err)
{
    if (choice->name == NULL)
        return err_set(err, ERR_INPUT,
                       "'%s' has no weights in it: model.safetensors, or another .safetensors or "
                       ".pth file%s",
                       path, choice->params ? " (MXNet's .params cannot be read)" : "");
    if (choice->other != NULL)
        return err_set(err, ERR_INPUT, "'%s' has both '%s' and '%s': name the file that is meant",
                       path, choice->name, choice->other);
    return 0;
}

void weights_choice_release(struct weights_choice *choice)
{
    const bool params = choice->params;

    free(choice->name);
    free(choice->other);
    *choice = (struct weights_choice){.params = params};
}
