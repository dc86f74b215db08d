#include "launcher/outcome.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define SIGNALS_MAX 64

void launch_outcome_set(struct launch_outcome *outcome, int code, const char *fmt, ...)
{
    char text[4 * LAUNCH_FAILURE_BYTES];
    va_list args;

    if (outcome->code != 0)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    outcome->code = code;
    launch_local_clean(outcome->failure, text, strlen(text));
}

int launch_outcome_code(int mpirun_code, bool spoken)
{
    const bool made_up = mpirun_code > 128 + SIGNALS_MAX || mpirun_code == 17;

    if (!made_up && (mpirun_code != 1 || spoken))
        return mpirun_code;
    log_error("mpirun ended with status %d%s: a host or the network failed", mpirun_code,
              spoken ? "" : " and no rank said why");
    return LAUNCH_EXIT_PEER;
}

static bool is_signal(int code)
{
    return code > 128 && code <= 128 + SIGNALS_MAX;
}

const char *launch_outcome_end(int code, char text[LAUNCH_OUTCOME_END_BYTES])
{
    const int number = code - 128;

    if (is_signal(code))
        snprintf(text, LAUNCH_OUTCOME_END_BYTES, "died by signal %d (%s)%s", number,
                 strsignal(number),
                 number == SIGKILL ? ", as the kernel does when memory runs out" : "");
    else
        snprintf(text, LAUNCH_OUTCOME_END_BYTES, "ended with status %d", code);
    return text;
}

void launch_outcome_describe(struct launch_outcome *outcome)
{
    char text[256], how[LAUNCH_OUTCOME_END_BYTES];

    if (outcome->code == LAUNCH_EXIT_STOPPED)
        snprintf(text, sizeof text, "stopped before the model was written");
    else
        snprintf(text, sizeof text, "%s %s%s", is_signal(outcome->code) ? "a rank" : "the ranks",
                 launch_outcome_end(outcome->code, how),
                 outcome->code == LAUNCH_EXIT_PEER
                     ? ": a rank or host is gone, or the network failed"
                     : "");
    launch_local_clean(outcome->failure, text, strlen(text));
}
