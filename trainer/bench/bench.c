#include "trainer/bench/bench.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"

static const struct {
    const char *name;
    int (*run)(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);
} benches[] = {
    {"model", bench_model},
    {"layers", bench_layers},
    {"input", bench_input},
};

int bench_run(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err)
{
    for (size_t i = 0; argc > 0 && i < sizeof benches / sizeof benches[0]; i++)
        if (strcmp(argv[0], benches[i].name) == 0)
            return benches[i].run(argc - 1, argv + 1, cancel, err);
    return err_set(err, ERR_USAGE, "convoy-train bench: name model, layers or input");
}
