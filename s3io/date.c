#include "s3io/date.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double seconds_of(struct tm *utc)
{
    const bool sane = utc->tm_year > 0 && utc->tm_year < 8000 && utc->tm_mon >= 0 &&
                      utc->tm_mon < 12 && utc->tm_mday > 0 && utc->tm_mday <= 31 &&
                      utc->tm_hour >= 0 && utc->tm_hour < 24 && utc->tm_min >= 0 &&
                      utc->tm_min < 60 && utc->tm_sec >= 0 && utc->tm_sec <= 60;

    return sane ? (double)timegm(utc) : 0;
}

/* Not by strptime: its names of months depend on the locale. */
double s3_date_http(const char *text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm utc = {0};
    char month[4] = "";
    const char *at;

    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT", &utc.tm_mday, month,
               &utc.tm_year, &utc.tm_hour, &utc.tm_min, &utc.tm_sec) != 6)
        return 0;
    at = strstr(months, month);
    if (at == NULL || strlen(month) != 3 || (at - months) % 3 != 0)
        return 0;
    utc.tm_mon = (int)(at - months) / 3;
    utc.tm_year -= 1900;
    return seconds_of(&utc);
}

double s3_date_iso(const char *text)
{
    struct tm utc = {0};
    double seconds = 0, whole;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%lf", &utc.tm_year, &utc.tm_mon, &utc.tm_mday,
               &utc.tm_hour, &utc.tm_min, &seconds) != 6 ||
        !(seconds >= 0 && seconds < 61))
        return 0;
    utc.tm_sec = (int)seconds;
    utc.tm_mon -= 1;
    utc.tm_year -= 1900;
    whole = seconds_of(&utc);
    return whole > 0 ? whole + (seconds - utc.tm_sec) : 0;
}

void s3_date_print(double seconds, char out[S3_DATE_CHARS])
{
    const time_t when = (time_t)seconds;
    struct tm utc;

    gmtime_r(&when, &utc);
    if (strftime(out, S3_DATE_CHARS, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0)
        snprintf(out, S3_DATE_CHARS, "an unknown time");
}
