//! Turns CSV into JSON: `POST` the one, get the other, an object for each row under the names of the first line.
//! Fields are apart by commas, or by what `delimiter` names; `examples/csv-to-json` does the same in Python.

use csv::{ByteRecord, ReaderBuilder, StringRecord};
use serde::Serialize;
use serde::ser::Serializer;
use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let body = request.body_mut().bytes_contents().await?;

    let (status, kind, answer) = match convert(&query, &body) {
        Ok(json) => (StatusCode::OK, "application/json", json),
        Err(complaint) => {
            println!("refused: {complaint}");
            let text = format!("the body is not CSV: {complaint}\n");
            (StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text.into_bytes())
        }
    };
    Ok(Response::builder().status(status).header("content-type", kind).body(answer.into())?)
}

fn convert(query: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    // Spreadsheets begin their exports with a mark that is no part of the first name.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut reader = ReaderBuilder::new();
    // How many fields a row has is looked at here, where the line can be named.
    reader.flexible(true).delimiter(delimiter(query)?);
    let mut reader = reader.from_reader(body);
    let names = reader.byte_headers().cloned().map_err(|error| error.to_string())?;
    if names.is_empty() {
        return Err("it is empty".to_owned());
    }
    let names = text(names, 1)?;
    if let Some(twice) =
        names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|n| n == *name))
    {
        return Err(format!("two columns are called `{}`", twice.1));
    }

    let mut rows = Vec::new();
    for record in reader.into_byte_records() {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() > names.len() {
            return Err(format!("line {line} has more fields than the first line"));
        }
        rows.push(Row { names: &names, fields: text(record, line)? });
    }
    println!("converted {} rows", rows.len());
    let mut json = serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())?;
    json.push(b'\n');
    Ok(json)
}

fn delimiter(query: &str) -> Result<u8, String> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "delimiter");
    match named.as_ref().map(|(_, value)| value.as_bytes()) {
        None => Ok(b','),
        Some(b"tab") => Ok(b'\t'),
        Some([one]) if one.is_ascii() && !b"\"\r\n".contains(one) => Ok(*one),
        Some(_) => Err("`delimiter` must be one character, or `tab`".to_owned()),
    }
}

fn text(record: ByteRecord, line: u64) -> Result<StringRecord, String> {
    StringRecord::from_byte_record(record).map_err(|_| format!("line {line} is not UTF-8 text"))
}

/// A row under the names of the first line, in their order; what it lacks is null.
struct Row<'a> {
    names: &'a StringRecord,
    fields: StringRecord,
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = self.names.iter().enumerate().map(|(at, name)| (name, self.fields.get(at)));
        serializer.collect_map(fields)
    }
}
