/*
 * A field name is looked up by its length first: names of other lengths cost one comparison a row, and most lines are
 * not fields that anybody asks for.
 */
#include "common/base/ascii.h"
#include "common/mail/address.h"
#include "common/mail/headers.h"

static const struct { const char *name; size_t n; } fields[] = {
#define HDR(id, name) [HDR_##id] = { name, sizeof(name) - 1 },
#include "common/mail/headers.def"
#undef HDR
};
_Static_assert(HDR_COUNT <= 32, "seen has 32 bits");

void hdr_scan_init(struct hdr_scan *h, struct arena *a)
{
    *h = (struct hdr_scan){ .arena = a, .is_first = true, .current = HDR_COUNT };
}

size_t hdr_name_length(struct span line)
{
    size_t n = 0;
    while (n < line.n && line.p[n] > 32 && line.p[n] < 127 && line.p[n] != ':')
        n++;
    size_t i = n;
    while (i < line.n && ascii_is_blank(line.p[i]))
        i++;
    return i < line.n && line.p[i] == ':' ? n : 0;
}

static int find_field(struct span name)
{
    char first = ascii_lower(name.p[0]);
    for (int i = 0; i < HDR_COUNT; i++)
        if (fields[i].n == name.n && ascii_lower(fields[i].name[0]) == first &&
            span_ieq(name, span_of(fields[i].name, fields[i].n)))
            return i;
    return HDR_COUNT;
}

/* Folded Message-IDs exist: "Message-ID:" and the id on the next line. Line ends and blanks are dropped. */
static void add_message_id(struct hdr_scan *h, struct span value)
{
    value = span_trim(value);
    size_t room = HDR_MESSAGE_ID_MAX - h->message_id.n;
    if (value.n > room)
        value.n = room;
    if (value.n == 0)
        return;
    if (h->message_id.n == 0) {
        h->message_id = arena_dup_span(h->arena, value);
        return;
    }
    if (!h->message_id_has_room) { /* once: its sender may fold it after every byte */
        char *p = arena_alloc(h->arena, HDR_MESSAGE_ID_MAX + 1);
        memcpy(p, h->message_id.p, h->message_id.n);
        h->message_id.p = p;
        h->message_id_has_room = true;
    }
    memcpy((char *)h->message_id.p + h->message_id.n, value.p, value.n);
    h->message_id.n += value.n;
}

static void begin_field(struct hdr_scan *h, struct span line, size_t name_n)
{
    h->current = find_field(span_of(line.p, name_n));
    if (h->current == HDR_COUNT)
        return;
    bool again = hdr_has(h, (enum hdr_id)h->current);
    h->seen |= UINT32_C(1) << h->current;
    if (h->current == HDR_RECEIVED)
        h->received_count++;
    else if (h->current == HDR_MESSAGE_ID && !again)
        add_message_id(h, span_from(line, (size_t)span_find(line, ':') + 1));
    else if (h->current == HDR_MESSAGE_ID)
        h->current = HDR_COUNT;
}

enum hdr_line hdr_scan_line(struct hdr_scan *h, struct span line)
{
    if (line.n == 0) {
        h->is_done = true;
        return HDR_LINE_EMPTY;
    }
    if (ascii_is_blank(line.p[0]) && !h->is_first) {
        h->has_8bit = h->has_8bit || !span_is_ascii(line);
        if (h->current == HDR_MESSAGE_ID)
            add_message_id(h, line);
        return HDR_LINE_FOLDED;
    }
    size_t name_n = hdr_name_length(line);
    if (name_n == 0) {
        h->is_done = true;
        return HDR_LINE_BODY;
    }
    h->has_8bit = h->has_8bit || !span_is_ascii(line);
    h->is_first = false;
    h->name_n = name_n;
    begin_field(h, line, name_n);
    return HDR_LINE_FIELD;
}
