#include "trainer/early_stopping.h"

bool train_early_stopping_improves(const struct train_early_stopping *stopping, double accuracy,
                                   double best)
{
    return best < 0 || (accuracy > best && accuracy - best >= stopping->tolerance * best);
}

bool train_early_stopping_ends(const struct train_early_stopping *stopping, uint32_t epoch,
                               uint32_t improved)
{
    return stopping->on && epoch + 1 >= stopping->min_epochs &&
           epoch - improved >= stopping->patience;
}
