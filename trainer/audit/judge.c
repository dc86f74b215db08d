#include "trainer/audit/judge.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "trainer/data/index/index.h"

/* What is gone through: launch by launch, step by step. */
struct judge {
    const struct audit_lineage *lineage;
    const struct data_index *index;
    const struct data_order *order;
    struct audit_verdict *verdict;
    int width;
    unsigned char *marks;      /* (samples) bits: had its turn in this epoch */
    unsigned char *lanes;      /* (lanes): recorded in this step */
    struct audit_epoch *epoch; /* the one in work, the verdict's last; NULL: none */
    uint64_t marked;           /* in it */
};

void audit_verdict_release(struct audit_verdict *verdict)
{
    buf_release(&verdict->told);
    free(verdict->epochs);
    *verdict = (struct audit_verdict){0};
}

static void fault(struct judge *judge, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void fault(struct judge *judge, const char *fmt, ...)
{
    char line[sizeof judge->verdict->first];
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (judge->verdict->faults++ == 0)
        memcpy(judge->verdict->first, line, sizeof line);
    if (judge->verdict->faults <= AUDIT_TOLD_MAX)
        buf_printf(&judge->verdict->told, "%s\n", line);
}

/* A picture as people know it. */
struct name {
    char text[160];
};

static struct name name_of(const struct judge *judge, uint64_t sample)
{
    struct name name;

    if (judge->index != NULL && sample < judge->index->count)
        snprintf(name.text, sizeof name.text, "picture %" PRIu64 " ('%.100s')", sample,
                 judge->index->samples[sample].key);
    else
        snprintf(name.text, sizeof name.text, "picture %" PRIu64, sample);
    return name;
}

/* --- epochs --- */

/* Each by name; of many, the first. */
static void tell_lost(struct judge *judge, const struct audit_epoch *epoch)
{
    uint64_t i = 0, told = 0;

    for (; i < judge->order->samples; i++) {
        if ((judge->marks[i / 8] >> (i % 8) & 1) != 0)
            continue;
        if (epoch->lost > AUDIT_TOLD_MAX)
            break;
        fault(judge, "epoch %" PRIu32 ": %s was lost: it was not trained", epoch->epoch,
              name_of(judge, i).text);
        told++;
    }
    if (told < epoch->lost)
        fault(judge, "epoch %" PRIu32 ": %" PRIu64 " pictures were lost: the first is %s",
              epoch->epoch, epoch->lost, name_of(judge, i).text);
}

static void end_epoch(struct judge *judge)
{
    struct audit_epoch *const epoch = judge->epoch;
    const uint64_t steps = data_order_steps(judge->order), due = data_order_images(judge->order);

    judge->epoch = NULL;
    if (epoch == NULL)
        return;
    epoch->whole = epoch->first_step == (uint64_t)epoch->epoch * steps + 1 &&
                   epoch->last_step == ((uint64_t)epoch->epoch + 1) * steps;
    if (!epoch->whole || judge->marked == due)
        return;
    epoch->lost = due > judge->marked ? due - judge->marked : 0;
    if (judge->order->drop_last) {
        fault(judge, "epoch %" PRIu32 ": %" PRIu64 " pictures had their turn, of %" PRIu64,
              epoch->epoch, judge->marked, due);
        return;
    }
    tell_lost(judge, epoch);
}

static void begin_epoch(struct judge *judge, uint32_t epoch, uint64_t step)
{
    struct audit_verdict *const verdict = judge->verdict;

    end_epoch(judge);
    verdict->epochs =
        reallocarray(verdict->epochs, verdict->epoch_count + 1, sizeof *verdict->epochs);
    if (verdict->epochs == NULL)
        abort();
    judge->epoch = &verdict->epochs[verdict->epoch_count++];
    *judge->epoch = (struct audit_epoch){.epoch = epoch, .first_step = step};
    judge->marked = 0;
    memset(judge->marks, 0, judge->order->samples / 8 + 1);
}

static void mark(struct judge *judge, uint64_t sample, uint64_t step)
{
    const unsigned char bit = (unsigned char)(1u << (sample % 8));
    unsigned char *byte;

    if (sample >= judge->order->samples) {
        fault(judge, "epoch %" PRIu32 ", step %" PRIu64 ": there is no picture %" PRIu64,
              judge->epoch->epoch, step, sample);
        return;
    }
    byte = &judge->marks[sample / 8];
    if ((*byte & bit) != 0) {
        judge->epoch->repeated++;
        fault(judge, "epoch %" PRIu32 ", step %" PRIu64 ": %s was repeated: it had its turn before",
              judge->epoch->epoch, step, name_of(judge, sample).text);
        return;
    }
    *byte |= bit;
    judge->marked++;
}

/* --- steps --- */

/* Trained and left-out pictures are in their order each: together they are what the order says. */
static void compare(struct judge *judge, const struct audit_lane *lane, uint64_t step)
{
    const uint64_t epoch_step = (step - 1) % data_order_steps(judge->order);
    const uint32_t due = data_order_lane_images(judge->order, epoch_step, lane->lane);
    uint32_t trained = 0, bad = 0;

    for (uint32_t i = 0; i < due; i++) {
        const uint64_t sample =
            data_order_sample(judge->order, judge->epoch->epoch, epoch_step, lane->lane, i);

        if (trained < lane->trained && audit_lane_sample(lane, judge->width, trained) == sample) {
            trained++;
        } else if (bad < lane->left_out &&
                   audit_lane_sample(lane, judge->width, lane->trained + bad) == sample) {
            bad++;
        } else {
            fault(judge,
                  "epoch %" PRIu32 ", step %" PRIu64 ", micro-batch %" PRIu32
                  ": %s is due, and was not trained there",
                  judge->epoch->epoch, step, lane->lane, name_of(judge, sample).text);
            return;
        }
    }
    if (due != lane->trained + lane->left_out)
        fault(judge,
              "epoch %" PRIu32 ", step %" PRIu64 ", micro-batch %" PRIu32 ": %" PRIu32
              " pictures, where the order has %" PRIu32,
              judge->epoch->epoch, step, lane->lane, lane->trained + lane->left_out, due);
}

static void judge_lane(struct judge *judge, const struct audit_lane *lane, uint64_t step)
{
    if (lane->lane >= judge->order->lanes || judge->lanes[lane->lane] != 0) {
        fault(judge, "epoch %" PRIu32 ", step %" PRIu64 ": micro-batch %" PRIu32 " %s",
              judge->epoch->epoch, step, lane->lane,
              lane->lane >= judge->order->lanes ? "is none of this run" : "was trained twice");
        return;
    }
    judge->lanes[lane->lane] = 1;
    compare(judge, lane, step);
    for (uint32_t i = 0; i < lane->trained + lane->left_out; i++)
        mark(judge, audit_lane_sample(lane, judge->width, i), step);
    judge->epoch->trained += lane->trained;
    judge->epoch->left_out += lane->left_out;
}

/* The record of a step in a rank's part, from its cursor on; false where there is none. */
static bool find_step(struct judge *judge, struct audit_part *part, uint64_t step,
                      struct audit_step *found)
{
    struct audit_frame frame;
    size_t at = part->at;

    while (at < part->end && audit_read(part->data, part->end, &at, &frame) == AUDIT_READ_FRAME &&
           frame.kind == AUDIT_STEP && frame.step.step <= step) {
        part->at = at;
        *found = frame.step;
        if (frame.step.step == step)
            return true;
        fault(judge, "'%s' has step %" PRIu64 " again, or out of its turn", part->name,
              frame.step.step);
    }
    return false;
}

static void judge_part(struct judge *judge, const struct audit_launch *launch,
                       struct audit_part *part, uint64_t step)
{
    const uint64_t steps = data_order_steps(judge->order);
    struct audit_step found;
    struct audit_lane lane;

    if (!find_step(judge, part, step, &found)) {
        fault(judge,
              "epoch %" PRIu32 ", step %" PRIu64 ": rank %" PRIu32 " of generation %" PRIu32
              " has no record of it ('%s')",
              judge->epoch->epoch, step, part->rank, launch->begin.generation, part->name);
        return;
    }
    if (found.epoch != (step - 1) / steps || found.epoch_step != (step - 1) % steps)
        fault(judge, "'%s' calls step %" PRIu64 " the one %" PRIu64 " of epoch %" PRIu32,
              part->name, step, found.epoch_step, found.epoch);
    while (audit_step_lane(&found, judge->width, &lane))
        judge_lane(judge, &lane, step);
    if (found.lanes > 0 || found.at != found.end)
        fault(judge, "'%s': the record of step %" PRIu64 " does not add up", part->name, step);
}

static void judge_step(struct judge *judge, struct audit_launch *launch, struct audit_part *parts,
                       bool complete, uint64_t step)
{
    const uint64_t steps = data_order_steps(judge->order);
    const uint32_t epoch = (uint32_t)((step - 1) / steps);

    if (judge->epoch == NULL || judge->epoch->epoch != epoch)
        begin_epoch(judge, epoch, step);
    memset(judge->lanes, 0, judge->order->lanes);
    for (uint32_t i = 0; i < launch->part_count; i++)
        judge_part(judge, launch, &parts[i], step);
    for (uint32_t v = 0; complete && v < judge->order->lanes; v++)
        if (judge->lanes[v] == 0 && data_order_lane_images(judge->order, (step - 1) % steps, v) > 0)
            fault(judge,
                  "epoch %" PRIu32 ", step %" PRIu64 ": micro-batch %" PRIu32
                  " was trained by no rank",
                  epoch, step, v);
    judge->epoch->last_step = step;
    judge->verdict->steps++;
}

/* --- launches --- */

/* Files of all ranks? Of many that are missing the first few are told. */
static bool check_parts(struct judge *judge, const struct audit_launch *launch)
{
    const uint32_t missing = launch->begin.ranks - launch->part_count;
    uint32_t told = 0, part = 0;
    char id[AUDIT_ID_CHARS];

    audit_lineage_id(launch->begin.launch, id);
    for (uint32_t r = 0; told < missing && told < AUDIT_TOLD_MAX; r++) {
        if (part < launch->part_count && launch->parts[part].rank == r) {
            part++;
            continue;
        }
        fault(judge,
              "generation %" PRIu32 " (launch %s) had %" PRIu32
              " ranks, and no file here is of rank %" PRIu32,
              launch->begin.generation, id, launch->begin.ranks, r);
        told++;
    }
    judge->verdict->faults += missing - told;
    return missing == 0;
}

/* The first step from `step` on that a rank has on record; UINT64_MAX: none. Where all is well the
 * first rank has this one. */
static uint64_t next_recorded(const struct audit_launch *launch, const struct audit_part *parts,
                              uint64_t step)
{
    struct audit_frame frame;
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < launch->part_count && next > step; i++) {
        size_t at = parts[i].at;

        while (at < parts[i].end &&
               audit_read(parts[i].data, parts[i].end, &at, &frame) == AUDIT_READ_FRAME &&
               frame.kind == AUDIT_STEP) {
            if (frame.step.step < step)
                continue;
            next = frame.step.step < next ? frame.step.step : next;
            break;
        }
    }
    return next;
}

/* Steps that no rank has on record, if they are many, are one fault; the step to go on with. */
static uint64_t pass_gap(struct judge *judge, const struct audit_launch *launch,
                         const struct audit_part *parts, uint64_t step)
{
    uint64_t next = next_recorded(launch, parts, step);

    if (next > launch->to_step)
        next = launch->to_step + 1;
    if (next - step <= AUDIT_TOLD_MAX)
        return step;
    fault(judge,
          "steps %" PRIu64 " to %" PRIu64 " of generation %" PRIu32
          ": no rank has a record of them",
          step, next - 1, launch->begin.generation);
    return next;
}

static void judge_steps(struct judge *judge, struct audit_launch *launch, struct audit_part *parts)
{
    const bool complete = launch->to_step == launch->from_step || check_parts(judge, launch);
    uint64_t step = launch->from_step + 1;

    while (step <= launch->to_step) {
        const uint64_t next = pass_gap(judge, launch, parts, step);

        if (next == step)
            judge_step(judge, launch, parts, complete, step++);
        else
            step = next;
    }
}

static void judge_launch(struct judge *judge, struct audit_launch *launch)
{
    struct audit_part *parts;

    if (launch->to_step < launch->from_step) {
        fault(judge,
              "generation %" PRIu32 " began at step %" PRIu64
              ", and the next one resumed it at step %" PRIu64,
              launch->begin.generation, launch->from_step, launch->to_step);
        return;
    }
    parts = calloc(launch->part_count, sizeof *parts);
    if (parts == NULL)
        abort();
    memcpy(parts, launch->parts, launch->part_count * sizeof *parts); /* the cursors move */
    judge_steps(judge, launch, parts);
    free(parts);
}

static void check_root(struct judge *judge)
{
    const struct audit_begin *const root =
        &judge->lineage->launches[judge->lineage->chain[0]].begin;
    char id[AUDIT_ID_CHARS];

    if (root->resumed_step == 0)
        return;
    audit_lineage_id(root->parent, id);
    fault(judge,
          "steps 1 to %" PRIu64 " were trained before generation %" PRIu32
          ", by launch %s or earlier ones: no file here tells of them",
          root->resumed_step, root->generation, id);
}

int audit_judge(const struct audit_lineage *lineage, const struct data_index *index,
                struct audit_verdict *verdict, struct err *err)
{
    const struct audit_begin *const begin = &lineage->launches[lineage->chain[0]].begin;
    struct data_order_part *const parts = audit_begin_parts(begin);
    struct data_order order = begin->order;
    struct judge judge = {.lineage = lineage,
                          .index = index,
                          .order = &order,
                          .verdict = verdict,
                          .width = audit_width(order.samples),
                          .marks = malloc(order.samples / 8 + 1),
                          .lanes = malloc(order.lanes)};
    int rc = 0;

    order.parts = parts;
    *verdict = (struct audit_verdict){0};
    if (judge.marks == NULL || judge.lanes == NULL) {
        rc = err_set(err, ERR_MEMORY, "no memory to count %" PRIu64 " pictures", order.samples);
        goto out;
    }
    check_root(&judge);
    for (size_t i = 0; i < lineage->chain_count; i++)
        judge_launch(&judge, &lineage->launches[lineage->chain[i]]);
    end_epoch(&judge);
    for (size_t i = 0; i < verdict->epoch_count; i++) {
        verdict->trained += verdict->epochs[i].trained;
        verdict->left_out += verdict->epochs[i].left_out;
    }
out:
    free(judge.marks);
    free(judge.lanes);
    free(parts);
    return rc;
}
