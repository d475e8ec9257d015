//! Who asks, and whether they may: the token of a request, or its user and password, and the rights that come with it.
//! `data` asks for private functions, `admin` in every handler.

use std::{fmt, str};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_catalog::{AuthFailure, Catalog};
use coracle_model::{FunctionRef, NamespaceName, Principal, Problem, Reach, Scope, TokenId, code};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

/// Makes a principal of a request. A clone is a handle to the same.
#[derive(Debug, Clone)]
pub struct Authenticator {
    catalog: Catalog,
    login: Option<Login>,
}

/// A user and a password that may do everything, as the admin's token may.
#[derive(Clone)]
pub struct Login {
    user: blake3::Hash,
    password: blake3::Hash,
}

impl Login {
    /// The id that its holder goes by in logs, where others have that of their token.
    const ID: &str = "basic-auth";

    /// This user with this password.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: blake3::hash(user.as_bytes()), password: blake3::hash(password.as_bytes()) }
    }

    /// Whether they are this one, found out in a time that says nothing about either: hashes are of one length.
    fn is(&self, user: &str, password: &str) -> bool {
        let Self { user: own_user, password: own_password } = Self::new(user, password);
        let is_user = self.user.as_bytes().ct_eq(own_user.as_bytes());
        (is_user & self.password.as_bytes().ct_eq(own_password.as_bytes())).into()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Authenticator {
    /// One that knows the tokens of this catalog, and this login, if there is one.
    pub fn new(catalog: Catalog, login: Option<Login>) -> Self {
        Self { catalog, login }
    }

    /// Who sends a request with these headers; without a token it is anonymous.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that is wrong, expired, or not one at all.
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal, Problem> {
        let Some(header) = headers.get(AUTHORIZATION) else { return Ok(Principal::Anonymous) };
        let credentials = header.to_str().ok().and_then(Credentials::parse).ok_or_else(|| {
            unauthenticated("the `Authorization` header holds no token")
                .hint("send `Authorization: Bearer TOKEN`, or Basic with the token as the password")
        })?;
        if let (Some(login), Some(user)) = (&self.login, &credentials.user)
            && login.is(user, &credentials.token)
        {
            let id = TokenId(Login::ID.to_owned());
            return Ok(Principal::Token { id, scope: Scope::Admin, reach: Reach::All });
        }
        self.catalog.authenticate(&credentials.token).map_err(|failure| match failure {
            AuthFailure::Unknown => unauthenticated("the token is not known here")
                .hint("it may be of another server or revoked; the admin's is in the file `admin.token` of the data directory"),
            AuthFailure::Expired => unauthenticated("the token has expired").hint("make a new one: coracle token create"),
        })
    }

    /// That they may act on the whole server.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for nobody, `FORBIDDEN` for somebody who may not.
    pub fn require(&self, principal: Principal, needed: Scope) -> Result<Principal, Problem> {
        let may = principal.may(needed);
        decide(principal, may, needed, || "for the whole server".to_owned())
    }

    /// That they may act so somewhere, wherever that is.
    ///
    /// # Errors
    /// As for [`require`](Self::require).
    pub fn require_somewhere(&self, principal: Principal, needed: Scope) -> Result<Principal, Problem> {
        let may = matches!(principal, Principal::Token { scope, .. } if scope >= needed);
        decide(principal, may, needed, || "for anything".to_owned())
    }

    /// That they may act in this namespace.
    ///
    /// # Errors
    /// As for [`require`](Self::require).
    pub fn require_in(
        &self,
        principal: Principal,
        needed: Scope,
        namespace: &NamespaceName,
    ) -> Result<Principal, Problem> {
        let may = principal.may_in(needed, namespace);
        decide(principal, may, needed, || format!("for the namespace `{namespace}`"))
    }

    /// That they may act on this function.
    ///
    /// # Errors
    /// As for [`require`](Self::require).
    pub fn require_on(
        &self,
        principal: Principal,
        needed: Scope,
        function: &FunctionRef,
    ) -> Result<Principal, Problem> {
        let may = principal.may_on(needed, function);
        decide(principal, may, needed, || format!("for the function `{function}`"))
    }
}

fn decide(
    principal: Principal,
    may: bool,
    needed: Scope,
    place: impl FnOnce() -> String,
) -> Result<Principal, Problem> {
    match principal {
        _ if may => Ok(principal),
        Principal::Anonymous => Err(unauthenticated("a token is needed, and none came")
            .hint("send `Authorization: Bearer TOKEN`, or log in as `admin` with the token as the password; the admin's is in the file `admin.token` of the data directory")),
        Principal::Token { id, scope, reach } => {
            let place = place();
            Err(Problem::new(
                &code::FORBIDDEN,
                format!("the token `{id}` has the scope `{scope}` {reach}, and this takes `{needed}` {place}"),
            )
            .hint(format!("use a token with the scope `{needed}` {place}: coracle token create --scope {needed}")))
        }
    }
}

fn unauthenticated(message: &str) -> Problem {
    Problem::new(&code::UNAUTHENTICATED, message)
}

/// What an `Authorization` header holds: a token, of `Bearer TOKEN`, or as the password of `Basic`, where a user comes with it.
#[derive(PartialEq)]
struct Credentials {
    user: Option<String>,
    token: String,
}

impl Credentials {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, value) = header.trim().split_once(' ')?;
        let value = value.trim();
        let (user, token) = if scheme.eq_ignore_ascii_case("bearer") {
            (None, value.to_owned())
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = BASE64.decode(value).ok()?;
            let (user, password) = str::from_utf8(&pair).ok()?.split_once(':')?;
            (Some(user.to_owned()), password.to_owned())
        } else {
            return None;
        };
        (!token.is_empty()).then_some(Self { user, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_token_comes_as_bearer_or_as_the_password_of_basic() {
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair));
        let table = [
            ("Bearer cor_1", Some("cor_1")),
            ("bearer  cor_1 ", Some("cor_1")),
            (&basic("admin:cor_1"), Some("cor_1")),
            (&basic("whoever:cor_1").replace("Basic", "BASIC"), Some("cor_1")),
            (&basic(":a:b"), Some("a:b")),
            (&basic("admin:"), None),
            (&basic("no colon"), None),
            ("Basic !!", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("Digest x", None),
            ("", None),
        ];
        for (header, token) in table {
            assert_eq!(Credentials::parse(header).map(|found| found.token).as_deref(), token, "{header}");
        }
    }

    #[test]
    fn a_login_is_its_user_with_its_password_and_no_other() {
        let login = Login::new("admin", "hush");
        let table =
            [("admin", "hush", true), ("admin", "hus", false), ("ada", "hush", false), ("admin", "", false)];
        for (user, password, expected) in table {
            assert_eq!(login.is(user, password), expected, "{user}:{password}");
        }
        assert_eq!(format!("{login:?}"), "Login(…)");
    }

    #[test]
    fn nobody_is_asked_for_a_token_and_somebody_is_told_what_lacks() {
        let refused =
            |principal| decide(principal, false, Scope::Admin, || "for the whole server".into()).unwrap_err();
        assert_eq!(refused(Principal::Anonymous).code.name, "unauthenticated");
        let token = Principal::Token { id: TokenId("1f".into()), scope: Scope::Deploy, reach: Reach::All };
        let problem = refused(token);
        assert_eq!(problem.code.name, "forbidden");
        assert!(
            problem.message.contains("`deploy`") && problem.message.contains("`admin` for the whole server"),
            "{problem}"
        );
    }
}
