import operator
import pickle

import pytest

from penstock.transforms.outcome import Filtered, Rejected, keep


def test_rejected_pickles_with_its_code_and_message() -> None:
    again = pickle.loads(pickle.dumps(Rejected("too_odd", "expected even, found 3")))
    assert (type(again), again.code, again.message) == (Rejected, "too_odd", "expected even, found 3")
    assert str(again) == "too_odd: expected even, found 3"


def test_filtered_pickles_with_its_reason() -> None:
    again = pickle.loads(pickle.dumps(Filtered("blurred")))
    assert (type(again), again.reason, str(again)) == (Filtered, "blurred", "blurred")


def test_keep_passes_what_is_wanted_and_filters_the_rest() -> None:
    op = keep(operator.itemgetter("good"), "not good")
    wanted = {"key": "a", "good": True}
    assert op(wanted) is wanted
    with pytest.raises(Filtered) as caught:
        op({"key": "b", "good": False})
    assert caught.value.reason == "not good"


def test_keep_pickles_compares_and_reads() -> None:
    op = keep(bool, "empty")
    assert pickle.loads(pickle.dumps(op)) == op == keep(bool, "empty") != keep(bool, "other")
    assert repr(op) == "Keep(predicate=<class 'bool'>, reason='empty')"


@pytest.mark.parametrize(("predicate", "reason"), [(3, "x"), (bool, ""), (bool, " "), (bool, None)])
def test_keep_refuses_what_it_cannot_use(predicate: object, reason: object) -> None:
    with pytest.raises(ValueError, match=r"keep\(.*expected .* found"):
        keep(predicate, reason)  # type: ignore[arg-type]
