"""English: day before month, and the clock of 24 hours. Templates name these, and no format of their own."""

DATE_FORMAT = "j M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = "j M Y H:i"
SHORT_DATETIME_FORMAT = "j M, H:i"
