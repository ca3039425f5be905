import ctypes
import unicodedata
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MIN_LENGTH, MAX_LENGTH = 12, 128
COMMON = Path(__file__).with_name("common_passwords.txt")
# No character is written in more than four (Unicode Standard Annex 15, on NFC). To compose takes time by the
# square of the accents that stand together, half a second for a form that is full of them.
_COMPOSED_MAX = 4 * MAX_LENGTH
_CHARACTERS_MIN = 3
_M_MMAP_THRESHOLD = -3


class WeakPasswordError(ValueError):
    """A password that is too short, too long, or among the first guesses: choose another."""


class Passwords:
    """Argon2id with the minimum that OWASP's Password Storage Cheat Sheet asks for: 19 MiB, t=2, p=1.

    A check takes about 30 ms of a core and its memory: callers limit how many run at once.
    """

    def __init__(self) -> None:
        _return_large_blocks()
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._nobody = self._hasher.hash("nobody has this password")

    def hash(self, password: str, *, username: str = "") -> str:
        """The hash to store; WeakPasswordError as `require_strong` says."""
        self.require_strong(password, username=username)
        return self._hasher.hash(_composed(password))

    @staticmethod
    def require_strong(password: str, *, username: str = "") -> None:
        """WeakPasswordError for one that is too short, too long, or guessed at first.

        Those are a piece again and again, the user's name with little else, and a list of common ones, in any
        case (NIST SP 800-63B, section 5.1.1.2, asks for that and for no rules of composition).
        """
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise WeakPasswordError(f"A password has {MIN_LENGTH} to {MAX_LENGTH} characters.")
        plain = _composed(password).casefold()
        is_common = plain in COMMON.read_text("utf-8").splitlines()
        if is_common or _is_repeated(plain) or _is_named(plain, username):
            raise WeakPasswordError("This password is among the first that are guessed; choose another.")

    @staticmethod
    def require_another(old: str, new: str) -> None:
        """WeakPasswordError when both are one."""
        if _composed(old) == _composed(new):
            raise WeakPasswordError("This is the password as it is; choose another.")

    def matches(self, stored: str | None, password: str) -> bool:
        """Whether the password belongs to the stored hash; as slow when there is none (an unknown user).

        Or when the password is longer than any that can be stored.
        """
        if len(password) > _COMPOSED_MAX:
            stored, password = None, ""
        try:
            matches = self._hasher.verify(stored or self._nobody, _composed(password))
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False
        return matches and stored is not None


def _is_repeated(plain: str) -> bool:
    """Whether it is made of one piece that would be too short by itself."""
    period = (plain + plain).find(plain, 1)
    return period < min(len(plain), MIN_LENGTH)


def _is_named(plain: str, username: str) -> bool:
    """Whether the user's name is in it, and besides no more than two different characters."""
    return bool(username) and username in plain and len(set(plain.replace(username, ""))) < _CHARACTERS_MIN


def _return_large_blocks() -> None:
    """Let glibc give the memory of a check back to the system; by itself it would learn to keep it."""
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)


def _composed(password: str) -> str:
    """Keyboards differ in how they write an é; NFC makes one of both (RFC 8265, section 4.2.2)."""
    return unicodedata.normalize("NFC", password)
