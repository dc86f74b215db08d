/*
 * tests/lab/s3faults.c -- a proxy between a client and an S3 server that delays, cuts, resets,
 * flips bits and answers what the server would not, by chance (seeded) and by rule: fault_plan.h.
 *
 * It prints "listening PORT" when it is ready, what it did as a line of JSON at SIGUSR1, and the
 * same at its end (SIGTERM, SIGINT, or the end of its standard input with --until-eof).
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/option.h"
#include "tests/lab/fault_plan.h"
#include "tests/lab/fault_relay.h"

static const struct option_spec specs[] = {
    {.name = "listen",
     .kind = OPTION_TEXT,
     .metavar = "[ADDRESS:]PORT",
     .fallback = "127.0.0.1:0",
     .help = "where clients connect; port 0: a free one"},
    {.name = "upstream", .kind = OPTION_TEXT, .metavar = "HOST:PORT", .help = "the real server"},
    {.name = "seed",
     .kind = OPTION_INTEGER,
     .metavar = "N",
     .fallback = "1",
     .max = 9007199254740992,
     .help = "of all draws"},
#define SHARE(word, text)                                                                          \
    {                                                                                              \
        .name = word, .kind = OPTION_NUMBER, .metavar = "SHARE", .fallback = "0", .max = 1,        \
        .help = text                                                                               \
    }
    SHARE("503", "of requests answered 503 SlowDown"),
    SHARE("500", "of requests answered 500 InternalError"),
    SHARE("reset", "of answers reset at a drawn place"),
    SHARE("cut", "of answers ended at a drawn place"),
    SHARE("stall", "of answers that stand still at a drawn place"),
    SHARE("flip", "of answers with one wrong bit in the body"),
#undef SHARE
    {.name = "delay-ms",
     .kind = OPTION_NUMBER,
     .metavar = "MS",
     .fallback = "0",
     .max = 60000,
     .help = "before a request goes on: median"},
    {.name = "delay-p99-ms",
     .kind = OPTION_NUMBER,
     .metavar = "MS",
     .fallback = "0",
     .max = 60000,
     .help = "99th percentile (log-normal); 0: all alike"},
    {.name = "rules",
     .kind = OPTION_TEXT,
     .metavar = "LINES",
     .help = "METHOD PATTERN [#N[-M]] ACTION [WORD...], one a line:\ntests/lab/fault_plan.h"},
    {.name = "log",
     .kind = OPTION_TEXT,
     .metavar = "FILE",
     .help = "a line of JSON for each request"},
    {.name = "tunnel", .kind = OPTION_FLAG, .help = "bytes as they are: for TLS"},
    {.name = "until-eof", .kind = OPTION_FLAG, .help = "end with standard input"},
};

/* "HOST:PORT", or a port of this host alone. */
static int resolve(const char *text, bool passive, struct sockaddr_storage *address,
                   socklen_t *bytes, struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = passive ? AI_PASSIVE : 0};
    const char *colon = strrchr(text, ':');
    char host[256];
    struct addrinfo *found;
    int rc;

    snprintf(host, sizeof host, "%.*s", colon != NULL ? (int)(colon - text) : 0, text);
    rc = getaddrinfo(host[0] != '\0' ? host : "127.0.0.1", colon != NULL ? colon + 1 : text, &hints,
                     &found);
    if (rc != 0)
        return err_set(err, ERR_USAGE, "'%s' is no HOST:PORT: %s", text, gai_strerror(rc));
    memcpy(address, found->ai_addr, found->ai_addrlen);
    *bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int listen_at(const char *text, struct err *err)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    const int on = 1;
    int fd;

    if (resolve(text, true, &address, &bytes, err) < 0)
        return -1;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, bytes) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
        return err_set_errno(err, ERR_IO, errno, "cannot listen at '%s'", text);
    printf("listening %d\n", ntohs(((struct sockaddr_in *)&address)->sin_port));
    fflush(stdout);
    return fd;
}

static struct fault_plan *plan_new(const struct option_set *set, struct err *err)
{
    const struct fault_plan_shares shares = {
        .status_503 = option_number(set, "503"),
        .status_500 = option_number(set, "500"),
        .reset = option_number(set, "reset"),
        .cut = option_number(set, "cut"),
        .stall = option_number(set, "stall"),
        .flip = option_number(set, "flip"),
        .delay_s = option_number(set, "delay-ms") / 1000,
        .delay_p99_s = option_number(set, "delay-p99-ms") / 1000,
    };

    return fault_plan_new((uint64_t)option_integer(set, "seed"), &shares, option_text(set, "rules"),
                          err);
}

/* Until a signal or the end of standard input asks for the end. */
static void run(struct fault_relay *relay, int listener, int signals, bool until_eof)
{
    struct signalfd_siginfo info;
    char byte;

    for (;;) {
        struct pollfd fds[] = {{.fd = listener, .events = POLLIN},
                               {.fd = signals, .events = POLLIN},
                               {.fd = until_eof ? STDIN_FILENO : -1, .events = POLLIN}};

        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[2].revents != 0 && read(STDIN_FILENO, &byte, 1) <= 0)
            return;
        if (fds[1].revents != 0 && read(signals, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo != SIGUSR1)
                return;
            fault_relay_report(relay, stdout);
        }
        if (fds[0].revents != 0) {
            const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

            if (fd >= 0)
                fault_relay_serve(relay, fd);
        }
    }
}

static int start(const struct option_set *set, struct err *err)
{
    struct fault_relay_options options = {.tunnel = option_flag(set, "tunnel")};
    const char *log = option_text(set, "log");
    struct fault_relay *relay;
    sigset_t signals;
    int listener;

    if (option_text(set, "upstream") == NULL)
        return err_set(err, ERR_USAGE, "--upstream HOST:PORT is needed");
    if (resolve(option_text(set, "upstream"), false, &options.upstream, &options.upstream_bytes,
                err) < 0)
        return -1;
    if (log != NULL && (options.log = fopen(log, "we")) == NULL)
        return err_set_errno(err, ERR_IO, errno, "cannot write '%s'", log);
    options.plan = plan_new(set, err);
    if (options.plan == NULL)
        return -1;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    relay = fault_relay_new(&options);
    listener = listen_at(option_text(set, "listen"), err);
    if (listener < 0)
        return -1;
    run(relay, listener, signalfd(-1, &signals, SFD_CLOEXEC), option_flag(set, "until-eof"));
    fault_relay_report(relay, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    struct option_set set;
    struct err err = {0};
    int rc = 0;

    option_set_init(&set, specs, sizeof specs / sizeof *specs);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        printf("s3faults --upstream HOST:PORT [OPTION...]\n\n");
        option_set_help(&set, stdout);
        fflush(stdout);
    } else {
        rc = option_set_parse(&set, argc - 1, argv + 1, &err);
        rc = rc < 0 ? rc : start(&set, &err);
    }
    if (rc < 0)
        fprintf(stderr, "s3faults: error: %s\n", err.msg);
    /* Threads of connections still look at everything: nothing is released. */
    _exit(rc < 0 ? err_exit_code(err.code) : 0);
}
