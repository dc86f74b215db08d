/*
 * trainer/mark.h -- what a run tells the launcher by making a file.
 *
 * A variable of the environment names the file, in a folder of the launcher's own: CONVOY_READY
 * (every rank handles signals) and CONVOY_MODEL_LEFT (a stopped run has left its model).
 */
#ifndef TRAIN_MARK_H
#define TRAIN_MARK_H

/** Make the empty file that the variable names. Without the variable, or where the file cannot be
 * made, it does nothing: the launcher then does as if it had not been told. */
void train_mark_make(const char *variable);

#endif
