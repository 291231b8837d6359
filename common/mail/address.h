/*
 * address: mail addresses, between the quoted form of SMTP and headers and the plain form of everything else
 *
 * Purpose    Inside the program an address is in internal form: local part without quotes or backslashes, '@', domain;
 *            the last '@' separates. The null sender is the empty address. A local part alone has no '@'.
 *            External form is what SMTP commands, headers and logs show: the local part quoted where it must be.
 *            This is the only place that converts, and that knows what a valid domain is.
 * Source     RFC 5321 4.1.2 (paths), 4.1.3 (literals), RFC 5322 3.4 and 4.4 (comments, routes), RFC 6531 3.3 (UTF-8);
 *            postconf(5) strict_rfc821_envelopes, resolve_numeric_domain
 * Threads    values; any thread
 * Limits     ADDR_MAX bytes; the caller limits the line it comes from
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"

#define ADDR_MAX 1024        /* of an address in either form; RFC 5321 asks for 256 */
#define ADDR_DOMAIN_MAX 255
#define ADDR_LABEL_MAX 63

enum addr_status {
    ADDR_OK,
    ADDR_SYNTAX,      /* not an address, or one with control characters */
    ADDR_BAD_DOMAIN,  /* an address whose domain cannot exist (or an unparsable literal) */
    ADDR_NOT_ASCII,   /* bytes over 127 that are not UTF-8, or that ADDR_UTF8 did not allow */
    ADDR_TOO_LONG,
};

enum { /* flags of addr_parse() */
    ADDR_STRICT = 1 << 0,          /* <> required; no comments, phrases, ':', empty local part: strict_rfc821_envelopes */
    ADDR_UTF8 = 1 << 1,            /* UTF-8 in local part and domain */
    ADDR_ANY_8BIT = 1 << 2,        /* any byte over 127 in the local part, as old mailers send */
    ADDR_NUMERIC_DOMAIN = 1 << 3,  /* user@1.2.3.4 and user@12345 pass: resolve_numeric_domain */
    ADDR_ANY_DOMAIN = 1 << 4,      /* do not look at the domain's validity */
};

struct addr {
    struct span text;    /* internal form; empty for <> */
    struct span given;   /* the same, and the final dot of the domain if there was one: for texts */
    struct span local;   /* part of text */
    struct span domain;  /* part of text: host name, or literal with its brackets; empty when there is none */
    bool has_domain;     /* there was an '@' */
    bool is_literal;     /* [1.2.3.4] or [IPv6:...] */
    bool is_ascii;
};

/*
 * One address in external form, alone in `text`: "<@relay:\"joe user\"@example.com>", without ADDR_STRICT also
 * "joe@example.com", "Joe <joe@example.com> (comment)", "<@example.com>" (nobody there) and brackets too many. Source routes are
 * dropped, one trailing dot of the domain too; "a@b@example.com" is a@b at example.com. "<>" and "" give an empty address. Result
 * in the arena.
 */
enum addr_status addr_parse(struct span text, unsigned flags, struct arena *a, struct addr *out) MUST_CHECK;
/*
 * Length of the path at the start of an SMTP argument: up to the blank that ends it, blanks inside <> and quotes do not.
 * Equal to text.n when there is no such blank.
 */
size_t addr_path_length(struct span text);

/* Splits an internal form at the last '@'; false (and *domain empty) when there is none. */
bool addr_split(struct span internal, struct span *local, struct span *domain);
/* Appends the external form, without < >. */
void addr_quote(struct buf *b, struct span internal);
/* The same into the arena; the address itself when nothing needs a quote. */
struct span addr_quoted(struct arena *a, struct span internal);
/*
 * The internal form of what a person copied from a log or a listing: a local part in quotes loses them and its backslashes; anything
 * else, also what is no address, stays as it is.
 */
struct span addr_unquoted(struct arena *a, struct span external);
/* True when the local part is a dot-string (RFC 5321): needs no quotes. */
bool addr_local_is_plain(struct span local);

/*
 * Host name rules of a mail domain: labels of 1 to 63 letters, digits, '-' or '_', no '-' at either end of a label, not
 * digits and dots only (unless numeric_ok), at most 255 bytes; or with utf8 a name that IDNA2008 accepts.
 */
bool addr_domain_is_valid(struct span domain, bool utf8, bool numeric_ok);
/* "[1.2.3.4]" or "[IPv6:2001:db8::1]" with a real address inside. */
bool addr_literal_is_valid(struct span domain);
/* Well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). */
bool utf8_is_valid(struct span s);
bool span_is_ascii(struct span s);
