/*
 * crc32c: the Castagnoli checksum (RFC 3720 B.4, polynomial 0x1EDC6F41 reflected)
 *
 * Purpose    frames of the journal and the result log
 * Threads    any
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Continues from `crc` (0 to begin). crc32c(crc32c(0, a), b) equals the checksum of a followed by b. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
