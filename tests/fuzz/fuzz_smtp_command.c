/*
 * A whole session: the first byte chooses the client and the size of the pieces in which the rest arrives. Nothing may
 * crash, leak, or leave the session waiting for a callback that nobody owes it.
 */
#include "tests/unit/smtpd_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct fixture *the_fixture(void)
{
    static struct fixture *f;
    if (f == NULL) {
        f = fixture_new("smtpd_client_connection_count_limit = 0\nsmtpd_forbid_unauth_pipelining = no\n"
                        "message_size_limit = 5000\nhopcount_limit = 5\nsmtpd_hard_error_limit = 1000\n"
                        "smtpd_error_sleep_time = 0\nsmtpd_recipient_limit = 3\n");
        f->env.log = NULL;
    }
    return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fixture *f = the_fixture();
    if (n < 1)
        return 0;
    struct span in = span_of((const char *)data + 1, n - 1);
    size_t piece = (data[0] & 0x7f) ? (data[0] & 0x7fu) : in.n;
    fixture_open(f, data[0] & 0x80 ? "10.0.0.1" : "192.0.2.1");
    while (in.n > 0 && f->is_open) {
        size_t k = piece < in.n ? piece : in.n;
        fixture_send(f, span_of(in.p, k));
        in = span_from(in, k);
    }
    if (f->is_open && f->want == WAIT_CALLBACK)
        abort();
    fixture_close(f);
    if (f->spool->begun != f->spool->ended)
        abort();
    return 0;
}
