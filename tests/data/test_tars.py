import io
import itertools
import os
import signal
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_jax.data.tars import Member, Torn, _arrays, members, samples
from contrastive_jax.errors import InputError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1
)


def tar(files, kind=tarfile.PAX_FORMAT):
    """A tar with these (name, content) pairs, as bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def listed(content):
    return list(members("t.tar", lambda start, length: content[start : start + length], len(content)))


def write(path, files):
    path.write_bytes(tar(files))
    return str(path)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES.map(lambda name: f"{name * 9}.x"), st.binary(max_size=1500)), max_size=5),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_every_member_lies_where_it_is_said_to(files, kind):
    content = tar(files, kind)
    found = listed(content)
    assert [(each.name, content[each.start : each.start + each.size]) for each in found] == files


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_deep_names(kind):
    files = [("d" * 90 + "/" + "n" * 90 + ".jpg", b"one"), ("é/" * 20 + "x.txt", b"two")]
    content = tar(files, kind)
    assert [each.name for each in listed(content)] == [name for name, _ in files]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_tar_cut_anywhere_gives_what_is_whole_before_the_cut(place, count):
    files = [(f"{n}.jpg", bytes([n]) * (700 * n)) for n in range(count)]
    content = tar(files)
    whole = listed(content)
    cut = content[: place % len(content)]
    if not cut:
        return
    try:
        found = listed(cut)
    except InputError:
        assert len(cut) < 512
        return
    intact = [each for each in whole if each.start + each.size <= len(cut)]
    assert [each for each in found if isinstance(each, Member)] == intact
    if len(intact) < count:
        assert isinstance(found[-1], Torn)


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", "a\\..\\x.jpg", "a/.."])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    path = write(tmp_path / "t.tar", [("good.jpg", b"x"), (name, b"y")])
    with pytest.raises(InputError, match="leaves the folder") as error:
        samples(path)
    assert path in str(error.value)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "symbolic link"), (tarfile.LNKTYPE, "hard link"), (tarfile.CHRTYPE, "device")],
)
def test_links_and_devices_are_refused(tmp_path, kind, word):
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(InputError, match=rf"t\.tar: member 'a\.jpg' is a {word}"):
        samples(str(tmp_path / "t.tar"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no tar file"),
        (b"\x1f\x8b" + bytes(600), "compressed (gzip)"),
        (b"some text that is no tar" * 100, "is no tar file"),
        (tar([("a.jpg", b"x" * 5000)])[:1000], "torn at its start"),
    ],
)
def test_what_is_no_tar(tmp_path, content, words):
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(InputError) as error:
        samples(str(tmp_path / "t.tar"))
    assert words in str(error.value)


def header(name, size, kind=b"0"):
    """A header as ustar has it, with any text for a size."""
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 12)
    block += b" " * 8 + kind
    block += bytes(512 - len(block))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "block",
    [
        header(b"x.jpg", b"-0000002000"),  # back to the start, for ever
        header(b"x.jpg", b"77777777777"),
        header(b"././@LongLink", b"\x80" + b"\xff" * 11, b"L"),  # more than there is memory
        header(b"x", b"%011o" % 512, b"x") + (b"9" * 5000 + b" size=1\n")[:512],
        header(b"x", b"%011o" % 5120, b"x") + b"5020 size=" + b"9" * 5009 + b"\n" + bytes(100),
    ],
)
def test_sizes_that_lead_nowhere_are_a_tear_or_left_out(tmp_path, block):
    content = tar([("a.jpg", b"x" * 600)])
    (tmp_path / "t.tar").write_bytes(content[:1536] + block + content)
    assert samples(str(tmp_path / "t.tar"))["names"] == ["jpg"]


def test_more_extensions_than_two_bytes_count():
    index = _arrays({"a": {str(number): (0, 0) for number in range(66_000)}})
    assert index["names"][index["extensions"][65_999]] == "65999"


def test_samples_are_members_of_one_key(tmp_path):
    files = [
        ("a/1.jpg", b"1"),
        ("a/1.seg.PNG", b"2"),
        ("b.x/1.jpg", b"3"),
        ("./2.txt", b"4"),
        ("a/1.json", b"5"),
        ("README", b""),
        (".hidden", b""),
        ("2.pyd", b"pickled"),
        ("2.model.pth", b"pickled"),
        ("2.txt", b"again"),
    ]
    index = samples(write(tmp_path / "t.tar", files))
    ends = [0, *index["key_ends"].tolist()]
    keys = [bytes(index["keys"][start:end]).decode() for start, end in itertools.pairwise(ends)]
    assert keys == ["a/1", "b.x/1", "2"]
    named = [index["names"][number] for number in index["extensions"].tolist()]
    parts = [named[start:end] for start, end in itertools.pairwise(index["first"])]
    assert parts == [["jpg", "seg.png", "json"], ["jpg"], ["txt"]]
    assert (index["pickles"], index["doubles"], index["nameless"], index["double"]) == (2, 1, 2, "2.txt")


def test_a_tear_takes_the_sample_that_it_cuts(tmp_path):
    files = [(f"{n}.{kind}", bytes(900)) for n in range(3) for kind in ("jpg", "txt")]
    content = tar(files)
    starts = [each.start for each in listed(content)]
    for cut, whole in [
        (starts[5] + 100, 2),  # in the text of the last sample
        (starts[5] - 500, 2),  # in its header
        (starts[4] + 100, 2),  # in its picture
        (starts[5] + 900, 3),  # behind its last byte: the end mark alone is gone
    ]:
        (tmp_path / "t.tar").write_bytes(content[:cut])
        index = samples(str(tmp_path / "t.tar"))
        assert len(index["key_ends"]) == whole
        assert f"{whole} samples before are whole" in index["torn"]


def test_a_flipped_bit_in_a_header_loses_what_follows_and_says_so(tmp_path):
    content = bytearray(tar([(f"{n}.jpg", bytes(900)) for n in range(4)]))
    content[listed(content)[2].start - 512 + 5] ^= 1
    (tmp_path / "t.tar").write_bytes(content)
    index = samples(str(tmp_path / "t.tar"))
    assert len(index["key_ends"]) == 2
    assert "breaks off at byte" in index["torn"]


def test_the_offsets_of_a_real_tar(data_folder):
    path = data_folder / "emoji_noto_multilingual" / "test-0000.tar"
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        expected = [(entry.name, entry.offset_data, entry.size) for entry in archive]
    found = list(
        members(str(path), lambda start, length: content[start : start + length], os.stat(path).st_size)
    )
    assert [(each.name, each.start, each.size) for each in found] == expected


@pytest.mark.parametrize("kind", [b"L", b"x"])
def test_headers_longer_than_any_name_are_refused(tmp_path, kind):
    path = tmp_path / "t.tar"
    with path.open("wb") as file:
        file.write(header(b"long", b"%011o" % (1 << 32), kind))
        file.truncate((1 << 32) + 2048)
    assert path.stat().st_blocks < 100
    with pytest.raises(InputError, match=r"the header at byte 0 says that it is 4,294,967,296 bytes long"):
        samples(str(path))


def test_a_global_header_and_pax_lines_that_overlap_end(tmp_path):
    lines = b"3 a" * 200_000 + b"="  # each three bytes long, and each looked for an end in all that follow
    content = tar([("a.jpg", b"x")])
    block = header(b"x", b"%011o" % len(lines), b"x") + lines + bytes(-len(lines) % 512)
    (tmp_path / "t.tar").write_bytes(block + content)
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it takes the square of the time"))
    signal.alarm(60)
    try:
        assert samples(str(tmp_path / "t.tar"))["names"] == ["jpg"]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize("padding", [0, 512, 10240])
def test_tars_that_were_joined_are_read_to_the_end(padding):
    """As by `cat a.tar b.tar`; what is no tar behind the end is left alone, and so is an end without one."""
    one, other = tar([("a.txt", b"one")]), tar([("b.txt", b"two"), ("c.txt", b"")])
    joined = one + bytes(padding) + other
    found = listed(joined)
    assert [(each.name, joined[each.start : each.start + each.size]) for each in found] == [
        ("a.txt", b"one"),
        ("b.txt", b"two"),
        ("c.txt", b""),
    ]
    for behind in (b"", bytes(padding), b"no tar" * 300, bytes(padding) + b"\xff" * 512):
        assert [each.name for each in listed(one + behind)] == ["a.txt"]
