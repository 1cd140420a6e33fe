"""Makes orders.jsonl: 300 orders as a shop would send them, eight of them malformed on purpose.

Run it with `python examples/make_orders.py`. The same program makes the same file: the randomness is seeded, and
the timestamps lie in a fixed week of the past (an event of the future would delay its run).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ORDERS = 300
MONDAY = 1_736_121_600_000  # 2025-01-06T00:00:00Z
WEEK = 7 * 24 * 3600 * 1000

CUSTOMERS = [
    ("Ada Lindqvist", "ada@example.org", ("Storgatan 12", "111 51", "Stockholm", "SE")),
    ("Zoë Müller", "zoe.mueller@example.de", ("Schönhauser Allee 44a", "10435", "Berlin", "DE")),
    ("José Ñáñez", "jose@example.es", ("Calle de la Luna 7, 3º B", "28004", "Madrid", "ES")),
    ("Seán Ó Briain", "sean@example.ie", ("9 Sráid an Chaisleáin", "D02 X285", "Baile Átha Cliath", "IE")),
    ("山田 花子", "hanako@example.jp", ("神宮前 4-12-10", "150-0001", "東京都渋谷区", "JP")),
    ("Łukasz Żak", "lukasz@example.pl", ("ul. Świętokrzyska 3/17", "00-360", "Warszawa", "PL")),
    ("Ελένη Παπαδοπούλου", "eleni@example.gr", ("Ερμού 56", "105 63", "Αθήνα", "GR")),
    ("Tom O'Neill-Smith", "tom@example.com", ('12 "The Mews", Flat 2', "SW1A 1AA", "London", "GB")),
    ("نور حداد", "nour@example.com", ("شارع الحمرا 21", "1103", "بيروت", "LB")),
    ("Marie-Ève d'Aoust", "marie.eve@example.ca", ("4021, rue Saint-Denis", "H2W 2M4", "Montréal", "CA")),
]
CURRENCIES = {"GB": "GBP", "CA": "CAD", "SE": "SEK", "PL": "PLN", "LB": "USD"}
ARTICLES = [
    ("TEA-ASSAM-250", "Assam tea, 250 g", "8.90"),
    ("TEA-GYOKURO-50", "玉露 Gyokuro, 50 g", "24.00"),
    ("POT-CAST-1L", "Cast-iron pot, 1 l", "64.50"),
    ("CUP-SET-6", "Six cups, thin glass", "39.95"),
    ("KETTLE-07", "Kettle, 0.7 l, variable °C", "119.00"),
    ("SCALE-01G", "Scale, 0.1 g steps", "29.90"),
    ("SPOON-OLIVE", "Spoon, olive wood", "4.25"),
    ("MACHINE-PRO", "Espresso machine “Pro”", "1249.00"),
    ("FILTER-100", "Paper filters (100)", "3.10"),
    ("GRINDER-64", "Grinder, 64 mm burrs", "489.00"),
]
WEIGHTS = [22, 8, 6, 10, 5, 8, 20, 1, 24, 2]
NOTES = [
    "",
    "",
    "",
    "Please leave it with the neighbour 🙏",
    "Klingel defekt, bitte anrufen!",
    "Cadeau : pas de facture dans le colis, s'il vous plaît",
    "ギフト包装をお願いします 🎁",
    "line one\nline two\tand a tab",
    'She said "ring twice" \\ then wait',
    "Für Oma 👵🏽, mit Schleife",
]


def order(number: int, chance: random.Random) -> Json:
    """The event of one order."""
    customer = chance.randrange(len(CUSTOMERS))
    name, email, (street, postcode, city, country) = CUSTOMERS[customer]
    articles = dict.fromkeys(chance.choices(ARTICLES, WEIGHTS, k=chance.choice([1, 1, 2, 2, 3, 4])))
    items: list[Json] = [
        {"sku": sku, "title": title, "qty": chance.choice([1, 1, 1, 2, 3]), "price": price}
        for sku, title, price in articles
    ]
    total = sum((Decimal(item["price"]) * item["qty"] for item in items), Decimal(0))
    data: Json = {
        "order_id": f"order-{number:04}",
        "customer": {"id": f"c-{customer + 1:03}", "name": name, "email": email},
        "items": items,
        "currency": CURRENCIES.get(country, "EUR"),
        "total": str(total),
        "address": {"street": street, "postcode": postcode, "city": city, "country": country},
        "express": chance.random() < 0.2,
    }
    note = chance.choice(NOTES)
    if note:
        data["note"] = note
    ts = MONDAY + number * (WEEK // ORDERS) + chance.randrange(60_000)
    return {"name": "shop/order.created", "id": data["order_id"], "ts": ts, "data": data}


def line(event: object) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


MALFORMED: dict[int, Callable[[Json], str]] = {
    17: lambda event: line({key: value for key, value in event.items() if key != "name"}),
    54: lambda event: line({**event, "ts": "2025-01-07T06:12:00Z"}),
    91: lambda event: line({**event, "data": [event["data"]]}),
    128: lambda event: line({**event, "name": "inngest/order.created"}),
    165: lambda event: line(event)[:-41],
    202: lambda event: line({**event, "name": "shop/" + "order." * 50 + "created"}),
    239: lambda event: line({**event, "id": 239}),
    276: lambda event: line({**event, "ts": 1_736_500}),  # seconds of another age, not milliseconds
}
"""What is wrong with some of the orders, by number."""


def main() -> None:
    chance = random.Random(20250106)
    lines = [MALFORMED.get(number, line)(order(number, chance)) for number in range(1, ORDERS + 1)]
    Path(__file__).with_name("orders.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
