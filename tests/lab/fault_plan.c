#include "tests/lab/fault_plan.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define RULES_MAX     64
#define P99_NORMAL    2.3263478740408408 /* a standard normal is below it 99 times of 100 */
#define DELAY_P99_MAX 10                 /* times the 99th percentile is the most that is drawn */

static const char *const kind_names[FAULT_KINDS] = {
    [FAULT_PASS] = "pass",   [FAULT_STATUS] = "status", [FAULT_EMPTY] = "empty",
    [FAULT_CLOSE] = "close", [FAULT_STALE] = "stale",   [FAULT_RESET] = "reset",
    [FAULT_CUT] = "cut",     [FAULT_STALL] = "stall",   [FAULT_FLIP] = "flip",
    [FAULT_DROP] = "drop",   [FAULT_LOSE] = "lose",     [FAULT_SPOIL] = "spoil",
};

struct rule {
    char method[16], pattern[1024], key_id[128], region[64]; /* the last two: "" for any */
    uint64_t first, last, seen;
    struct fault fault;
    bool delays; /* it says how long; else that is drawn as for others */
};

/* How often each thing was asked for. */
struct asked {
    uint64_t key, count; /* key 0: free */
};

struct fault_plan {
    uint64_t seed;
    struct fault_plan_shares shares;
    struct rule rules[RULES_MAX];
    size_t rule_count;
    pthread_mutex_t mutex; /* guards the rules' counts and what follows */
    struct asked *asked;   /* (capacity), a power of two, at most half of them used */
    size_t asked_count, capacity;
};

const char *fault_kind_name(enum fault_kind kind)
{
    return kind_names[kind];
}

/* ---- rules ---- */

static int bad_rule(int number, const char *line, const char *why, struct err *err)
{
    return err_set(err, ERR_USAGE, "rule %d, '%.200s': %s", number, line, why);
}

static bool take_action(struct fault *fault, const char *word)
{
    char *end;

    for (int kind = 0; kind < FAULT_KINDS; kind++)
        if (kind != FAULT_STATUS && strcmp(word, kind_names[kind]) == 0) {
            fault->kind = (enum fault_kind)kind;
            return true;
        }
    fault->kind = FAULT_STATUS;
    fault->status = (int)strtol(word, &end, 10);
    return *end == '\0' && fault->status >= 200 && fault->status <= 599;
}

/* "name=": what follows; NULL if the word is another. */
static const char *value_of(const char *word, const char *name)
{
    const size_t bytes = strlen(name);

    return strncmp(word, name, bytes) == 0 ? word + bytes : NULL;
}

static bool take_word(struct rule *rule, const char *word)
{
    struct fault *fault = &rule->fault;
    const char *value;

    if ((value = value_of(word, "at=")) != NULL) {
        fault->at_given = true;
        fault->at = strtoull(value, NULL, 10);
    } else if ((value = value_of(word, "delay=")) != NULL) {
        rule->delays = true;
        fault->delay_s = strtod(value, NULL) / 1000;
    } else if ((value = value_of(word, "for-key=")) != NULL) {
        snprintf(rule->key_id, sizeof rule->key_id, "%s", value);
    } else if ((value = value_of(word, "for-region=")) != NULL) {
        snprintf(rule->region, sizeof rule->region, "%s", value);
    } else if ((value = value_of(word, "message=")) != NULL) {
        snprintf(fault->message, sizeof fault->message, "%s", value);
    } else if ((value = value_of(word, "region=")) != NULL) {
        snprintf(fault->region, sizeof fault->region, "%s", value);
    } else if ((value = value_of(word, "location=")) != NULL) {
        snprintf(fault->location, sizeof fault->location, "%s", value);
    } else if ((value = value_of(word, "retry-after=")) != NULL) {
        fault->retry_after_s = strtod(value, NULL);
    } else if ((value = value_of(word, "date=")) != NULL) {
        fault->date_off_s = strtod(value, NULL);
    } else if (strcmp(word, "bare") == 0) {
        fault->bare = true;
    } else if (strcmp(word, "after") == 0) {
        fault->after = true;
    } else if (fault->kind == FAULT_STATUS && strchr(word, '=') == NULL) {
        snprintf(fault->code, sizeof fault->code, "%s", word);
    } else {
        return false;
    }
    return true;
}

/* "#3", "#3-5", "#3-". */
static bool take_numbers(struct rule *rule, const char *word)
{
    char *end;

    rule->first = strtoull(word + 1, &end, 10);
    rule->last = rule->first;
    if (*end == '-')
        rule->last = end[1] == '\0' ? UINT64_MAX : strtoull(end + 1, &end, 10);
    return rule->first > 0 && rule->last >= rule->first;
}

static int rule_read(struct rule *rule, char *line, int number, struct err *err)
{
    char whole[256], *rest = NULL, *word;

    snprintf(whole, sizeof whole, "%s", line);
    *rule = (struct rule){.first = 1, .last = UINT64_MAX};
    word = strtok_r(line, " \t", &rest);
    snprintf(rule->method, sizeof rule->method, "%s", word);
    word = strtok_r(NULL, " \t", &rest);
    snprintf(rule->pattern, sizeof rule->pattern, "%s", word != NULL ? word : "");
    word = strtok_r(NULL, " \t", &rest);
    if (word != NULL && word[0] == '#') {
        if (!take_numbers(rule, word))
            return bad_rule(number, whole, "'#' needs a number from 1 on, or two", err);
        word = strtok_r(NULL, " \t", &rest);
    }
    if (word == NULL || !take_action(&rule->fault, word))
        return bad_rule(number, whole, "an action is missing: pass, 503, reset, ...", err);
    while ((word = strtok_r(NULL, " \t", &rest)) != NULL)
        if (!take_word(rule, word))
            return bad_rule(number, whole, word, err);
    return 0;
}

static int rules_read(struct fault_plan *plan, const char *rules, struct err *err)
{
    char *copy = strdup(rules), *rest = NULL;
    int number = 0, rc = 0;

    if (copy == NULL)
        abort();
    for (char *line = strtok_r(copy, "\n", &rest); line != NULL && rc == 0;
         line = strtok_r(NULL, "\n", &rest)) {
        line += strspn(line, " \t");
        number++;
        if (*line == '\0' || *line == '#')
            continue;
        if (plan->rule_count == RULES_MAX)
            rc = err_set(err, ERR_USAGE, "more than %d rules", RULES_MAX);
        else
            rc = rule_read(&plan->rules[plan->rule_count++], line, number, err);
    }
    free(copy);
    return rc;
}

struct fault_plan *fault_plan_new(uint64_t seed, const struct fault_plan_shares *shares,
                                  const char *rules, struct err *err)
{
    struct fault_plan *plan = calloc(1, sizeof *plan);

    if (plan == NULL)
        abort();
    plan->seed = seed;
    plan->shares = *shares;
    pthread_mutex_init(&plan->mutex, NULL);
    if (rules != NULL && rules_read(plan, rules, err) < 0) {
        fault_plan_free(plan);
        return NULL;
    }
    return plan;
}

void fault_plan_free(struct fault_plan *plan)
{
    if (plan == NULL)
        return;
    pthread_mutex_destroy(&plan->mutex);
    free(plan->asked);
    free(plan);
}

/* ---- chance ---- */

/* FNV-1a; the NUL counts, so that "a" "b" is not "ab" "". */
static uint64_t hash_text(uint64_t hash, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3;
    return hash * 0x100000001b3;
}

/* What is asked for. The id of an upload is the server's invention, and another one each time. */
static uint64_t key_of(const struct fault_request *request)
{
    const char *id = strstr(request->target, "uploadId=");
    const size_t bytes = id != NULL ? (size_t)(id - request->target) : strlen(request->target);
    uint64_t key = hash_text(0xcbf29ce484222325, request->method, strlen(request->method));

    key = hash_text(key, request->target, bytes);
    if (id != NULL)
        key = hash_text(key, id + strcspn(id, "&"), strlen(id + strcspn(id, "&")));
    key = hash_text(key, request->range, strlen(request->range));
    return key == 0 ? 1 : key;
}

static struct asked *find(struct fault_plan *plan, uint64_t key)
{
    size_t i = (size_t)key & (plan->capacity - 1);

    while (plan->asked[i].key != 0 && plan->asked[i].key != key)
        i = (i + 1) & (plan->capacity - 1);
    return &plan->asked[i];
}

static void grow(struct fault_plan *plan)
{
    struct asked *old = plan->asked;
    const size_t count = plan->capacity;

    plan->capacity = count > 0 ? 2 * count : 1024;
    plan->asked = calloc(plan->capacity, sizeof *plan->asked);
    if (plan->asked == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        if (old[i].key != 0)
            *find(plan, old[i].key) = old[i];
    free(old);
}

/* With the mutex: how often this was asked for before. */
static uint64_t count_asked(struct fault_plan *plan, uint64_t key)
{
    struct asked *asked;

    if (2 * (plan->asked_count + 1) > plan->capacity)
        grow(plan);
    asked = find(plan, key);
    plan->asked_count += asked->key == 0;
    asked->key = key;
    return asked->count++;
}

/* SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* Uniform in [0, 1): the draw number `what` of one request. */
static double draw(uint64_t state, uint64_t what)
{
    return (double)(mix(state ^ mix(what)) >> 11) * 0x1p-53;
}

enum { DRAW_KIND, DRAW_PLACE, DRAW_DELAY, DRAW_DELAY_ANGLE };

static double draw_delay(const struct fault_plan_shares *shares, uint64_t state)
{
    const double u = 1 - draw(state, DRAW_DELAY), angle = 2 * M_PI * draw(state, DRAW_DELAY_ANGLE);
    double spread;

    if (shares->delay_s <= 0 || shares->delay_p99_s <= shares->delay_s)
        return shares->delay_s;
    spread = log(shares->delay_p99_s / shares->delay_s) / P99_NORMAL;
    return fmin(shares->delay_s * exp(spread * sqrt(-2 * log(u)) * cos(angle)),
                DELAY_P99_MAX * shares->delay_p99_s);
}

static void draw_kind(const struct fault_plan_shares *shares, double u, struct fault *fault)
{
    const struct {
        double share;
        enum fault_kind kind;
        int status;
    } faults[] = {{shares->status_503, FAULT_STATUS, 503}, {shares->status_500, FAULT_STATUS, 500},
                  {shares->reset, FAULT_RESET, 0},         {shares->cut, FAULT_CUT, 0},
                  {shares->stall, FAULT_STALL, 0},         {shares->flip, FAULT_FLIP, 0}};

    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (u < faults[i].share) {
            fault->kind = faults[i].kind;
            fault->status = faults[i].status;
            return;
        }
        u -= faults[i].share;
    }
}

/* ---- both ---- */

static bool is_any_or(const char *wanted, const char *text)
{
    return wanted[0] == '\0' || (text != NULL && strcmp(wanted, text) == 0);
}

static bool rule_matches(const struct rule *rule, const struct fault_request *request)
{
    return (strcmp(rule->method, "*") == 0 || strcmp(rule->method, request->method) == 0) &&
           fnmatch(rule->pattern, request->target, 0) == 0 &&
           is_any_or(rule->key_id, request->key_id) && is_any_or(rule->region, request->region);
}

/* With the mutex. All rules that match count, so that what one says does not depend on another. */
static const struct rule *find_rule(struct fault_plan *plan, const struct fault_request *request)
{
    const struct rule *found = NULL;

    for (size_t i = 0; i < plan->rule_count; i++) {
        struct rule *rule = &plan->rules[i];

        if (!rule_matches(rule, request))
            continue;
        rule->seen++;
        if (found == NULL && rule->seen >= rule->first && rule->seen <= rule->last)
            found = rule;
    }
    return found;
}

static const char *default_code(int status)
{
    switch (status) {
    case 301:
    case 307:
        return status == 301 ? "PermanentRedirect" : "TemporaryRedirect";
    case 400:
        return "RequestTimeout";
    case 403:
        return "AccessDenied";
    case 404:
        return "NoSuchKey";
    case 503:
        return "SlowDown";
    default:
        return "InternalError";
    }
}

void fault_plan_choose(struct fault_plan *plan, const struct fault_request *request,
                       struct fault *fault)
{
    const uint64_t key = key_of(request);
    const struct rule *rule;
    uint64_t state;
    bool delays = false;

    *fault = (struct fault){.kind = FAULT_PASS};
    pthread_mutex_lock(&plan->mutex);
    state = mix(mix(plan->seed ^ key) + count_asked(plan, key));
    rule = find_rule(plan, request);
    if (rule != NULL) {
        *fault = rule->fault;
        delays = rule->delays;
    }
    pthread_mutex_unlock(&plan->mutex);
    if (rule == NULL)
        draw_kind(&plan->shares, draw(state, DRAW_KIND), fault);
    if (!delays)
        fault->delay_s = draw_delay(&plan->shares, state);
    if (fault->kind == FAULT_STATUS && fault->code[0] == '\0')
        snprintf(fault->code, sizeof fault->code, "%s", default_code(fault->status));
    fault->place = draw(state, DRAW_PLACE);
}
