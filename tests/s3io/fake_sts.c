#include "fake_sts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"

static void print_time(double when_s, char *text, size_t bytes)
{
    const time_t when = (time_t)when_s;
    char second[32];
    struct tm utc;

    gmtime_r(&when, &utc);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, bytes, "%s.%03dZ", second, (int)((when_s - (double)when) * 1000));
}

static void print_keys(struct fake_sts *sts, const char *action, struct buf *body)
{
    char expires[64];

    sts->number++;
    print_time(clock_wall_s() + (sts->lives_s != 0 ? sts->lives_s : 3600), expires, sizeof expires);
    buf_printf(body,
               "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><%sResult>"
               "<AssumedRoleUser><AssumedRoleId>ARO:x</AssumedRoleId></AssumedRoleUser>"
               "<Credentials><AccessKeyId>STS-%d</AccessKeyId><SecretAccessKey>TOPSECRET"
               "</SecretAccessKey><SessionToken>TOKEN-%d</SessionToken><Expiration>%s</Expiration>"
               "</Credentials></%sResult><ResponseMetadata><RequestId>REQUEST17</RequestId>"
               "</ResponseMetadata></%sResponse>",
               action, action, sts->number, sts->number, expires, action, action);
}

static void answer(void *context, const char *request, struct buf *out, bool *silent)
{
    struct fake_sts *sts = context;
    const bool web = strstr(request, "Action=AssumeRoleWithWebIdentity&") != NULL;
    const bool fails =
        sts->status != 0 && (sts->fail_count == 0 || sts->seen_count < sts->fail_count);
    struct buf body = {0};

    (void)silent;
    if (sts->seen_count < FAKE_STS_SEEN_MAX)
        sts->seen[sts->seen_count] = strdup(request);
    sts->seen_count++;
    if (sts->body != NULL)
        buf_printf(&body, "%s", sts->body);
    else if (fails)
        buf_printf(&body,
                   "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>"
                   "<Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error>"
                   "<RequestId>REQUEST17</RequestId></ErrorResponse>",
                   sts->code, sts->says);
    else
        print_keys(sts, web ? "AssumeRoleWithWebIdentity" : "AssumeRole", &body);
    fake_reply(out, fails ? sts->status : 200, sts->headers != NULL ? sts->headers : "",
               buf_text(&body));
    buf_release(&body);
}

void fake_sts_start(struct fake_sts *sts)
{
    char url[64];

    sts->fake = fake_start("127.0.0.1", 0, answer, sts);
    snprintf(url, sizeof url, "http://127.0.0.1:%d", fake_port(sts->fake));
    setenv("AWS_ENDPOINT_URL_STS", url, 1);
    setenv("AWS_REGION", "eu-west-1", 1);
}

void fake_sts_forget(struct fake_sts *sts)
{
    for (int i = 0; i < FAKE_STS_SEEN_MAX; i++) {
        free(sts->seen[i]);
        sts->seen[i] = NULL;
    }
    sts->seen_count = 0;
}

void fake_sts_stop(struct fake_sts *sts)
{
    fake_stop(sts->fake);
    fake_sts_forget(sts);
}
