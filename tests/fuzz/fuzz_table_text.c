/*
 * Text of lookup tables, and what is found in it afterwards. The first byte picks the format; every line's first word is
 * asked for, so that offsets that point nowhere are seen.
 */
#include "common/base/buf.h"
#include "common/table/table_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask_all(const struct table_content *c, struct span text)
{
    struct arena *a = arena_new(0);
    struct span line, word;
    for (int i = 0; i < 50 && span_next_token(&text, "\n", &line); i++) {
        struct span value = { NULL, 0 };
        struct err e = ERR_INIT;
        if (!span_next_token(&line, " \t:", &word))
            continue;
        if (c->ops->find(c, word, a, &value, &e) == LOOKUP_FOUND)
            (void)span_rfind(value, '\0');
        (void)!c->ops->find(c, word, NULL, NULL, &e);
    }
    arena_free(&a);
}

/* The C library's regcomp() takes time and memory without bound for repetitions of repetitions: not ours to find. */
static bool is_costly_regexp(const uint8_t *data, size_t size)
{
    int repeats = 0;
    for (size_t i = 0; i < size; i++)
        repeats += data[i] == '*' || data[i] == '+' || data[i] == '?' || data[i] == '{';
    return data[0] == 'R' && repeats > 6;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096 || is_costly_regexp(data, size))
        return 0;
    struct buf text = BUF_INIT(0);
    struct err e = ERR_INIT;
    struct table_content *c = NULL;
    struct table_load in = { .spec = "fuzz:", .name = SPAN_LIT("fuzz"), .text = &text };
    buf_add(&text, data + 1, size - 1);
    bool ok = false;
    switch (data[0]) {
    case 'A':
        in.flags = TABLE_ALIASES;
        ok = table_text_load(&in, &c, &e);
        break;
    case 'R':
        ok = table_regexp_load(&in, &c, &e);
        break;
    case 'P':
        ok = table_pcre_load(&in, &c, &e);
        break;
    case 'C':
        ok = table_cidr_load(&in, &c, &e);
        break;
    default:
        in.strict = data[0] & 1;
        ok = table_text_load(&in, &c, &e);
    }
    if (ok) {
        ask_all(c, span_of((const char *)data + 1, size - 1));
        c->ops->free(c);
    }
    buf_free(&text);
    return 0;
}
