"""One finding: what is wrong, and what to write instead."""

from dataclasses import dataclass

from flaxinit.signal.reports.repeats import together

# Networks train down to a depth of about 6 ξ, where ξ is the depth in which a signal falls by e
# (Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, section 6). What has changed by more than e⁶
# between the first and the last of repeated layers is lost.
DEPTHS = 6.0

# What `Layer.rough` says of queries and keys: their size matters only in a product of two.
FACTOR = "makes a factor of an inner product, as queries and keys do"


@dataclass(frozen=True)
class Finding:
    """What is wrong at some kernels.

    Attributes:
        what: in two or three words, such as ``"vanishing signal"``.
        paths: of the kernels.
        text: a sentence with the numbers.
        write: what to write instead.
    """

    what: str
    paths: tuple[str, ...]
    text: str
    write: str

    def __str__(self) -> str:
        return f"{self.what}, {together(self.paths)}: {self.text} Write: {self.write}"
