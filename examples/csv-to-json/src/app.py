"""Turns CSV into JSON: POST the one, get the other, an object for each row under the names of the first line."""

import csv
import io
import json


def app(environ, start_response):
    try:
        # Spreadsheets begin their exports with a mark that is no part of the first name.
        text = environ["wsgi.input"].read().decode().removeprefix("\ufeff")
        rows = read(text)
    except (ValueError, csv.Error) as error:
        print(f"refused: {error}")
        start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"the body is not CSV: {error}\n".encode()]

    print(f"converted {len(rows)} rows")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(rows, ensure_ascii=False, indent=2).encode() + b"\n"]


def read(text):
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if reader.fieldnames is None:
        raise ValueError("it is empty")
    rows = []
    for row in reader:
        if None in row:
            raise ValueError(f"line {reader.line_num} has more fields than the first line")
        rows.append(row)
    return rows
