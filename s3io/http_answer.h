/*
 * s3io/http_answer.h -- an answer's status and headers as their lines come. For http.c.
 */
#ifndef S3IO_HTTP_ANSWER_H
#define S3IO_HTTP_ANSWER_H

#include <stddef.h>

struct s3_http_answer;

enum s3_http_line {
    S3_HTTP_LINE_STATUS, /* "HTTP/1.1 200 OK" */
    S3_HTTP_LINE_HEADER, /* or what is none: it is passed over */
    S3_HTTP_LINE_END,    /* the empty line behind them */
};

/** Take one line, with the CR LF behind it. A status line begins the answer anew: an interim one,
 * or a proxy's, came before. */
enum s3_http_line s3_http_answer_line(struct s3_http_answer *answer, const char *line,
                                      size_t bytes);

#endif
