/*
 * maildir_seen: was this message put into the Maildir before a crash?
 *
 * Purpose    a daemon that is killed between the rename into new/ and the result record finds the message undelivered
 *            when it starts again. The final name of a delivery is made of queue ID and recipient, so it can look.
 * Source     ours
 * Threads    any
 */
#pragma once
#include <stdbool.h>
#include "common/base/span.h"

/*
 * True when new/NAME, or NAME with flags in cur/, is there and has the size and the first bytes that headers and content
 * (LF line ends; content with CRLF, to be written with LF) would give. `dir` is the open Maildir.
 */
bool maildir_has_already(int dir, const char *name, struct span headers, struct span content);
