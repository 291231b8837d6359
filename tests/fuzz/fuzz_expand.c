/*
 * $name and its conditional forms. The first part is the text, the others are the values of $a, $b, $c ... in turn. The
 * result keeps to its limits, and a text without one is itself.
 */
#include "tests/fuzz/fuzz.h"

#include "common/conf/expand.h"
#include "common/base/mem.h"

#define NAMES 6

struct world {
    char *value[NAMES];
    unsigned asked;
};

static const char *lookup(void *arg, struct span name)
{
    struct world *w = arg;
    w->asked++;
    CHECK(name.n > 0);
    if (name.n != 1 || name.p[0] < 'a' || name.p[0] >= 'a' + NAMES)
        return NULL;
    return w->value[name.p[0] - 'a'];
}

static void count_name(void *arg, struct span name)
{
    CHECK(name.n > 0);
    ++*(unsigned *)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct world w = { .asked = 0 };
    struct span rest = span_of((const char *)data, n), text = fuzz_part(&rest);
    struct buf out = BUF_INIT(0);
    struct err e = ERR_INIT;
    unsigned names = 0;
    if (n > 8192)
        return 0;
    for (int i = 0; i < NAMES && rest.n > 0; i++) {
        struct span v = fuzz_part(&rest);
        w.value[i] = xstrndup(v.p, v.n);
    }
    bool ok = expand_text(text, lookup, &w, &out, &e);
    CHECK(ok || e.text[0] != '\0');
    CHECK(!ok || out.n <= EXPAND_BYTES_MAX);
    CHECK(w.asked <= EXPAND_STEPS_MAX + 1);
    if (span_find(text, '$') < 0)
        CHECK(ok && span_eq(buf_span(&out), text));
    expand_names(text, count_name, &names);
    if (names == 0 && ok)
        CHECK(w.asked == 0);
    for (size_t i = 0; i < text.n; i++) {
        size_t k = text.p[i] == '{' || text.p[i] == '(' ? expand_group_len(span_from(text, i)) : 0;
        CHECK(k == 0 || (k >= 2 && i + k <= text.n));
    }
    for (int i = 0; i < NAMES; i++)
        free(w.value[i]);
    buf_free(&out);
    return 0;
}
