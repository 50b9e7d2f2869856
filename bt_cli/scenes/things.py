"""What a drawn scene can show: the everyday things, their names, and which of them may meet in which split."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 28, 36),
    "orange": (255, 138, 10),
    "yellow": (252, 222, 34),
    "green": (36, 168, 58),
    "blue": (34, 92, 232),
    "purple": (140, 48, 196),
    "pink": (255, 132, 196),
    "brown": (122, 72, 34),
    "black": (34, 34, 40),
    "white": (246, 246, 248),
}

ROWS, COLUMNS = 12, 11


@dataclass(frozen=True)
class Thing:
    """A thing with its names. `emoji` is empty for drawn shapes, which always carry a colour.

    `natural` is the colour that the untinted emoji plainly has, so that "a red apple" is true of it.
    """

    name: str
    emoji: str
    synonyms: tuple[str, ...] = ()
    natural: str | None = None
    irregular: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The usual name first."""
        return (self.name, *self.synonyms)

    def plural(self, name: str) -> str:
        """The plural of one of this thing's names."""
        if self.irregular is not None and name == self.name:
            return self.irregular
        if name.endswith(("s", "sh", "ch", "x")):
            return name + "es"
        if name.endswith("y") and name[-2] not in "aeiou":
            return name[:-1] + "ies"
        return name + "s"


# name, emoji, synonyms, natural colour, irregular plural
_EMOJI: tuple[tuple[str, str, str, str, str], ...] = (
    ("cat", "🐈", "kitten", "", ""),
    ("dog", "🐕", "puppy", "", ""),
    ("horse", "🐎", "pony", "brown", ""),
    ("cow", "🐄", "", "", ""),
    ("pig", "🐖", "", "pink", ""),
    ("sheep", "🐑", "", "", "sheep"),
    ("elephant", "🐘", "", "", ""),
    ("camel", "🐪", "", "", ""),
    ("giraffe", "🦒", "", "", ""),
    ("lion", "🦁", "", "", ""),
    ("tiger", "🐅", "", "orange", ""),
    ("bear", "🐻", "", "brown", ""),
    ("panda", "🐼", "", "", ""),
    ("koala", "🐨", "", "", ""),
    ("fox", "🦊", "", "orange", ""),
    ("monkey", "🐒", "", "", ""),
    ("rabbit", "🐇", "bunny", "", ""),
    ("frog", "🐸", "", "green", ""),
    ("turtle", "🐢", "tortoise", "green", ""),
    ("snake", "🐍", "", "green", ""),
    ("crocodile", "🐊", "alligator", "green", ""),
    ("whale", "🐳", "", "blue", ""),
    ("dolphin", "🐬", "", "blue", ""),
    ("fish", "🐠", "", "", "fish"),
    ("octopus", "🐙", "", "", ""),
    ("crab", "🦀", "", "orange", ""),
    ("snail", "🐌", "", "", ""),
    ("butterfly", "🦋", "", "orange", ""),
    ("bee", "🐝", "", "", ""),
    ("ladybug", "🐞", "beetle", "red", ""),
    ("spider", "🕷", "", "", ""),
    ("rooster", "🐓", "", "", ""),
    ("duck", "🦆", "", "", ""),
    ("owl", "🦉", "", "brown", ""),
    ("penguin", "🐧", "", "", ""),
    ("flamingo", "🦩", "", "pink", ""),
    ("parrot", "🦜", "", "", ""),
    ("swan", "🦢", "", "white", ""),
    ("bat", "🦇", "", "brown", ""),
    ("kangaroo", "🦘", "", "", ""),
    ("zebra", "🦓", "", "", ""),
    ("dinosaur", "🦕", "", "green", ""),
    ("unicorn", "🦄", "", "", ""),
    ("dragon", "🐉", "", "green", ""),
    ("apple", "🍎", "", "red", ""),
    ("banana", "🍌", "", "yellow", ""),
    ("pear", "🍐", "", "green", ""),
    ("lemon", "🍋", "", "yellow", ""),
    ("strawberry", "🍓", "", "red", ""),
    ("watermelon", "🍉", "melon", "", ""),
    ("pineapple", "🍍", "", "", ""),
    ("tomato", "🍅", "", "red", "tomatoes"),
    ("carrot", "🥕", "", "orange", ""),
    ("eggplant", "🍆", "aubergine", "purple", ""),
    ("avocado", "🥑", "", "", ""),
    ("mushroom", "🍄", "toadstool", "", ""),
    ("croissant", "🥐", "", "", ""),
    ("pretzel", "🥨", "", "", ""),
    ("pizza", "🍕", "", "", ""),
    ("burger", "🍔", "hamburger", "", ""),
    ("taco", "🌮", "", "", ""),
    ("cookie", "🍪", "biscuit", "", ""),
    ("cake", "🎂", "", "", ""),
    ("donut", "🍩", "doughnut", "", ""),
    ("lollipop", "🍭", "", "", ""),
    ("cup", "☕", "mug", "", ""),
    ("car", "🚗", "automobile", "red", ""),
    ("taxi", "🚕", "cab", "yellow", ""),
    ("bus", "🚌", "", "", ""),
    ("truck", "🚚", "lorry", "", ""),
    ("tractor", "🚜", "", "green", ""),
    ("ambulance", "🚑", "", "", ""),
    ("bicycle", "🚲", "bike", "", ""),
    ("scooter", "🛵", "", "yellow", ""),
    ("train", "🚂", "locomotive", "", ""),
    ("plane", "🛩", "airplane", "", ""),
    ("helicopter", "🚁", "", "yellow", ""),
    ("rocket", "🚀", "", "", ""),
    ("boat", "⛵", "sailboat", "", ""),
    ("ship", "🚢", "", "", ""),
    ("house", "🏠", "home", "", ""),
    ("castle", "🏰", "", "", ""),
    ("church", "⛪", "", "", ""),
    ("tent", "⛺", "", "orange", ""),
    ("tree", "🌳", "", "green", ""),
    ("palm", "🌴", "", "", ""),
    ("cactus", "🌵", "", "green", ""),
    ("sunflower", "🌻", "", "", ""),
    ("tulip", "🌷", "", "", ""),
    ("rose", "🌹", "", "red", ""),
    ("leaf", "🍁", "", "red", "leaves"),
    ("moon", "🌙", "crescent", "yellow", ""),
    ("cloud", "☁", "", "", ""),
    ("snowman", "⛄", "", "", "snowmen"),
    ("volcano", "🌋", "", "", "volcanoes"),
    ("rainbow", "🌈", "", "", ""),
    ("umbrella", "☂", "parasol", "", ""),
    ("clock", "⏰", "", "red", ""),
    ("book", "📕", "", "red", ""),
    ("pencil", "✏", "", "", ""),
    ("key", "🔑", "", "yellow", ""),
    ("lock", "🔒", "padlock", "", ""),
    ("bell", "🔔", "", "yellow", ""),
    ("candle", "🕯", "", "", ""),
    ("door", "🚪", "", "brown", ""),
    ("television", "📺", "tv", "", ""),
    ("camera", "📷", "", "", ""),
    ("guitar", "🎸", "", "", ""),
    ("violin", "🎻", "fiddle", "brown", ""),
    ("drum", "🥁", "", "", ""),
    ("trumpet", "🎺", "", "", ""),
    ("basketball", "🏀", "", "orange", ""),
    ("balloon", "🎈", "", "red", ""),
    ("gift", "🎁", "present", "", ""),
    ("trophy", "🏆", "", "yellow", "trophies"),
    ("crown", "👑", "", "yellow", ""),
    ("hat", "🎩", "", "black", ""),
    ("boot", "👢", "", "brown", ""),
    ("shirt", "👕", "", "", ""),
    ("dress", "👗", "", "blue", ""),
    ("backpack", "🎒", "rucksack", "red", ""),
    ("robot", "🤖", "", "", ""),
    ("ghost", "👻", "", "white", ""),
)
_SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "ring", "cross", "hexagon")


def _things() -> tuple[Thing, ...]:
    emoji = tuple(
        Thing(name, glyph, (synonym,) if synonym else (), natural or None, irregular or None)
        for name, glyph, synonym, natural, irregular in _EMOJI
    )
    return emoji + tuple(Thing(name, "") for name in _SHAPES)


THINGS: tuple[Thing, ...] = _things()
THING: dict[str, Thing] = {thing.name: thing for thing in THINGS}
SPLITS = ("train", "val", "test")

# 5 shares no factor with the 132 places, so this walk fills all of them, and every row and column gets things of all
# kinds (animals, food, ...). Neighbours in the list share rows: a cat and a dog meet in the test split.
_PLACE: dict[str, int] = {thing.name: index * 5 % (ROWS * COLUMNS) for index, thing in enumerate(THINGS)}


def pair_split(first: str, second: str) -> str:
    """The split in which two things may share a picture: "train", "val" or "test".

    The things lie on a grid. Two of one row meet in test pictures only, two of one column in validation pictures
    only, all others in training: so a split's scenes of three or four things hold pairs of that split alone. A thing
    may be with its like anywhere.
    """
    if first == second:
        raise ValueError(f"{first!r} is one thing, not a pair")
    row_a, column_a = divmod(_PLACE[first], COLUMNS)
    row_b, column_b = divmod(_PLACE[second], COLUMNS)
    if row_a == row_b:
        return "test"
    return "val" if column_a == column_b else "train"


@cache
def partners(name: str, split: str) -> frozenset[str]:
    """The things that may stand beside `name` in a picture of `split`."""
    return frozenset(other for other in THING if other != name and pair_split(name, other) == split)
