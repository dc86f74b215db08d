/*
 * trainer/audit/verb.h -- `convoy audit FILE...`: what the audit files of a run prove.
 */
#ifndef AUDIT_VERB_H
#define AUDIT_VERB_H

#include <signal.h>
#include <stdio.h>

struct err;

void audit_help(FILE *out);

/** Read the files (argv: the words behind the verb), judge, and print to stdout. A FILE stands for
 * itself and FILE.rank-N beside it. ERR_INPUT: something was lost or repeated, or cannot be proven;
 * the line has the first fault, stdout up to AUDIT_TOLD_MAX of them. ERR_USAGE. */
int audit_run(int argc, char *const *argv, const volatile sig_atomic_t *cancel, struct err *err);

#endif
