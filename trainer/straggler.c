#include "trainer/straggler.h"

struct train_straggler train_straggler_of(const double *busy_s, int ranks)
{
    struct train_straggler s = {.busy_s = busy_s[0]};
    double others_s = 0;

    for (int rank = 1; rank < ranks; rank++)
        if (busy_s[rank] > s.busy_s) {
            s.rank = rank;
            s.busy_s = busy_s[rank];
        }
    for (int rank = 0; rank < ranks; rank++)
        others_s += rank == s.rank ? 0 : busy_s[rank];
    s.over_s = ranks > 1 ? s.busy_s - others_s / (ranks - 1) : 0;
    return s;
}
