"""What the disk allows: records appended and flushed in batches.

A file is written once with zeros, as a recycled journal segment would be, and
then overwritten from the start: one write and one fdatasync for each batch.
A batch of 10 (100) records is the most that 10 (100) waiting sessions can
share, so records per second here is the most that so many sessions can have
answered, if nothing else costs anything.
"""

import os
import time

RECORD = 2048
SEGMENT = 64 << 20


def flushed_records_per_second(fd, batch, seconds):
    data = os.urandom(RECORD * batch)
    offset = flushes = 0
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        if offset + len(data) > SEGMENT:
            offset = 0
        offset += os.pwrite(fd, data, offset)
        os.fdatasync(fd)
        flushes += 1
    return flushes * batch / (now - begin)


def probe(directory, seconds):
    path = os.path.join(directory, "disk-probe")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        zeros = bytes(1 << 20)
        for _ in range(SEGMENT >> 20):
            os.write(fd, zeros)
        os.fsync(fd)
        return {str(batch): flushed_records_per_second(fd, batch, seconds)
                for batch in (1, 10, 100)}
    finally:
        os.close(fd)
        os.unlink(path)
