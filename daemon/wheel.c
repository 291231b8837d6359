/*
 * wheel_expire() walks tick by tick from now_tick to the present; a slot holds sessions of several turns, those of later
 * turns are left where they are. wheel_wait_ms() finds the next occupied slot by its bit (it is asked before each poll), so
 * that an idle daemon with long deadlines wakes at most once per occupied slot and turn.
 */
#include "daemon/wheel.h"

static size_t slot_of(int64_t tick)
{
    return (size_t)tick & (WHEEL_SLOTS - 1);
}

void wheel_init(struct wheel *w, int64_t now_ms)
{
    memset(w, 0, sizeof *w);
    w->now_tick = now_ms / WHEEL_TICK_MS;
}

void wheel_insert(struct wheel *w, struct sess *s, int64_t at_ms)
{
    int64_t tick = at_ms / WHEEL_TICK_MS + 1; /* never early */
    if (tick <= w->now_tick)
        tick = w->now_tick + 1;
    s->wheel_at_ms = tick * WHEEL_TICK_MS;
    struct sess **head = &w->slot[slot_of(tick)];
    s->wheel_prev = NULL;
    s->wheel_next = *head;
    if (*head != NULL)
        (*head)->wheel_prev = s;
    *head = s;
    w->occupied[slot_of(tick) / 64] |= 1ULL << (slot_of(tick) % 64);
    w->count++;
}

void wheel_remove(struct wheel *w, struct sess *s)
{
    size_t slot = slot_of(s->wheel_at_ms / WHEEL_TICK_MS);
    if (s->wheel_prev != NULL)
        s->wheel_prev->wheel_next = s->wheel_next;
    else if ((w->slot[slot] = s->wheel_next) == NULL)
        w->occupied[slot / 64] &= ~(1ULL << (slot % 64));
    if (s->wheel_next != NULL)
        s->wheel_next->wheel_prev = s->wheel_prev;
    s->wheel_prev = s->wheel_next = NULL;
    w->count--;
}

static struct sess *due_in_slot(struct wheel *w, int64_t tick, int64_t now_ms)
{
    for (struct sess *s = w->slot[slot_of(tick)]; s != NULL; s = s->wheel_next) {
        if (s->wheel_at_ms <= now_ms) {
            wheel_remove(w, s);
            return s;
        }
    }
    return NULL;
}

struct sess *wheel_expire(struct wheel *w, int64_t now_ms)
{
    int64_t now_tick = now_ms / WHEEL_TICK_MS;
    if (w->count == 0) {
        w->now_tick = now_tick > w->now_tick ? now_tick : w->now_tick;
        return NULL;
    }
    if (now_tick - w->now_tick > WHEEL_SLOTS) /* more than a turn late: one look at each slot is enough */
        w->now_tick = now_tick - WHEEL_SLOTS;
    while (w->now_tick < now_tick) {
        struct sess *s = due_in_slot(w, w->now_tick + 1, now_ms);
        if (s != NULL)
            return s;
        w->now_tick++;
    }
    return NULL;
}

int wheel_wait_ms(const struct wheel *w, int64_t now_ms)
{
    if (w->count == 0)
        return -1;
    size_t first = slot_of(w->now_tick + 1);
    for (size_t i = 0; i <= WHEEL_SLOTS / 64; i++) { /* the word where it begins twice: its end first, then its beginning */
        size_t word = (first / 64 + i) % (WHEEL_SLOTS / 64);
        uint64_t bits = w->occupied[word];
        if (i == 0)
            bits &= ~0ULL << (first % 64);
        if (bits == 0)
            continue;
        size_t slot = word * 64 + (size_t)__builtin_ctzll(bits);
        int64_t tick = w->now_tick + 1 + (int64_t)((slot - first) & (WHEEL_SLOTS - 1));
        int64_t wait = tick * WHEEL_TICK_MS - now_ms;
        return wait < 0 ? 0 : (int)wait;
    }
    return 0;
}
