/*
 * trainer/option_table.h -- the options of `convoy train`: names, kinds, limits, defaults and help,
 * one entry each.
 *
 * The parser, --help, the hyperparameters and what a checkpoint remembers all come from this table;
 * options.h has the values in the run's own types.
 */
#ifndef TRAIN_OPTION_TABLE_H
#define TRAIN_OPTION_TABLE_H

#include "base/option.h"

extern const struct option_spec train_option_table[];
extern const size_t train_option_count;

#endif
