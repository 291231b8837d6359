/*
 * Files for queue import: with the first byte even, a file; odd, the JSON of an envelope up to a byte 1, then the content. An envelope that
 * is taken can be sent, and exported and imported again it is the same and so is what stands behind it.
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "daemon/cmd/exported_mail.h"
#include "daemon/control/envelope_json.h"

/* The envelope of a message that was made from it; NULL: it is refused. */
static json_t *through_message(const json_t *j)
{
    struct msg *m = msg_new();
    struct err e = ERR_INIT;
    json_t *out = NULL;
    if (envelope_decode(j, m, &e)) {
        const struct envelope *v = &m->env;
        CHECK(v->rcpt_count > 0 && v->arrival_us > 0);
        CHECK(!fuzz_has_control(v->sender) && !fuzz_has_control(v->envid) && !fuzz_has_control(v->helo) && !fuzz_has_control(v->message_id));
        for (uint32_t i = 0; i < v->rcpt_count; i++) {
            const struct msg_rcpt *r = &v->rcpts[i];
            CHECK(r->addr.n > 0 && r->orig.n > 0 && !fuzz_has_control(r->addr) && !fuzz_has_control(r->orig) && !fuzz_has_control(r->orcpt));
            CHECK(!(r->notify & NOTIFY_NEVER) || r->notify == NOTIFY_NEVER);
        }
        out = envelope_encode(m, (v->flags & ENV_HOLD) != 0, true);
        CHECK(out != NULL);
    } else {
        CHECK(e.text[0] != '\0');
    }
    msg_unref(&m);
    return out;
}

/* From here on nothing may change any more. */
static void there_and_back(const json_t *envelope, struct span content)
{
    struct buf file = BUF_INIT(0);
    struct err e = ERR_INIT;
    exported_mail_put_envelope(&file, envelope);
    buf_add_span(&file, content);
    struct span rest = buf_span(&file);
    CHECK(exported_mail_check(rest, &e) || !exported_mail_check(content, &e));
    json_t *again = exported_mail_take_envelope(&rest, &e);
    bool is_folded = content.n > 0 && (content.p[0] == ' ' || content.p[0] == '\t'); /* then it is no message either */
    CHECK(again != NULL || is_folded);
    if (again != NULL && !is_folded) {
        json_t *once_more = through_message(again);
        CHECK(json_equal(again, (json_t *)(uintptr_t)envelope) && span_eq(rest, content));
        CHECK(once_more != NULL && json_equal(once_more, again));
        json_decref(once_more);
    }
    json_decref(again);
    buf_free(&file);
}

static void check_line_ends(struct span text)
{
    struct buf from_lf = BUF_INIT(0), kept = BUF_INIT(0);
    exported_mail_to_crlf(text, true, &from_lf);
    exported_mail_to_crlf(text, false, &kept);
    CHECK(span_eq(buf_span(&kept), text));
    for (size_t i = 0; i < from_lf.n; i++)
        CHECK(from_lf.p[i] != '\n' || (i > 0 && from_lf.p[i - 1] == '\r'));
    buf_free(&from_lf);
    buf_free(&kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct span in = span_of((const char *)data, n), text;
    struct err e = ERR_INIT;
    json_t *j = NULL;
    if (n < 2 || n > 8192)
        return 0;
    if (fuzz_byte(&in) & 1) {
        text = fuzz_part(&in);
        j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
        text = in;
    } else {
        text = in;
        if (exported_mail_check(text, &e))
            j = exported_mail_take_envelope(&text, &e);
        CHECK(text.n <= in.n && text.p + text.n == in.p + in.n && (j == NULL) == (text.n == in.n));
    }
    json_t *envelope = j != NULL ? through_message(j) : NULL;
    if (envelope != NULL)
        there_and_back(envelope, text);
    check_line_ends(text);
    json_decref(envelope);
    json_decref(j);
    return 0;
}
