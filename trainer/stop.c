#include "trainer/stop.h"

#include <string.h>
#include <unistd.h>

volatile sig_atomic_t train_stop_asked, train_stop_drop;

static void on_stop(int number)
{
    if (train_stop_asked != 0)
        return;
    train_stop_asked = number;
    alarm(TRAIN_STOP_STEP_S);
}

static void on_alarm(int number)
{
    (void)number;
    train_stop_drop = 1;
}

void train_stop_init(void)
{
    static const int stops[] = {SIGTERM, SIGINT, SIGUSR1};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_flags = SA_RESTART;
    action.sa_handler = on_stop;
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++)
        sigaction(stops[i], &action, NULL);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler =
        SIG_IGN; /* a write beyond a file-size limit or to a closed pipe is an error, not a death */
    sigaction(SIGXFSZ, &action, NULL);
    sigaction(SIGPIPE, &action, NULL);
}

void train_stop_ask(void)
{
    on_stop(SIGALRM);
}
