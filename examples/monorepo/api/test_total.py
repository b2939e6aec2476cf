from total import total


def test_a_basket():
    assert total({"tea": 2, "cake": 1}) == 8.80


def test_an_empty_one():
    assert total({}) == 0
