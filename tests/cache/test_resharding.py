"""A split rewritten as one file or several has the bytes of one extracted that way."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.samples import extract, header
from support.sharded import extract_shards

from cache import CacheError, FeatureCache, StaleCacheError
from cache.__main__ import main
from cache.resharding import Watch, join, split


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_joined_split_is_the_file_extracted_whole(tmp_path: Path, dtype: str) -> None:
    made = header(4500, views=2, dtype=dtype)
    one = extract(tmp_path / "one" / "train.h5", made)
    many = extract_shards(tmp_path / "many" / "train.json", made, 3)
    assert join(many, tmp_path / "joined").read_bytes() == one.read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_split_cache_is_the_shards_extracted_on_their_own(tmp_path: Path, dtype: str) -> None:
    made = header(4500, dtype=dtype)
    one = extract(tmp_path / "one" / "train.h5", made)
    extract_shards(tmp_path / "many" / "train.json", made, 3)
    split(one, tmp_path / "split", 3)
    assert contents(tmp_path / "split") == contents(tmp_path / "many")
    split(tmp_path / "split" / "train.json", tmp_path / "again", 5)
    assert join(tmp_path / "again" / "train.json", tmp_path / "joined").read_bytes() == one.read_bytes()


@pytest.mark.parametrize("at", range(1, 6))
def test_splitting_and_joining_go_on_where_they_stopped(tmp_path: Path, at: int) -> None:
    made = header(4500)
    one = extract(tmp_path / "one" / "train.h5", made)
    many = extract_shards(tmp_path / "many" / "train.json", made, 2)
    rewrites: list[tuple[Callable[[Watch], Path], str]] = [
        (lambda watch: split(one, tmp_path / "a", 2, watch), "many"),
        (lambda watch: join(many, tmp_path / "b", watch), "one"),
    ]
    for rewrite, target in rewrites:
        shares = list[float]()

        def stop(share: float, shares: list[float] = shares) -> None:
            shares.append(share)
            if len(shares) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rewrite(stop)
        made_at = rewrite(shares.append)
        assert len(shares) == 5, "a block was copied twice, or left out"
        assert shares == sorted(shares)
        assert shares[-1] == 1
        assert contents(made_at.parent) == contents(tmp_path / target)


def test_a_cache_in_the_way_is_kept(tmp_path: Path) -> None:
    one = extract(tmp_path / "a" / "train.h5", header())
    many = extract_shards(tmp_path / "b" / "train.json", header(), 2)
    before = contents(tmp_path / "a"), contents(tmp_path / "b")
    with pytest.raises(CacheError, match=r"train\.json: train\.h5 is there, another cache .* another --to"):
        split(one, tmp_path / "a", 2)
    with pytest.raises(CacheError, match=r"train\.h5: train\.json is there, another cache .* another --to"):
        join(many, tmp_path / "b")
    other = extract(tmp_path / "c" / "train.h5", header(5))
    with pytest.raises(StaleCacheError, match="made from something else"):
        join(many, other.parent)
    assert (contents(tmp_path / "a"), contents(tmp_path / "b")) == before


def test_no_folder_gets_files_of_two_divisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They would be taken for caches of their own."""
    one = extract(tmp_path / "a" / "train.h5", header())
    split(one, tmp_path / "b", 3)
    before = contents(tmp_path / "b")
    for path in (one, tmp_path / "b" / "train.json"):
        with pytest.raises(
            CacheError, match=r"train-00000-of-00003\.h5 is there, another cache .* another --to"
        ):
            split(path, tmp_path / "b", 2)
    assert contents(tmp_path / "b") == before
    split(one, tmp_path / "b", 3)
    extract(tmp_path / "b" / "train-0123456789ab.h5", header(5))  # as one that an earlier manifest lists
    assert main(["join", str(tmp_path / "b"), "--to", str(tmp_path / "c")]) == 0
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["train.h5"]
    assert not capsys.readouterr().err


def test_damage_is_not_copied(tmp_path: Path) -> None:
    many = extract_shards(tmp_path / "many" / "train.json", header(), 2)
    shard = tmp_path / "many" / "train-00001-of-00002.h5"
    with shard.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(CacheError, match=r"train-00001-of-00002\.h5: damaged: block 0"):
        join(many, tmp_path / "joined")
    assert not (tmp_path / "joined" / "train.h5").exists()


def test_commands_take_folders_and_leave_shards_to_their_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = extract(tmp_path / "one" / "train.h5", header())
    extract(tmp_path / "one" / "test.h5", header(7))
    assert main(["split", str(one.parent), "--shards", "2", "--to", str(tmp_path / "many")]) == 0
    assert main(["verify", str(tmp_path / "many")]) == 0
    assert main(["info", str(tmp_path / "many")]) == 0
    assert main(["join", str(tmp_path / "many"), "--to", str(tmp_path / "joined")]) == 0
    said = capsys.readouterr()
    assert not said.err
    verified = [line.partition(" (")[0] for line in said.out.splitlines() if ": good" in line]
    assert verified == [f"{tmp_path}/many/{name}.json: good" for name in ("test", "train")]
    assert "(2 files, 0.2 MB in 3 blocks" in said.out
    assert "shards: 2, train-00000-of-00002.h5 to train-00001-of-00002.h5" in said.out
    assert f"key: {FeatureCache(one).key}" in said.out
    assert contents(tmp_path / "joined") == contents(one.parent)


@pytest.mark.parametrize("count", ["0", "-1", "65537", "two"])
def test_a_count_that_makes_no_shards_is_one_line(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["split", "a", "--to", "b", f"--shards={count}"])
    assert stopped.value.code == 2
    assert "--shards: expected 1 to 65,536, found" in capsys.readouterr().err
