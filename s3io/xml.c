#include "s3io/xml.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

struct reader {
    XML_Parser parser;
    s3_xml_visit *visit;
    void *context;
    struct err *err;
    struct buf path;
    struct buf texts[S3_XML_DEPTH_MAX]; /* of the elements that are open, outermost first */
    size_t path_ends[S3_XML_DEPTH_MAX]; /* path.bytes without the element */
    int depth;
    int rc;              /* what visit returned, if not 0 */
    const char *refusal; /* why we stopped expat; NULL: we did not */
};

static void refuse(struct reader *reader, const char *why)
{
    reader->refusal = why;
    XML_StopParser(reader->parser, XML_FALSE);
}

static void XMLCALL on_start(void *context, const char *name, const char **attributes)
{
    struct reader *reader = context;
    const char *colon = strrchr(name, ':');

    (void)attributes;
    if (reader->depth == S3_XML_DEPTH_MAX) {
        refuse(reader, "elements are nested too deep");
        return;
    }
    reader->path_ends[reader->depth] = reader->path.bytes;
    reader->texts[reader->depth].bytes = 0;
    if (reader->depth > 0)
        buf_append(&reader->path, "/", 1);
    name = colon == NULL ? name : colon + 1;
    buf_append(&reader->path, name, strlen(name));
    reader->depth++;
}

static void XMLCALL on_text(void *context, const char *text, int bytes)
{
    struct reader *reader = context;

    if (reader->depth > 0 && reader->refusal == NULL)
        buf_append(&reader->texts[reader->depth - 1], text, (size_t)bytes);
}

static void XMLCALL on_end(void *context, const char *name)
{
    struct reader *reader = context;

    (void)name;
    /* Expat may still call after it was told to stop. */
    if (reader->refusal != NULL || reader->rc != 0)
        return;
    reader->depth--;
    reader->rc = reader->visit(reader->context, buf_text(&reader->path),
                               buf_text(&reader->texts[reader->depth]), reader->err);
    reader->path.bytes = reader->path_ends[reader->depth];
    if (reader->rc != 0)
        XML_StopParser(reader->parser, XML_FALSE);
}

static void XMLCALL on_doctype(void *context, const char *name, const char *system,
                               const char *public, int internal)
{
    (void)name, (void)system, (void)public, (void)internal;
    refuse(context, "it has a document type declaration");
}

int s3_xml_read(const void *data, size_t bytes, s3_xml_visit *visit, void *context, struct err *err)
{
    struct reader reader = {.visit = visit, .context = context, .err = err};
    enum XML_Status status = XML_STATUS_ERROR;

    reader.parser = XML_ParserCreate(NULL);
    if (reader.parser == NULL || bytes > INT_MAX) {
        XML_ParserFree(reader.parser);
        return err_set(err, ERR_NET, "cannot read an XML answer of %zu bytes", bytes);
    }
    XML_SetUserData(reader.parser, &reader);
    XML_SetElementHandler(reader.parser, on_start, on_end);
    XML_SetCharacterDataHandler(reader.parser, on_text);
    XML_SetStartDoctypeDeclHandler(reader.parser, on_doctype);
    status = XML_Parse(reader.parser, bytes == 0 ? "" : data, (int)bytes, XML_TRUE);
    if (reader.rc == 0 && status != XML_STATUS_OK)
        reader.rc =
            err_set(err, ERR_NET, "the answer is not the XML that was expected: %s (byte %lld)",
                    reader.refusal != NULL ? reader.refusal
                                           : XML_ErrorString(XML_GetErrorCode(reader.parser)),
                    (long long)XML_GetCurrentByteIndex(reader.parser));
    XML_ParserFree(reader.parser);
    buf_release(&reader.path);
    for (int i = 0; i < S3_XML_DEPTH_MAX; i++)
        buf_release(&reader.texts[i]);
    return reader.rc;
}

void s3_xml_escape(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || strchr("&<>\"'", *text) != NULL)
            buf_printf(out, "&#%d;", *text);
        else
            buf_append(out, text, 1);
    }
}
