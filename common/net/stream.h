/*
 * stream: a blocking conversation with deadlines, for threads that run straight-line code
 *
 * Purpose    buffers input into lines, gathers output (commands are copied, content is borrowed) and sends it with
 *            one system call where possible. Underneath is a small table of functions, so that TLS goes between
 *            stream and socket without its users noticing. Errors stick: after the first one every call returns it,
 *            so a group of writes is checked once, at stream_flush().
 * Source     ours; DESIGN "Threads" (delivery)
 * Threads    one at a time; stream_interrupt() from any thread while the owner keeps the stream alive
 * Ownership  stream_free() closes the bottom layer: the descriptor has no other closer
 * Limits     line_max per line (stream_read_line), STREAM_OUT_MAX copied bytes before output is sent by itself
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/span.h"

#define STREAM_OUT_MAX   65536
#define STREAM_IN_BYTES  4096

enum stream_status {
    STREAM_OK,
    STREAM_CLOSED,    /* the peer closed, or reset, the connection */
    STREAM_TIMEOUT,   /* the deadline passed */
    STREAM_IO,        /* any other failure; stream_errno() says which */
    STREAM_TOO_LONG,  /* this line only: cut at the limit, the rest of it is skipped. Does not stick. */
};

/*
 * One layer. recv and sendv block until something is done or the deadline passes and return the number of bytes;
 * recv gives 0 at the end; -1 with errno otherwise (ETIMEDOUT at the deadline).
 */
struct stream_ops {
    ssize_t (*recv)(void *ctx, void *p, size_t n, int64_t deadline_ms);
    ssize_t (*sendv)(void *ctx, const struct iovec *iov, int count, int64_t deadline_ms);
    /* Bytes can be had without the socket becoming readable (decrypted and waiting). NULL: never. */
    bool (*pending)(void *ctx);
    /* Ends the layer and those below, without waiting for the peer. */
    void (*close)(void *ctx);
};

struct stream_layer {
    const struct stream_ops *ops;
    void *ctx;    /* owned: released by ops->close */
};

struct stream;

/* Takes the connected, blocking socket fd. */
struct stream *stream_new_fd(int fd);
/* Takes any layer (tests, TLS at once). `fd` is the socket at the bottom, for polling; -1 when there is none. */
struct stream *stream_new_layer(struct stream_layer layer, int fd);
/* Closes and frees, sets NULL. Output that was not flushed is dropped. */
void stream_free(struct stream **s);

/* Deadline in monotonic ms for all that follows; CLOCK_NEVER (the initial value) waits for ever. */
void stream_set_deadline(struct stream *s, int64_t deadline_ms);
int64_t stream_deadline(const struct stream *s);
/* Beside the deadline each single wait for input, or for room for output, may take so long; 0 (the initial value): no limit. */
void stream_set_wait_limit(struct stream *s, int64_t limit_ms);

/*
 * The next line without its LF or CRLF, valid until the next read. Output waiting is NOT sent first. A last line
 * without an end is given out as a line; then STREAM_CLOSED.
 */
enum stream_status stream_read_line(struct stream *s, size_t line_max, struct span *line) MUST_CHECK;
/* Whatever is there, at least one byte; valid until the next read. */
enum stream_status stream_read_some(struct stream *s, struct span *out) MUST_CHECK;
/* A whole line is in the buffer: reading it does not wait. */
bool stream_has_line(const struct stream *s);
/* Bytes are in the buffer or in a layer: polling the descriptor would miss them. */
bool stream_has_input(const struct stream *s);

/* Adds to the output: copied. */
void stream_put(struct stream *s, struct span bytes);
void stream_puts(struct stream *s, const char *text);
void stream_printf(struct stream *s, const char *fmt, ...) PRINTF_FMT(2, 3);
/* Adds to the output: borrowed until the next stream_flush() returns. */
void stream_put_borrowed(struct stream *s, struct span bytes);
/* Sends all that was put. On failure the output is dropped and the error sticks. */
enum stream_status stream_flush(struct stream *s) MUST_CHECK;
/* Bytes put and not yet sent. */
size_t stream_out_pending(const struct stream *s);

/* The first error, STREAM_OK when there was none; its errno (0 for STREAM_CLOSED by an orderly end). */
enum stream_status stream_status(const struct stream *s);
int stream_errno(const struct stream *s);
/* "Connection timed out", "Connection closed by the peer", ... for people. Never NULL. */
const char *stream_error_text(const struct stream *s);

/* The socket at the bottom, for poll and getsockname; never to be closed or read. */
int stream_fd(const struct stream *s);
uint64_t stream_bytes_in(const struct stream *s);
uint64_t stream_bytes_out(const struct stream *s);

/* The top layer, to build TLS upon. */
struct stream_layer stream_layer(const struct stream *s);
/*
 * Puts a layer on top, which now owns the one that was there. Input read before the change is dropped (plaintext sent
 * ahead of STARTTLS, CVE-2011-0411); returns the number of bytes dropped. Output must have been flushed.
 */
size_t stream_set_layer(struct stream *s, struct stream_layer layer);

/*
 * For a connection that was parked: true while the peer has neither closed nor said anything. One system call.
 */
bool stream_is_quiet(struct stream *s);
/* Gives the buffers' memory back while the connection is parked; needs no input or output to be waiting. */
void stream_shrink(struct stream *s);
/* Makes a blocked owner return STREAM_CLOSED: shuts the socket down, does not close it. */
void stream_interrupt(struct stream *s);
