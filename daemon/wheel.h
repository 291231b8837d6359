/*
 * wheel: deadlines of parked sessions
 *
 * Purpose    a hashed timing wheel: insert and remove are O(1), most timers are cancelled before they fire
 * Source     DESIGN "Hazards" (timers); Varghese and Lauck 1987
 * Threads    not locked: the owner's lock guards it. Removing a session from the wheel is what gives its remover
 *            ownership of a parked session.
 * Limits     granularity WHEEL_TICK_MS; deadlines beyond one turn are looked at once a turn
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/sess.h"

#define WHEEL_TICK_MS 64
#define WHEEL_SLOTS 1024 /* a turn is about a minute */

struct wheel {
    struct sess *slot[WHEEL_SLOTS]; /* doubly linked through wheel_prev and wheel_next */
    uint64_t occupied[WHEEL_SLOTS / 64]; /* a bit for each slot that is not empty */
    int64_t now_tick;               /* every tick up to this one has been expired */
    uint64_t count;
};

void wheel_init(struct wheel *w, int64_t now_ms);
/* s must not be in the wheel. */
void wheel_insert(struct wheel *w, struct sess *s, int64_t at_ms);
void wheel_remove(struct wheel *w, struct sess *s);
/* Takes one session whose deadline has passed out of the wheel, or NULL when there is none (left). */
struct sess *wheel_expire(struct wheel *w, int64_t now_ms);
/* Milliseconds until the wheel needs a look: 0 to WHEEL_TICK_MS * few; -1 when it is empty. */
int wheel_wait_ms(const struct wheel *w, int64_t now_ms);
