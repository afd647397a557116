"""Numbers and symbols of figures."""

from scaling_fits.figures.style import short, symbol


def test_numbers_and_symbols_as_they_are_printed():
    assert [short(v) for v in (0.25, 3e4, 1e6, 1.5e9, 1e18, 3e19, -0.02)] == [
        "0.25",
        "30k",
        "1M",
        "1.5G",
        "$10^{18}$",
        "$3\\times10^{19}$",
        "−0.02",
    ]
    assert symbol("kappa_1") == "$\\kappa _{1}$" and symbol("loss N^alpha") == "loss $N^{\\alpha }$"
