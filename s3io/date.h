/*
 * s3io/date.h -- the two ways S3 writes a time, as seconds since 1970 UTC.
 *
 * Sources: RFC 9110, 5.6.7 (IMF-fixdate); ISO 8601 as in ListObjectsV2's LastModified.
 */
#ifndef S3IO_DATE_H
#define S3IO_DATE_H

/** "Sat, 21 Nov 2026 06:50:17 GMT"; 0 for anything else. */
double s3_date_http(const char *text);

/** "2026-11-21T06:50:17.123Z", the fraction optional; 0 for anything else. */
double s3_date_iso(const char *text);

/** "2026-11-21 06:50:17 UTC", for messages. */
#define S3_DATE_CHARS 32
void s3_date_print(double seconds, char out[S3_DATE_CHARS]);

#endif
