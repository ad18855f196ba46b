from __future__ import annotations

from edgeq.mobile import names


def test_names_that_would_be_the_same_are_told_apart() -> None:
    assert names.unlike(["a", "b", "a", "a"]) == ["a", "b", "a2", "a3"]
    assert len(set(names.unlike(["a", "a2", "a"]))) == 3


def test_what_is_no_identifier_gets_a_word_in_front() -> None:
    assert [names.camel(text, {"fun"}) for text in ("int8-static.pte", "4bit.onnx", "fun", "")] == [
        "int8StaticPte",
        "value4bitOnnx",
        "valueFun",
        "value",
    ]
