#include "trainer/nn/tuning.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/nn/resnet.h"

#define FROM       "from:layer"
#define RELU       "relu"
#define HIDDEN_TOP 65536

int nn_tuning_parse_layers(struct nn_tuning *tuning, const char *network, const char *text,
                           struct err *err)
{
    const int stages = nn_resnet_stages(nn_resnet_find(network));
    const size_t from = sizeof FROM - 1;

    if (strcmp(text, "all") == 0) {
        tuning->frozen = 0;
        return 0;
    }
    if (strcmp(text, "head") == 0) {
        tuning->frozen = NN_FROZEN_BODY;
        return 0;
    }
    if (strncmp(text, FROM, from) == 0 && text[from] >= '1' && text[from] <= '0' + stages &&
        text[from + 1] == '\0') {
        tuning->frozen = text[from] - '0';
        return 0;
    }
    return err_set(err, ERR_USAGE, "'%s': it is all, head, or from:layer1 to from:layer%d", text,
                   stages);
}

/* The number at *text, which ends with '-'; moves behind it. 0: there is none. */
static int next_size(const char **text)
{
    char *end = NULL;
    const long size = **text >= '0' && **text <= '9' ? strtol(*text, &end, 10) : 0;

    if (size < 1 || size > HIDDEN_TOP || *end != '-')
        return 0;
    *text = end + 1;
    return (int)size;
}

int nn_tuning_parse_head(struct nn_tuning *tuning, const char *network, const char *text,
                         struct err *err)
{
    const int features = nn_resnet_features(nn_resnet_find(network));
    const char *at = text;
    int size, sizes = 0;

    tuning->hidden_count = 0;
    if (strcmp(text, "linear") == 0)
        return 0;
    for (; (size = next_size(&at)) > 0; sizes++) {
        if (sizes == 0 && size != features)
            return err_set(err, ERR_USAGE, "'%s': the head of %s has %d inputs", text, network,
                           features);
        if (sizes > NN_HIDDEN_MAX)
            return err_set(err, ERR_USAGE, "'%s': a head has up to %d hidden layers", text,
                           NN_HIDDEN_MAX);
        if (sizes > 0)
            tuning->hidden[tuning->hidden_count++] = size;
    }
    if (tuning->hidden_count == 0 || strcmp(at, RELU) != 0)
        return err_set(err, ERR_USAGE,
                       "'%s': it is linear, or inputs, hidden layers and relu as in %d-128-relu",
                       text, features);
    return 0;
}
