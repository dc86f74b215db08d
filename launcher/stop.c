#include "launcher/stop.h"

#include <signal.h>
#include <string.h>

#include "base/log.h"

void launch_stop_take(struct launch_stop *stop, int number, const char *from, double now_s)
{
    if (!stop->asked) {
        stop->asked_s = now_s;
        log_info("%s%s%s: the job ends after its last whole step%s", strsignal(number),
                 from == NULL ? "" : " on ", from == NULL ? "" : from,
                 number == SIGINT ? "; once more ends it now" : "");
    }
    stop->asked = true;
    stop->held = true;
    stop->interrupts += number == SIGINT && from == NULL; /* each host's first is a first */
}

static enum launch_stop_action interrupt(struct launch_stop *stop)
{
    const bool first = stop->interrupts_done < 2 && !stop->forced;

    stop->interrupts_done = stop->interrupts;
    stop->forced = true;
    stop->interrupted = true;
    return first && stop->interrupts == 2 ? LAUNCH_STOP_END : LAUNCH_STOP_KILL;
}

enum launch_stop_action launch_stop_next(struct launch_stop *stop, bool ready, double now_s)
{
    if (!stop->asked)
        return LAUNCH_STOP_NOTHING;
    if (stop->interrupts >= 2 && stop->interrupts > stop->interrupts_done)
        return interrupt(stop);
    if (stop->limit_s > 0 && !stop->killed && now_s - stop->asked_s > stop->limit_s) {
        log_error("the ranks have not ended within %.0f s of the signal: killing them",
                  stop->limit_s);
        stop->killed = stop->forced = true;
        return LAUNCH_STOP_KILL;
    }
    if (!stop->held || stop->forced)
        return LAUNCH_STOP_NOTHING;
    if (ready) {
        stop->held = false;
        return LAUNCH_STOP_ASK;
    }
    if (now_s - stop->asked_s <= stop->ready_s)
        return LAUNCH_STOP_NOTHING;
    log_warn("the ranks were not up within %.0f s and have trained nothing yet: ending them",
             stop->ready_s);
    stop->forced = true;
    return LAUNCH_STOP_END;
}
