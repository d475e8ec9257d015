//! Upper-cases its standard input: the body in, the body out, as a command does it.
//! The tests run it as a component (`wasi:cli/run`) and as a core module (wasip1).

use std::io::{self, Read, Write};
use std::process::ExitCode;

fn main() -> io::Result<ExitCode> {
    // What a call is about stands in the environment, as with CGI.
    match std::env::var("Http_Query").as_deref() {
        Ok("fail") => {
            eprintln!("asked to fail");
            return Ok(ExitCode::from(3));
        }
        Ok("environment") => {
            for (key, value) in std::env::vars() {
                println!("{key}={value}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        Ok("arguments") => {
            for argument in std::env::args() {
                println!("{argument}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }

    let mut chunk = vec![0; 64 << 10];
    let mut stdout = io::stdout().lock();
    loop {
        let length = io::stdin().read(&mut chunk)?;
        if length == 0 {
            break;
        }
        chunk[..length].make_ascii_uppercase();
        stdout.write_all(&chunk[..length])?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
