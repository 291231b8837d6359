#include "common/mail/smtpreply.h"
#include "daemon/deliver/dsn_text.h"

void dsn_text_split(struct span s, const char *fallback, char out[static 12], struct span *dsn, struct span *text)
{
    s = span_trim(s);
    size_t n = dsn_code_length(s);
    if (n == 0 || n > 11) {
        *dsn = span_cstr(fallback);
        *text = s;
        return;
    }
    memcpy(out, s.p, n);
    out[0] = fallback[0];
    *dsn = span_of(out, n);
    *text = span_trim(span_from(s, n));
}
