"""The word lists from which all text is generated, and made-up words for an open vocabulary."""

import random


def listed(text: str) -> tuple[str, ...]:
    """Words written as one string, which is easier to read and to extend than a list of quoted words."""
    return tuple(text.split())


NAMES = listed(
    "Ada Ben Cora Dan Eva Finn Gina Hugo Iris Jon Kim Leo Mia Nils Olga Paul Rosa Sam Tara Uma Vera Will Yara Zoe "
    "Anna Tom Lucy Max Nora Oscar"
)
ANIMALS = listed(
    "dog cat cow horse duck frog rabbit sheep goat owl lion tiger bear fox wolf pig hen mouse bee ant whale shark"
)
FRUITS = listed("apple banana cherry grape lemon mango orange peach pear plum melon fig")
VEGETABLES = listed("carrot onion potato bean pea cabbage pumpkin leek")
THINGS = listed(
    "ball book box bottle brush bucket button candle chair clock coat coin cup drum fork glove hammer hat key kite "
    "ladder lamp map mirror nail pen pencil pillow plate ring rope shoe spoon stamp stone table ticket towel wheel"
)
VEHICLES = listed("car bus train boat bicycle truck plane tram")
COLOURS = listed("red blue green yellow black white pink brown orange purple grey")
SHAPES = listed("circle square triangle star heart cube cone ring diamond oval")
PLACES = listed("kitchen garden park school office cellar attic barn library station bakery harbour forest hall")
ADJECTIVES = listed(
    "big small old young tall short fast slow soft hard warm cold quiet loud bright dark clean heavy light sweet "
    "sour round flat brave kind calm proud shy busy lazy"
)
VERBS = listed(
    "run walk jump swim sing read write draw cook eat drink sleep dream climb dance play work talk listen laugh "
    "build break open close push pull carry throw catch"
)
OTHERS = listed(
    "sun moon rain snow wind river lake hill road bridge tower field leaf tree flower grass sand cloud storm fire "
    "ice bread milk cheese soup honey salt sugar rice butter night day week year hour letter story song game music "
    "paper water friend family town street house window door floor wall"
)
PLAIN = tuple(
    dict.fromkeys(
        ANIMALS
        + FRUITS
        + VEGETABLES
        + THINGS
        + VEHICLES
        + COLOURS
        + PLACES
        + ADJECTIVES
        + VERBS
        + OTHERS
        + tuple(name.lower() for name in NAMES)
    )
)

_STARTS = listed("b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl gr pl pr sh sk sl sn sp st th tr")
_VOWELS = listed("a e i o u a e i o u ai ea ee oa oo ou")
_ENDS = ("", *listed("b d g k l m n p r s t x ck ft ll mp nd ng nk nt rd rk rn sh ss st"))


def made_up(rng: random.Random) -> str:
    """A pronounceable word that is in no dictionary, so that copying is learned for any spelling."""
    syllables = rng.choice((1, 1, 2, 2, 3))
    return "".join(rng.choice(_STARTS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_ENDS)


def word(rng: random.Random) -> str:
    return rng.choice(PLAIN) if rng.random() < 0.75 else made_up(rng)


def words(rng: random.Random, low: int, high: int) -> list[str]:
    """Between `low` and `high` different words."""
    wanted = rng.randint(low, high)
    found: dict[str, None] = {}
    while len(found) < wanted:
        found[word(rng)] = None
    return list(found)


def plural(noun: str) -> str:
    irregular = {"mouse": "mice", "sheep": "sheep", "wolf": "wolves", "leaf": "leaves", "child": "children"}
    irregular |= {"man": "men", "woman": "women", "foot": "feet", "tooth": "teeth", "goose": "geese", "knife": "knives"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "x", "ch", "sh")) or noun in ("potato", "mango", "tomato"):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun
