/*
 * s3io/container.h -- keys from the endpoint that ECS, SageMaker and EKS give a container.
 *
 * AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is a path at http://169.254.170.2; else
 * AWS_CONTAINER_CREDENTIALS_FULL_URI is a whole URL: https to any host, http only to this host
 * (localhost, 127.0.0.0/8, ::1) and to 169.254.170.2, 169.254.170.23 and fd00:ec2::23, since what
 * comes back and the token sent are secrets. The token, if there is one, is what the file
 * AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE holds now, else AWS_CONTAINER_AUTHORIZATION_TOKEN. Source:
 * AWS SDKs and Tools Reference Guide, "Container credential provider".
 */
#ifndef S3IO_CONTAINER_H
#define S3IO_CONTAINER_H

#include <signal.h>
#include <stdbool.h>

struct err;
struct s3_keys;

#define S3_CONTAINER_TRIES 3

/* How long a try may take and how long to wait before the next one: tests make them short. */
struct s3_container_pace {
    double timeout_s, pause_s;
    const volatile sig_atomic_t *cancel; /* ends it with ERR_STOPPED; may be NULL */
};
#define S3_CONTAINER_TIMEOUT_S 2.0
#define S3_CONTAINER_PAUSE_S   1.0

/** Whether one of the two variables is set. */
bool s3_container_is_set(void);

/** Fetch keys. Blocks, with the two figures above for 8 s at most. ERR_INPUT: a
 * variable or token that must not be used so, an answer that says no or holds no keys; ERR_NET:
 * nothing came in all tries. */
int s3_container_fetch(const struct s3_container_pace *pace, struct s3_keys *keys, struct err *err);

#endif
