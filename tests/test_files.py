"""Results are whole or absent, and earlier ones survive whatever happens."""

import errno
import os
import subprocess
import sys

import pytest

from couplingkit.errors import OutputError
from couplingkit.files import check_place, new_file, new_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_it_is_whole(tmp_path):
    with new_folder(tmp_path / "deep" / "run") as draft:
        (draft / "rows.csv").write_text("1")
        assert not (tmp_path / "deep" / "run").exists()
    assert (tmp_path / "deep" / "run" / "rows.csv").read_text() == "1"
    assert names(tmp_path / "deep") == ["run"]
    assert names(tmp_path / "deep" / "run") == [".couplingkit", "rows.csv"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_and_keeps_the_old(tmp_path, failure):
    target = tmp_path / "run"
    with new_folder(target) as draft:
        (draft / "rows.csv").write_text("old")
    with pytest.raises(failure), new_folder(target, overwrite=True) as draft:
        (draft / "rows.csv").write_text("new")
        raise failure
    assert (target / "rows.csv").read_text() == "old"
    with pytest.raises(failure), new_file(tmp_path / "a.png") as draft:
        draft.write_text("half")
        raise failure
    assert names(tmp_path) == ["run"]


def test_overwriting_is_asked_for(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(OutputError, match="`overwrite`"), new_folder(target):
        pass
    with pytest.raises(OutputError, match="`overwrite`"), new_file(target):
        pass
    with pytest.raises(OutputError, match="did not write"), new_folder(target, overwrite=True):
        pass
    assert (target / "old").read_text() == "old"
    (target / "old").unlink()
    for name in ("new", "newer"):
        with new_folder(target, overwrite=True) as draft:
            (draft / name).write_text(name)
        assert names(target) == [".couplingkit", name]
    assert names(tmp_path) == ["run"]


def test_overwriting_deletes_nothing_that_is_not_ours(tmp_path, monkeypatch):
    with new_folder(tmp_path / "run") as draft:
        (draft / "rows.csv").write_text("1")
    (tmp_path / "run" / "photo.jpg").write_text("mine")
    with pytest.raises(OutputError, match=r"photo\.jpg"):
        check_place(tmp_path / "run", overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="no folder"):
        check_place(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="a folder"):
        check_place(tmp_path / "run", overwrite=True, folder=False)
    monkeypatch.chdir(tmp_path / "run")
    for path in (".", "", ".."):
        with pytest.raises(OutputError, match="folder you are in"):
            check_place(type(tmp_path)(path), overwrite=True)


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match="No space left"), new_file(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be"):
        check_place(tmp_path / "file" / "run", overwrite=False)


def test_a_file_of_the_users_is_not_replaced_and_ours_is(tmp_path):
    mine = tmp_path / "notes.csv"
    mine.write_text("mine")
    with pytest.raises(OutputError, match="did not write"), new_file(mine, overwrite=True):
        pass
    for text in ("by couplingkit, first", "by couplingkit, second"):
        with new_file(tmp_path / "ours.csv", overwrite=True) as draft:
            draft.write_text(text)
    assert (tmp_path / "ours.csv").read_text() == "by couplingkit, second"
    with pytest.raises(OutputError, match="`overwrite`"), new_file(tmp_path / "ours.csv"):
        pass
    assert mine.read_text() == "mine"


def test_what_lies_deep_in_a_folder_of_ours_is_seen(tmp_path):
    with new_folder(tmp_path / "run") as draft:
        (draft / "images").mkdir()
        (draft / "images" / "1.png").write_text("1")
    (tmp_path / "run" / "images" / "mine.png").write_text("mine")
    with pytest.raises(OutputError, match=r"images/mine\.png"), new_folder(tmp_path / "run", overwrite=True):
        pass
    (tmp_path / "run" / "images" / "mine.png").unlink()
    with new_folder(tmp_path / "run", overwrite=True) as draft:
        (draft / "rows.csv").write_text("1")
    assert names(tmp_path / "run") == [".couplingkit", "rows.csv"]


@pytest.mark.parametrize("source", ["run/images/1.png", "run", "run/images"])
def test_what_is_read_is_never_replaced(tmp_path, source):
    """Named as it is, or through a link."""
    with new_folder(tmp_path / "run") as draft:
        (draft / "images").mkdir()
        (draft / "images" / "1.png").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / source)
    for read in (tmp_path / source, tmp_path / "link"):
        with pytest.raises(OutputError, match="reads"):
            check_place(tmp_path / "run", overwrite=True, inputs=[read])
    assert (tmp_path / "run" / "images" / "1.png").read_text() == "1"


KILLED = """
import os, signal, sys
from pathlib import Path
from couplingkit.files import new_file, new_folder
folder = Path(sys.argv[1])
opened = (new_folder(folder / "run", overwrite=True), new_file(folder / "a.csv"))
for draft in [one.__enter__() for one in opened]:
    (draft / "rows.csv" if draft.is_dir() else draft).write_text("half")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_drafts_of_a_killed_process_go_with_the_next_and_those_of_a_living_one_stay(tmp_path):
    with new_folder(tmp_path / "run") as draft:
        (draft / "rows.csv").write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert killed.stdout == "ready\n"
    assert (tmp_path / "run" / "rows.csv").read_text() == "old"
    assert len(names(tmp_path)) == 3
    with new_folder(tmp_path / "run", overwrite=True) as first, new_folder(tmp_path / "run", overwrite=True) as second:
        assert first.is_dir()
        for draft in (first, second):
            (draft / "rows.csv").write_text("new")
    with new_file(tmp_path / "a.csv") as draft:
        draft.write_text("new")
    assert names(tmp_path) == ["a.csv", "run"]
    assert (tmp_path / "run" / "rows.csv").read_text() == "new"


def test_results_set_aside_by_a_killed_process_come_back(tmp_path):
    """Killed between the two renames: the old results lie under a draft's name, and the place is empty."""
    with new_folder(tmp_path / "run") as draft:
        (draft / "rows.csv").write_text("old")
        name = draft.name
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    gone = name.replace(f"-{os.getpid()}-", f"-{process.stdout.decode().strip()}-")
    (tmp_path / "run").rename(tmp_path / f"{gone}.old")
    with pytest.raises(ValueError, match="stop"), new_folder(tmp_path / "run", overwrite=True):
        assert (tmp_path / "run" / "rows.csv").read_text() == "old"
        raise ValueError("stop")
    assert names(tmp_path) == ["run"]


def test_places_that_cannot_be(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    for place in ("loop", "dangling", "a" * 300, "nul\0"):
        with pytest.raises(OutputError):
            check_place(tmp_path / place, overwrite=True)
    with pytest.raises(OutputError):
        check_place(tmp_path.__class__("/"), overwrite=True)
    assert names(tmp_path) == ["dangling", "loop"]
