//! A server and its PostgreSQL over a network: the connection is encrypted, and it is known who is at the other end.
//! The certificates are made for each test, and no machine trusts them.

#![expect(clippy::unwrap_used, reason = "in a test, what cannot be done fails it")]

#[expect(dead_code, reason = "these tests use a part of the harness")]
mod harness;

use harness::{Data, Ended, Server};
use own_postgres::OwnPostgres;

/// A PostgreSQL that is reached by TLS alone, and has a user `ann` with the password `hunter2`.
fn postgres() -> OwnPostgres {
    let own = OwnPostgres::start_encrypted().unwrap();
    own.sql("postgres", "CREATE USER ann PASSWORD 'hunter2'").unwrap();
    database(&own, "coracle");
    own
}

fn database(own: &OwnPostgres, name: &str) {
    own.sql("postgres", &format!("CREATE DATABASE {name} OWNER ann")).unwrap();
}

/// What a server says that does not start with this store.
fn refused(url: &str) -> String {
    let data = Data::new();
    let mut command = harness::coracle();
    command.args(["up", "--listen", "127.0.0.1:0", "--metrics-listen", "none", "--data"]).arg(data.path());
    let ended = Ended::of(command.env("CORACLE_STORE", url).output().unwrap());
    let all = ended.to_text();
    assert_eq!(ended.code, 1, "{url}: {all}");
    assert!(!all.contains("hunter2"), "{url}: {all}");
    all
}

#[test]
fn a_server_speaks_tls_with_a_postgresql_whose_authority_it_was_told_of() {
    let postgres = postgres();
    let (address, authority) = (postgres.address(), postgres.authority());
    // Who names whom to trust wants it checked; the words are those of libpq.
    for (name, asked) in [("one", "sslmode=require&"), ("two", "sslmode=verify-full&"), ("three", "")] {
        database(&postgres, name);
        let authority = authority.display();
        let url = format!("postgres://ann:hunter2@{address}/{name}?{asked}sslrootcert={authority}");
        let server = Server::start_with(Data::new(), &["--store", &url]);
        server.deploy("hello");
        let called = server.run(&["call", "hello", "--async", "--wait", "-d", "Ada"]);
        assert_eq!((called.code, called.stdout.as_str()), (0, "Hello, Ada!\n"), "{}", called.stderr);
        let lines = "SELECT count(*) > 2, bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'ann'";
        assert_eq!(postgres.sql(name, lines).unwrap(), "t|t", "each of its connections");
    }
}

#[test]
fn a_postgresql_that_nobody_vouches_for_is_refused() {
    let postgres = postgres();
    let (address, authority) = (postgres.address(), postgres.authority());
    let (authority, someone_else) = (authority.display(), authority.with_file_name("server.pem"));
    let (host, port, someone_else) = (address.ip(), address.port(), someone_else.display());
    let to = format!("postgres://ann:hunter2@{address}/coracle");
    let unsigned = ["is not trusted: ", "nobody who is trusted has signed it", "sslrootcert="];
    for (url, said) in [
        // As most do it: the machine does not trust this authority.
        (format!("{to}?sslmode=require"), unsigned),
        (format!("{to}?sslrootcert={someone_else}"), unsigned),
        // Somebody who took over the name.
        (
            format!(
                "postgres://ann:hunter2@db.internal:{port}/coracle?hostaddr={host}&sslmode=require&sslrootcert={authority}"
            ),
            ["is not trusted: ", "not valid for name \"db.internal\"", "the host as the certificate does"],
        ),
        (
            format!("{to}?sslmode=require&sslrootcert=/nowhere.pem"),
            ["/nowhere.pem", "No such file", "in PEM"],
        ),
        (
            format!("{to}?sslmode=require&sslrootcert=/etc/passwd"),
            ["/etc/passwd", "no certificate", "in PEM"],
        ),
        (format!("{to}?sslmode=allow"), ["`sslmode` is none of", "`require`", "postgres://USER"]),
        // In the open, PostgreSQL lets nobody in.
        (to.clone(), ["does not let this user in", "no encryption", "pg_hba.conf"]),
    ] {
        let all = refused(&url);
        assert!(said.iter().all(|said| all.contains(said)), "{url}: {said:?}: {all}");
    }
}

#[test]
fn an_authority_is_no_server() {
    let mut postgres = postgres();
    let authority = postgres.authority();
    postgres.stop();
    for file in ["pem", "key"] {
        let server = authority.with_file_name("server").with_extension(file);
        std::fs::copy(authority.with_extension(file), server).unwrap();
    }
    postgres.start_again().unwrap();
    let (address, authority) = (postgres.address(), authority.display());
    let all = refused(&format!("postgres://ann:hunter2@{address}/coracle?sslrootcert={authority}"));
    assert!(all.contains("is not trusted: it is that of an authority, and not of a server"), "{all}");
}
