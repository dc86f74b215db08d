#include "trainer/stop.h"

#include <math.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

volatile sig_atomic_t train_stop_asked, train_stop_drop;

static void on_stop(int number)
{
    if (train_stop_asked != 0)
        return;
    __atomic_store_n(&train_stop_asked, number, __ATOMIC_RELAXED); /* threads look at it, too */
    alarm(TRAIN_STOP_STEP_S);
}

/* One timer: first for the time that the run may take, once asked to stop for the step in work. */
static void on_alarm(int number)
{
    if (train_stop_asked == 0)
        on_stop(number);
    else
        __atomic_store_n(&train_stop_drop, 1, __ATOMIC_RELAXED);
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

void train_stop_after(double seconds)
{
    struct itimerval timer = {.it_value.tv_sec = (time_t)seconds};

    if (seconds <= 0 || train_stop_asked != 0)
        return;
    timer.it_value.tv_usec = (suseconds_t)((seconds - floor(seconds)) * 1e6);
    timer.it_value.tv_usec += timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    if (train_stop_asked != 0) /* just before: its own alarm was replaced */
        alarm(TRAIN_STOP_STEP_S);
}
