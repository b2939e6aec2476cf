"""Roman numerals."""

NUMERALS = {
    "M": 1000, "CM": 900, "D": 500, "CD": 400, "C": 100, "XC": 90, "L": 50, "XL": 40, "X": 10, "IX": 9, "V": 5, "IV": 4,
    "I": 1,
}  # fmt: skip


def to_roman(number: int) -> str:
    """1 to 3999. Raises ValueError for others, which the Romans could not write."""
    if not 0 < number < 4000:
        raise ValueError(f"{number} has no Roman numeral")
    text = ""
    for numeral, value in NUMERALS.items():
        count, number = divmod(number, value)
        text += numeral * count
    return text
