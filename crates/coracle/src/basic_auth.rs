//! The user and the password in the files of a folder, as a mounted secret has them.
//! `serve.rs` reads them when `coracle up` is told of such a folder.

use std::path::Path;

use coracle_gateway::Login;
use coracle_model::{Problem, code};

use crate::manifest::read_text_of;

/// The longest user or password, in bytes.
const BYTES_MAX: u64 = 4 << 10;

/// Reads the folder; what is a link there, as Kubernetes makes them, is followed.
///
/// # Errors
/// A file that is not there, is no regular file, is empty or too long, or a user that no client could send.
pub(crate) fn login(folder: &Path) -> Result<Login, Problem> {
    let (user, password) = (text(folder, "basic-auth-user")?, text(folder, "basic-auth-password")?);
    if user.contains(':') {
        return Err(Problem::new(
            &code::BAD_REQUEST,
            "the user in `basic-auth-user` has a `:`, which ends it",
        )
        .hint("choose a name without"));
    }
    Ok(Login::new(&user, &password))
}

fn text(folder: &Path, name: &str) -> Result<String, Problem> {
    let path = folder.join(name);
    let cannot = |why: &dyn std::fmt::Display| {
        Problem::new(&code::BAD_REQUEST, format!("read {}: {why}", path.display())).hint(
            "`--basic-auth-dir` names a folder with the files `basic-auth-user` and `basic-auth-password`",
        )
    };
    let text = read_text_of(&path, BYTES_MAX).map_err(|error| cannot(&error))?;
    match text.trim() {
        "" => Err(cannot(&"it is empty")),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn said(folder: &Path) -> String {
        login(folder).map_or_else(|problem| problem.to_string(), |_| "right".to_owned())
    }

    #[test]
    fn a_mounted_secret_is_read_through_its_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..2026")).unwrap();
        symlink("..2026", folder.path().join("..data")).unwrap();
        for (name, text) in [("basic-auth-user", "ada\n"), ("basic-auth-password", "hush")] {
            fs::write(folder.path().join("..2026").join(name), text).unwrap();
            symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
        }
        assert_eq!(said(folder.path()), "right");
        fs::write(folder.path().join("..2026/basic-auth-user"), "a:b").unwrap();
        assert_eq!(said(folder.path()), "the user in `basic-auth-user` has a `:`, which ends it");
    }

    #[test]
    fn what_is_no_short_file_is_refused_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let user = folder.path().join("basic-auth-user");
        let said_of_user = || said(folder.path()).replace(&user.display().to_string(), "USER");
        assert!(said_of_user().starts_with("read USER: No such file"), "{}", said_of_user());
        fs::write(&user, "a".repeat(4097)).unwrap();
        assert_eq!(said_of_user(), "read USER: it is longer than 4096 bytes");
        fs::write(&user, " \n").unwrap();
        assert_eq!(said_of_user(), "read USER: it is empty");
        fs::remove_file(&user).unwrap();
        symlink("/dev/zero", &user).unwrap();
        assert_eq!(said_of_user(), "read USER: it is not a file");
        fs::remove_file(&user).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&user).status().unwrap();
        assert!(made.success());
        assert_eq!(said_of_user(), "read USER: it is not a file");
    }
}
