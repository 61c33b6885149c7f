"""English names of units, currencies and signs."""

from __future__ import annotations

import unicodedata

UNITS = {
    "mph": ("mile per hour", "miles per hour"), "kWh": ("kilowatt hour", "kilowatt hours"),
    "Wh": ("watt hour", "watt hours"), "mAh": ("milliampere hour", "milliampere hours"),
    "m²": ("square meter", "square meters"), "m2": ("square meter", "square meters"),
    "km²": ("square kilometer", "square kilometers"),
    "km2": ("square kilometer", "square kilometers"),
    "cm²": ("square centimeter", "square centimeters"), "ft²": ("square foot", "square feet"),
    "cm2": ("square centimeter", "square centimeters"), "sq ft": ("square foot", "square feet"),
    "m³": ("cubic meter", "cubic meters"), "m3": ("cubic meter", "cubic meters"),
    "cm³": ("cubic centimeter", "cubic centimeters"),
    "cm3": ("cubic centimeter", "cubic centimeters"), "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"),
    "μm": ("micrometer", "micrometers"), "nm": ("nanometer", "nanometers"),
    "m": ("meter", "meters"), "kg": ("kilogram", "kilograms"), "mg": ("milligram", "milligrams"),
    "g": ("gram", "grams"), "μg": ("microgram", "micrograms"), "mcg": ("microgram", "micrograms"),
    "ml": ("milliliter", "milliliters"), "mL": ("milliliter", "milliliters"),
    "dL": ("deciliter", "deciliters"), "μL": ("microliter", "microliters"),
    "L": ("liter", "liters"), "gal": ("gallon", "gallons"), "ha": ("hectare", "hectares"),
    "mmol": ("millimole", "millimoles"), "mol": ("mole", "moles"), "IU": ("I U", "I U"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"), "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"), "Hz": ("hertz", "hertz"),
    "GB": ("gigabyte", "gigabytes"), "MB": ("megabyte", "megabytes"),
    "KB": ("kilobyte", "kilobytes"), "kB": ("kilobyte", "kilobytes"),
    "TB": ("terabyte", "terabytes"), "Kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "fps": ("frame per second", "frames per second"), "dpi": ("dot per inch", "dots per inch"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "bpm": ("beat per minute", "beats per minute"),
    "ppm": ("part per million", "parts per million"), "px": ("pixel", "pixels"),
    "kW": ("kilowatt", "kilowatts"), "MW": ("megawatt", "megawatts"),
    "GW": ("gigawatt", "gigawatts"), "W": ("watt", "watts"), "V": ("volt", "volts"),
    "kV": ("kilovolt", "kilovolts"), "mV": ("millivolt", "millivolts"),
    "mA": ("milliampere", "milliamperes"), "kΩ": ("kilohm", "kilohms"), "Ω": ("ohm", "ohms"),
    "kPa": ("kilopascal", "kilopascals"), "MPa": ("megapascal", "megapascals"),
    "hPa": ("hectopascal", "hectopascals"), "Pa": ("pascal", "pascals"),
    "kcal": ("kilocalorie", "kilocalories"), "cal": ("calorie", "calories"),
    "kJ": ("kilojoule", "kilojoules"), "J": ("joule", "joules"),
    "ms": ("millisecond", "milliseconds"), "μs": ("microsecond", "microseconds"),
    "ns": ("nanosecond", "nanoseconds"), "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"), "sec": ("second", "seconds"), "secs": ("second", "seconds"),
    "hrs": ("hour", "hours"), "hr": ("hour", "hours"), "yrs": ("year", "years"),
    "yr": ("year", "years"), "h": ("hour", "hours"), "s": ("second", "seconds"),
    "°C": ("degree celsius", "degrees celsius"), "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "°": ("degree", "degrees"), "ft": ("foot", "feet"), "yd": ("yard", "yards"),
    "lbs": ("pound", "pounds"), "lb": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "tbsp": ("tablespoon", "tablespoons"), "tsp": ("teaspoon", "teaspoons"),
    "mi": ("mile", "miles"), "dB": ("decibel", "decibels"),
}  # fmt: skip
_DOLLARS = {
    "US$": "", "HK$": "Hong Kong", "NT$": "New Taiwan", "AU$": "Australian", "A$": "Australian",
    "CA$": "Canadian", "C$": "Canadian", "S$": "Singapore", "NZ$": "New Zealand", "$": "",
}  # fmt: skip
MONEY = {
    sign: (f"{place} dollar".strip(), f"{place} dollars".strip(), "cent", "cents")
    for sign, place in _DOLLARS.items()
} | {
    "£": ("pound", "pounds", "penny", "pence"), "€": ("euro", "euros", "cent", "cents"),
    "CN¥": ("yuan", "yuan", "fen", "fen"), "JP¥": ("yen", "yen", "sen", "sen"),
    "¥": ("yen", "yen", "sen", "sen"), "￥": ("yuan", "yuan", "fen", "fen"),
    "₹": ("rupee", "rupees", "paisa", "paise"), "R$": ("real", "reais", "centavo", "centavos"),
    "MX$": ("peso", "pesos", "centavo", "centavos"), "₩": ("won", "won", "jeon", "jeon"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"), "₺": ("lira", "lira", "kurus", "kurus"),
    "₫": ("dong", "dong", "hao", "hao"), "₱": ("peso", "pesos", "centavo", "centavos"),
    "₪": ("shekel", "shekels", "agora", "agorot"), "฿": ("baht", "baht", "satang", "satang"),
}  # fmt: skip
CURRENCY_CODES = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "RMB": "CN¥", "HKD": "HK$",
    "AUD": "A$", "CAD": "C$", "SGD": "S$", "TWD": "NT$", "INR": "₹", "KRW": "₩",
}  # fmt: skip
SCALES = {
    "k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion",
    "tn": "trillion",
}  # fmt: skip
OPERATORS = {
    "+": " plus ", "-": " minus ", "−": " minus ", "×": " times ", "*": " times ",
    "÷": " divided by ", "/": " divided by ", "=": " Equals ",
}  # fmt: skip
SYMBOLS = {
    "%": " percent", "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "#": " ",
    "<": " is less than ", ">": " is greater than ", "≤": " is less than or equal to ",
    "≥": " is greater than or equal to ", "≈": " approximately equals ", "≠": " does not equal ",
    "≡": " is equivalent to ", "±": " plus or minus ", "√": " the square root of ",
    "∞": " infinity ", "‰": " per mille", "×": " times ", "÷": " divided by ", "→": " to ",
    "⇒": " implies ", "∈": " in ", "∴": " therefore ", "∵": " because ", "§": " section ",
    "©": " copyright ", "¢": " cents ", "°": " degrees ", "$": " dollars ", "€": " euros ",
    "£": " pounds ", "¥": " yen ", "−": " minus ",
}  # fmt: skip
TYPED_SIGNS = {"<=": "≤", ">=": "≥", "!=": "≠", "==": "=", "->": "→", "=>": "⇒", "+/-": "±"}
GREEK = {
    chr(code): f" {unicodedata.name(chr(code)).split()[3].lower()} "
    for code in [*range(0x391, 0x3A2), *range(0x3A3, 0x3AA), *range(0x3B1, 0x3CA)]
    if "FINAL" not in unicodedata.name(chr(code))
}
POWERS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹ⁿˣʸ", "-0123456789nxy", strict=True))
