import unittest

from roman import to_roman


class Roman(unittest.TestCase):
    def test_numbers(self):
        for number, text in {1: "I", 4: "IV", 1994: "MCMXCIV", 3999: "MMMCMXCIX"}.items():
            self.assertEqual(to_roman(number), text)

    def test_no_zero(self):
        with self.assertRaises(ValueError):
            to_roman(0)
