"""The one error that users see, and the hint at its end."""

from hypothesis import given
from hypothesis import strategies as st

from nanofit.common.errors import UserError, nearest
from nanofit.config.recipe import known_names


def test_the_hint_names_the_nearest_known_word() -> None:
    assert nearest("n_layers", ["n_head", "n_layer", "n_embd"]) == " (did you mean 'n_layer'?)"


def test_a_word_that_is_near_nothing_gets_no_hint() -> None:
    assert nearest("xyzzy", ["n_head", "n_layer", "n_embd"]) == ""
    assert nearest("anything", []) == ""


@given(st.sampled_from([name for name in known_names() if len(name) >= 4]), st.data())
def test_a_name_with_one_letter_missing_gets_a_hint_of_a_known_name(name: str, data: st.DataObject) -> None:
    gap = data.draw(st.integers(0, len(name) - 1))
    hint = nearest(name[:gap] + name[gap + 1 :], known_names())
    assert hint.startswith(" (did you mean '")
    assert hint.removeprefix(" (did you mean '").removesuffix("'?)") in known_names()


def test_an_internal_error_is_never_taken_for_a_users_mistake() -> None:
    assert not issubclass(UserError, (ValueError, OSError, RuntimeError, AssertionError))
