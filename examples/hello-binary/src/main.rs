//! Greets whoever calls: the body of the request is standard input, and what is printed is the response.
//! The head of the request is in the environment: `Http_Method`, `Http_Path`, `Http_Query` and so on.

use std::io::Read as _;

fn main() -> std::io::Result<()> {
    let mut body = String::new();
    std::io::stdin().read_to_string(&mut body)?;
    let name = match body.trim() {
        "" => "world",
        name => name,
    };

    // Standard error is its log: `coracle logs hello-binary`.
    eprintln!("greeting {name}");

    println!("Hello, {name}!");
    Ok(())
}
