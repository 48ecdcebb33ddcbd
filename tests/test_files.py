"""Results are whole or absent, and earlier ones survive whatever happens."""

import errno

import pytest

from couplingkit.errors import OutputError
from couplingkit.files import check_free, new_file, new_folder


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
    with pytest.raises(OutputError, match="--overwrite"), new_folder(target):
        pass
    with pytest.raises(OutputError, match="--overwrite"), new_file(target):
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
        check_free(tmp_path / "run", overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="no folder"):
        check_free(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="a folder"):
        check_free(tmp_path / "run", overwrite=True, folder=False)
    monkeypatch.chdir(tmp_path / "run")
    for path in (".", "", ".."):
        with pytest.raises(OutputError, match="folder you are in"):
            check_free(type(tmp_path)(path), overwrite=True)


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match="No space left"), new_file(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be"):
        check_free(tmp_path / "file" / "run", overwrite=False)
