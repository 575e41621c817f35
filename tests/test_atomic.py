import errno
import os
import stat

import pytest

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "a.bin"
    for content in (b"first", b"second"):
        with atomic_open(target) as file:
            file.write(content)
        assert target.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_open(tmp_path / "a.bin") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write():
        with atomic_open(target) as file:
            file.write(b"half")
            raise failure

    with pytest.raises(failure):
        write()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    target = tmp_path / "a.bin"
    with pytest.raises(InputError, match="No space left") as caught, atomic_open(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(target) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_and_a_folder_as_target(tmp_path):
    with pytest.raises(InputError, match="No such file"), atomic_open(tmp_path / "none" / "a.bin"):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Not a directory"), atomic_open(tmp_path / "file" / "a.bin"):
        pass
    (tmp_path / "file").unlink()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"), atomic_open(tmp_path / "folder") as file:
        file.write(b"x")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == []


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.bin").write_bytes(b"old")
    os.symlink("disk/a.bin", tmp_path / "link.bin")
    with atomic_open(tmp_path / "link.bin") as file:
        file.write(b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "disk" / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path / "disk") == ["a.bin"]
