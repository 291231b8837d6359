/*
 * exported_mail: a message of the queue as a file
 *
 * Purpose    what queue export writes and queue import reads: the message as it is in the spool (CRLF line ends), with one header
 *            field before it, X-Posthouse-Envelope, that has the envelope as JSON (control/envelope_json.h), folded. Any mail program
 *            can read it; import takes the field off again and puts the rest back byte by byte. A message without that field is
 *            handed in like one that sendmail(1) was given.
 * Source     ours; posthousectl(8)
 * Threads    any
 * Errors     *e says what is wrong with the file
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/span.h"

/* Appends the field. */
void exported_mail_put_envelope(struct buf *out, const json_t *envelope);
/* A message begins with a header field, and its header ends with an empty line or with the message. */
bool exported_mail_check(struct span text, struct err *e) MUST_CHECK;
/* Takes the field off *text; a new reference. NULL without *e: there is none. */
json_t *exported_mail_take_envelope(struct span *text, struct err *e);
/* Appends the text with CRLF line ends. One that had them (not is_lf) keeps every byte. */
void exported_mail_to_crlf(struct span text, bool is_lf, struct buf *out);
