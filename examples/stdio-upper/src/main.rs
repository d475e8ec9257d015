//! Upper-cases its standard input: a program for the command line, that knows nothing of HTTP.
//! Coracle runs it once a call, with the body of the request as its input and its output as the response.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    let text = io::read_to_string(io::stdin())?;
    eprintln!("upper-casing {} bytes", text.len());
    io::stdout().write_all(text.to_uppercase().as_bytes())
}
