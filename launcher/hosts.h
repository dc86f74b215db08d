/*
 * launcher/hosts.h -- which hosts a job shall run on. One so far: this one.
 */
#ifndef LAUNCH_HOSTS_H
#define LAUNCH_HOSTS_H

struct err;
struct launch_words;

/** Append the hosts of "a,b,c". ERR_USAGE for an empty name. */
int launch_hosts_from_list(struct launch_words *hosts, const char *list, struct err *err);

/** Append the hosts of a host file: one a line, what follows a blank is passed over ("node-1
 * slots=4"), '#' begins a comment. */
int launch_hosts_from_file(struct launch_words *hosts, const char *path, struct err *err);

/** Append the hosts of a JSON list as SM_HOSTS has it: ["algo-1","algo-2"]. */
int launch_hosts_from_json(struct launch_words *hosts, const char *json, struct err *err);

/** 0 if the job is for this host alone; else ERR_USAGE with what to type instead. Names count once
 * each. source says where the list is from. */
int launch_hosts_check(const struct launch_words *hosts, const char *source, struct err *err);

#endif
