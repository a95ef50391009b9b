"""Who has a folder for itself, and what becomes of a lease whose owner is gone, slow or at its end."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from s3_stub import S3Stub

from penstock.pipeline.storage import files, leases
from penstock.pipeline.storage.leases import Owner, leased_folder

NAME = "_work/lease.json"
_NUMBERS = itertools.count()
ELSEWHERE = replace(Owner.this_process("other"), machine="another machine")


@pytest.fixture
def folder() -> str:
    return f"memory://leases-{next(_NUMBERS)}/dataset/generation"


def uri(folder: str) -> str:
    return files.join(folder, NAME)


def names(folder: str) -> list[str]:
    return [info.uri for info in files.list_folder(folder)]


@pytest.mark.parametrize("local", [True, False])
def test_one_at_a_time_has_it(folder: str, tmp_path: Path, local: bool):
    place = str(tmp_path) if local else folder
    with leased_folder(place, NAME, "one", stale=1) as lease:
        assert lease
        assert lease.is_held()
        with leased_folder(place, NAME, "two", patience=0.5, stale=1) as second:
            assert second is None
    with leased_folder(place, NAME, "two", patience=0.5, stale=1) as second:
        assert second
    assert names(place) == []


def test_who_writes_is_alive_and_who_waits_is_told_so_at_once(folder: str):
    with leased_folder(folder, NAME, "one", stale=2) as lease:
        start = time.monotonic()
        with leased_folder(folder, NAME, "two", stale=2) as second:
            assert second is None
        assert time.monotonic() - start < 1.9  # its first renewal tells
        time.sleep(2.1)
        assert lease
        assert lease.is_held()


def test_a_lease_that_does_not_change_is_taken_over_and_its_owner_learns_of_it(folder: str):
    files.write_bytes(uri(folder), ELSEWHERE.encode())
    start = time.monotonic()
    with leased_folder(folder, NAME, "two", stale=0.6) as lease:
        assert lease
        assert time.monotonic() - start >= 0.6
        files.write_bytes(uri(folder), ELSEWHERE.encode())  # taken over in turn
        time.sleep(0.3)
        assert not lease.is_held()
    owner = Owner.decode(files.read_bytes(uri(folder)))
    assert owner == ELSEWHERE  # and not removed by who lost it


def test_who_cannot_renew_it_knows_before_another_may_take_it(folder: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise files.StoreError("no network")

    with leased_folder(folder, NAME, "one", stale=0.8) as lease:
        monkeypatch.setattr(files, "replace_exactly", fail)
        assert lease
        time.sleep(0.3)
        assert lease.is_held()
        time.sleep(0.4)
        assert not lease.is_held()
        monkeypatch.undo()


def test_a_lease_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(folder: str):
    words = "Owner.this_process('x').encode().decode()"
    code = f"from penstock.pipeline.storage.leases import Owner; print({words})"
    content = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    files.write_bytes(uri(folder), content)
    start = time.monotonic()
    with leased_folder(folder, NAME, "two") as lease:
        assert lease
    assert time.monotonic() - start < 1


def test_a_process_that_got_the_id_of_a_dead_one_does_not_keep_its_lease():
    ours = Owner.this_process("x")
    assert not ours.is_gone()
    assert replace(ours, started=ours.started - 1).is_gone()
    assert not replace(ours, started=ours.started - 1, machine="another").is_gone()
    assert not replace(ours, process=os.getpid(), machine="").is_gone()


def test_a_lease_that_is_about_to_be_removed_is_not_taken_before_it_is_gone(folder: str):
    files.write_bytes(uri(folder), replace(Owner.this_process("one"), released=True).encode())
    with leased_folder(folder, NAME, "two", patience=0.4, stale=5) as lease:
        assert lease is None
    timer = threading.Timer(0.3, files.remove_files, [[uri(folder)]])
    timer.start()
    with leased_folder(folder, NAME, "two", stale=5) as lease:
        assert lease


def test_what_is_no_lease_is_waited_for_and_taken_over(folder: str):
    files.write_bytes(uri(folder), b"{")
    with leased_folder(folder, NAME, "two", stale=0.4) as lease:
        assert lease


def test_many_who_want_it_get_it_one_after_another(folder: str):
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            with leased_folder(folder, NAME, str(number), patience=0, stale=30) as lease:
                if lease:
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
                    return
            time.sleep(0.02)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_what_is_held_is_removed_but_for_the_lease(folder: str):
    files.write_bytes(files.join(folder, "_work/a"), b"a")
    with leased_folder(folder, NAME, "one") as lease:
        assert lease
        lease.remove(files.join(folder, "_work"))
        assert names(folder) == [uri(folder)]
    assert names(folder) == []


def test_a_folder_that_its_last_owner_removes_is_made_again(tmp_path: Path):
    folder, entered = str(tmp_path / "generation"), threading.Event()

    def remove() -> None:
        with leased_folder(folder, NAME, "one") as lease:
            assert lease
            entered.set()
            time.sleep(0.3)
            lease.remove(folder)

    thread = threading.Thread(target=remove)
    thread.start()
    entered.wait()
    with leased_folder(folder, NAME, "two", patience=5) as lease:
        assert lease
        assert os.path.isdir(folder)
    thread.join()


def test_a_renewal_whose_answer_was_lost_is_no_loss(folder: str, monkeypatch: pytest.MonkeyPatch):
    replace_exactly, lost = files.replace_exactly, []

    def lose_the_first(*arguments: Any) -> Any:
        version = replace_exactly(*arguments)
        if not lost:
            lost.append(version)
            raise files.UnreachableError("no answer")
        return version

    with leased_folder(folder, NAME, "one", stale=0.6) as lease:
        monkeypatch.setattr(files, "replace_exactly", lose_the_first)
        time.sleep(1.0)
        assert lost
        assert lease
        assert lease.is_held()
    assert names(folder) == []


def test_an_owner_that_slept_with_its_machine_does_not_take_itself_for_one(
    folder: str, monkeypatch: pytest.MonkeyPatch
):
    clock = time.clock_gettime
    with leased_folder(folder, NAME, "one") as lease:
        assert lease
        assert lease.is_held()
        monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 100 * (which == time.CLOCK_BOOTTIME))
        assert not lease.is_held()


def test_a_release_whose_answer_was_lost_does_not_remove_the_next_owners_lease(
    s3: S3Stub, monkeypatch: pytest.MonkeyPatch
):
    key, left = f"generation/{NAME}", ["lost"]
    with leased_folder("s3://b/generation", NAME, "one") as lease:
        assert lease
        s3.fault = lambda kind: left.pop() if kind == "delete" and left else None
        monkeypatch.setattr(time, "sleep", lambda _: s3.objects["b"].setdefault(key, ELSEWHERE.encode()))
    assert not left
    assert s3.objects["b"] == {key: ELSEWHERE.encode()}


def test_a_removal_is_not_tried_again_by_who_lost_the_lease(s3: S3Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "5")
    s3.objects["b"] = {"generation/a": b"", "generation/b": b""}
    store_lease: Any = leases._StoreLease
    held = iter([True, False])
    with leased_folder("s3://b/generation", NAME, "one") as lease:
        assert lease
        monkeypatch.setattr(store_lease, "is_held", lambda _: next(held, False))
        s3.fault = lambda kind: "503" if s3.requests.count("delete") == 1 else None
        with pytest.raises(files.StoreError, match="found it lost; run again"):
            lease.remove("s3://b/generation")
    assert {"generation/a", "generation/b"} < set(s3.objects["b"])


def test_a_store_that_fails_at_the_release_does_no_harm(folder: str, monkeypatch: pytest.MonkeyPatch):
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(leased_folder(folder, NAME, "one"))
        monkeypatch.setattr(files, "remove_files", lambda *_: (_ for _ in ()).throw(files.StoreError("no")))
    owner = Owner.decode(files.read_bytes(uri(folder)))
    assert owner
    assert owner.released
    assert leases.STALE > 0
