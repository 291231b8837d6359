"""A small ext4 file system on a loop device whose power can be cut.

    with LoopDisk(directory) as disk:    # raises cases.Skip where that is not possible
        disk.path                        # where it is mounted
        disk.cut()                       # from now on nothing reaches the disk, not even the file system's own log
        disk.remount()                   # as after the power came back
"""
import array
import fcntl
import os
import pathlib
import shutil
import subprocess
import time

import cases

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


class LoopDisk:
    def __init__(self, directory, megabytes):
        self.path = pathlib.Path(directory) / "disk"
        self.image = pathlib.Path(directory) / "image"
        self.device = None
        self.is_mounted = False
        if os.geteuid() != 0:
            raise cases.Skip("mounting needs root")
        for tool in ("losetup", "mkfs.ext4", "mount", "umount"):
            if shutil.which(tool) is None:
                raise cases.Skip(f"no {tool}")
        try:
            with open(self.image, "wb") as f:
                f.truncate(megabytes << 20)
            run("mkfs.ext4", "-q", "-F", str(self.image))
            self.device = run("losetup", "--find", "--show", str(self.image))
            self.path.mkdir()
            self.mount()
        except (subprocess.CalledProcessError, OSError) as e:
            self.close()
            raise cases.Skip(f"no loop device with ext4 here: {getattr(e, 'stderr', None) or e}") from None

    def mount(self):
        run("mount", "-t", "ext4", self.device, str(self.path))
        self.is_mounted = True

    def cut(self):
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, array.array("I", [NOLOGFLUSH]))
        finally:
            os.close(fd)

    def unmount(self):
        for attempt in range(100):
            try:
                run("umount", str(self.path))
                self.is_mounted = False
                self.wait_until_released()
                return
            except subprocess.CalledProcessError:
                if attempt == 99:
                    raise
                time.sleep(0.05)  # somebody still has a file open

    def wait_until_released(self):
        """Another mount namespace (unshare) may have a copy of the mount: the next one would be of the file system that was cut."""
        alive = pathlib.Path("/sys/fs/ext4") / os.path.basename(self.device)
        deadline = time.monotonic() + 120
        while alive.exists():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.device} is still mounted in another mount namespace")
            time.sleep(0.01)

    def remount(self):
        self.unmount()
        self.mount()

    def close(self):
        try:
            if self.is_mounted:
                self.unmount()
        finally:
            if self.device is not None:
                run("losetup", "--detach", self.device)
                self.device = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
