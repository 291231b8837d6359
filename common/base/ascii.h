/*
 * ascii: character classes and case for protocol bytes, independent of the locale
 *
 * Threads    values; any thread
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/attrs.h"

static inline char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static inline char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }
static inline bool ascii_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool ascii_is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static inline bool ascii_is_alnum(char c) { return ascii_is_digit(c) || ascii_is_alpha(c); }
/* space, tab, CR, LF, VT, FF */
static inline bool ascii_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static inline bool ascii_is_blank(char c) { return c == ' ' || c == '\t'; }
/* 32 to 126 */
static inline bool ascii_is_print(char c) { return c >= 32 && c < 127; }
static inline bool ascii_is_8bit(char c) { return ((unsigned char)c & 0x80) != 0; }
/* Value of a hexadecimal digit, or -1. */
static inline int ascii_hex_value(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
/* Lower-cases n bytes in place. */
void ascii_lower_buf(char *p, size_t n);
/* strcasecmp for ASCII: <0, 0, >0. */
int ascii_casecmp(const char *a, const char *b);
