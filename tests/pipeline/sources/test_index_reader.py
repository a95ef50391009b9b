from penstock.pipeline.sources.index_reader import IndexReader

CONTENT = bytes(range(256)) * 40


def reader(block: int) -> tuple[IndexReader, list[tuple[int, int]]]:
    asked: list[tuple[int, int]] = []

    def read_at(begin: int, length: int) -> bytes:
        asked.append((begin, length))
        return CONTENT[begin : begin + length]

    return IndexReader(read_at, 0, len(CONTENT), block), asked


def test_bytes_that_follow_cost_no_further_read():
    file, asked = reader(1000)
    assert [file.read(at, 10) for at in range(0, 900, 10)] == [CONTENT[at : at + 10] for at in range(0, 900, 10)]
    assert asked == [(0, 1000)]


def test_jumps_read_from_where_they_lead_to():
    file, asked = reader(1000)
    assert file.read(0, 10) + file.read(5000, 10) + file.read(4000, 10) == b"".join(
        CONTENT[at : at + 10] for at in (0, 5000, 4000)
    )
    assert asked == [(0, 1000), (5000, 1000), (4000, 1000)]


def test_a_read_may_be_longer_than_a_block_and_ends_with_the_file():
    file, asked = reader(16)
    assert file.read(100, 5000) == CONTENT[100:5100]
    assert file.read(len(CONTENT) - 4, 100) == CONTENT[-4:]
    assert file.read(len(CONTENT), 1) == b""
    assert asked == [(100, 5000), (len(CONTENT) - 4, 4)]


def test_a_part_has_places_and_an_end_of_its_own():
    file, _ = reader(16)
    part = file.part(1000, 50)
    assert (part.begin, part.size) == (1000, 50)
    assert part.read(10, 1000) == CONTENT[1010:1050]
    assert part.part(40, 100).read(0, 100) == CONTENT[1040:1050]
