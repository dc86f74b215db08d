/*
 * trainer/report/predictions.h -- what pictures were taken for, as text, CSV or JSON lines.
 *
 *     text   photos/a.jpg: 071.German_shepherd_dog 0.931200, 057.Dalmatian 0.041100
 *            photos/b.jpg: error: 'photos/b.jpg' is neither JPEG nor PNG
 *     csv    picture,rank,label,class,probability,error (RFC 4180, lines end with "\n"); a line for
 *            each guess, from rank 1 on, or one with the error
 *     jsonl  {"picture":"photos/a.jpg","guesses":[{"class":"071...","label":70,
 *            "probability":0.9312},...]}, or {"picture":"photos/b.jpg","error":"..."}; each is
 *            one line
 *
 * In text control characters of names are '?'; in JSON, bytes of names that are not UTF-8 are
 * U+FFFD, one for each.
 */
#ifndef REPORT_PREDICTIONS_H
#define REPORT_PREDICTIONS_H

struct buf;

enum report_format { REPORT_TEXT, REPORT_CSV, REPORT_JSONL };

struct report_guess {
    const char *name; /* of the class */
    int label;
    double probability;
};

struct report_prediction {
    const char *picture;
    const char *error;                  /* why there are no guesses; NULL: there are */
    const struct report_guess *guesses; /* (count), the likeliest first */
    int count;
};

/** Append what stands before the first prediction: CSV's line of names. */
void report_predictions_begin(enum report_format format, struct buf *out);

/** Append one prediction. */
void report_prediction_add(enum report_format format, const struct report_prediction *prediction,
                           struct buf *out);

#endif
