/*
 * tests/lab/fault_plan.h -- what a fault proxy does to each request: by chance, and by rule.
 *
 * By chance: each fault has a share, and the draw for a request depends on the seed, on what is
 * asked for (method, target, range) and on how often that was asked before, and on nothing else. So
 * a run that is repeated meets the same faults, however its requests and connections interleave.
 *
 * By rule: a line of words, the first rule that matches a request decides, and chance does not.
 *
 *     METHOD PATTERN [#N | #N-M | #N-] ACTION [WORD...]
 *
 * METHOD may be '*'. PATTERN is one of fnmatch(3) over path and query as they were sent. #N counts
 * the requests that method and pattern match, from 1. Actions:
 *
 *     pass            nothing
 *     503 [CODE]      any status, with an <Error> document (also 200), without asking the server
 *     empty           200 with an empty body
 *     close           the connection is closed before an answer
 *     stale           the same if it was used before; else nothing
 *     reset [at=N]    reset before byte N of the body (without a body: before the answer)
 *     cut [at=N]      closed there
 *     stall [at=N]    nothing more comes from there on
 *     flip [at=N]     a bit of byte N is another
 *     drop            the connection is closed behind the answer, which does not say so
 *     lose            the server does it, and the connection is reset in the answer's place
 *     spoil [at=N]    a bit of byte N of the request's body is another
 *
 * Without at= a place is drawn. Words: delay=MS; for-key=ID, for-region=REGION (requests that are
 * signed so, and no others, match); and for a status: message=TEXT (no blanks),
 * region=REGION (<Region> and x-amz-bucket-region), location=URL, retry-after=S, date=SECONDS (the
 * Date is off by so much), bare (no document), after (the server does it first).
 */
#ifndef TESTS_LAB_FAULT_PLAN_H
#define TESTS_LAB_FAULT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum fault_kind {
    FAULT_PASS,
    FAULT_STATUS,
    FAULT_EMPTY,
    FAULT_CLOSE,
    FAULT_STALE,
    FAULT_RESET,
    FAULT_CUT,
    FAULT_STALL,
    FAULT_FLIP,
    FAULT_DROP,
    FAULT_LOSE,
    FAULT_SPOIL,
    FAULT_KINDS
};

/** "reset". */
const char *fault_kind_name(enum fault_kind kind);

struct fault {
    enum fault_kind kind;
    int status;
    char code[64], message[128], region[40], location[256];
    double date_off_s, retry_after_s, delay_s;
    bool bare, after;
    bool at_given;
    uint64_t at;  /* the byte, if it was given */
    double place; /* else the share of the body before it, in [0, 1) */
};

struct fault_plan_shares {
    double status_503, status_500, reset, cut, stall, flip;
    double delay_s, delay_p99_s; /* a log-normal's median and 99th percentile; 0: constant */
};

struct fault_plan;

/** rules: a line each, NULL for none; empty lines and those that begin with # are passed over.
 * NULL: ERR_USAGE names the line. */
struct fault_plan *fault_plan_new(uint64_t seed, const struct fault_plan_shares *shares,
                                  const char *rules, struct err *err);
void fault_plan_free(struct fault_plan *plan);

struct fault_request {
    const char *method, *target, *range; /* range: "" without one */
    const char *key_id, *region;         /* of the signature; "" or NULL without one */
};

/** What becomes of this request. Any thread. */
void fault_plan_choose(struct fault_plan *plan, const struct fault_request *request,
                       struct fault *fault);

#endif
