/*
 * s3io/xml.h -- read the small XML documents that S3 answers with, by expat.
 *
 * S3's documents have no attributes that matter and no text beside elements: a leaf is known by its
 * path. A document type declaration is refused (S3 sends none; entities are a way to exhaust
 * memory), as is nesting deeper than S3_XML_DEPTH_MAX.
 */
#ifndef S3IO_XML_H
#define S3IO_XML_H

#include <stddef.h>

struct err;

#define S3_XML_DEPTH_MAX 16

/** Called at the end of each element: its path from the root ("ListBucketResult/Contents/Key",
 * namespaces left out) and the text directly in it, entities resolved. Non-zero ends the reading
 * and becomes its return value (-1: with err set). */
typedef int s3_xml_visit(void *context, const char *path, const char *text, struct err *err);

/** Read one whole document. 0; what visit returned; or -1 with err (ERR_NET: not well-formed, ends
 * early, too deep, with a document type). */
int s3_xml_read(const void *data, size_t bytes, s3_xml_visit *visit, void *context,
                struct err *err);

struct buf;
/** Append text with & < > " and control characters escaped, as an element's content. */
void s3_xml_escape(struct buf *out, const char *text);

#endif
