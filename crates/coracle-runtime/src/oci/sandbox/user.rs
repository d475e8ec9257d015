//! Who a program runs as: the words of an image or of settings, looked up in the accounts of its own root.
//! Pure; the first process of a sandbox reads the two files and asks here.

/// The user and the groups of a program, within its sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Beside `gid`.
    pub(super) groups: Vec<u32>,
    pub(super) home: Option<String>,
}

/// Users and groups of a sandbox are below this number.
pub(super) const IDS: u32 = 65_536;

/// Looks `wanted` up: `USER`, `UID`, `USER:GROUP` or `UID:GID`; empty is root.
///
/// # Errors
/// What is not there.
pub(super) fn identity(wanted: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, named_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let account = passwd.lines().map(fields).find(|account| {
        let name = account.first().copied().unwrap_or_default();
        let uid = account.get(2).copied().unwrap_or_default();
        // A name may be digits; then it is a number.
        if is_number(user) { uid == user } else { name == user }
    });
    let number =
        |account: &[&str], field: usize| account.get(field).and_then(|text| text.parse::<u32>().ok());
    let uid = match (&account, is_number(user)) {
        (_, true) => user.parse().ok(),
        (Some(account), false) => number(account, 2),
        (None, false) => return Err(format!("there is no user `{user}` in its /etc/passwd")),
    };
    let primary = account.as_deref().and_then(|account| number(account, 3)).unwrap_or(0);
    let gid = match named_group {
        None => Some(primary),
        Some(gid) if is_number(gid) => gid.parse().ok(),
        Some(name) => {
            let found = group.lines().map(fields).find(|entry| entry.first() == Some(&name));
            let found = found.ok_or_else(|| format!("there is no group `{name}` in its /etc/group"))?;
            number(&found, 2)
        }
    };
    let within = |id: Option<u32>| {
        id.filter(|id| *id < IDS).ok_or_else(|| format!("`{wanted}` is beyond {}", IDS - 1))
    };
    let name = account.as_deref().and_then(|account| account.first().copied());
    let is_member = |entry: &[&str]| {
        let members = entry.get(3).copied().unwrap_or_default();
        name.is_some_and(|name| members.split(',').any(|member| member == name))
    };
    // Who names a group gets that one alone, as in container engines.
    let groups = group.lines().map(fields).filter(|entry| named_group.is_none() && is_member(entry));
    Ok(Identity {
        uid: within(uid)?,
        gid: within(gid)?,
        groups: groups.filter_map(|entry| number(&entry, 2)).filter(|gid| *gid < IDS).take(32).collect(),
        home: account.as_deref().and_then(|account| account.get(5)).map(|home| (*home).to_owned()),
    })
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:4:syslog,web\n";

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let table = [
            ("", Ok((0, 0, vec![], Some("/root")))),
            ("web", Ok((101, 102, vec![4], Some("/srv/web")))),
            ("101", Ok((101, 102, vec![4], Some("/srv/web")))),
            ("web:logs", Ok((101, 4, vec![], Some("/srv/web")))),
            ("7:8", Ok((7, 8, vec![], None))),
            ("7", Ok((7, 0, vec![], None))),
            ("ada", Err("there is no user `ada` in its /etc/passwd")),
            ("web:nobody", Err("there is no group `nobody` in its /etc/group")),
            ("65536", Err("`65536` is beyond 65535")),
            ("99999999999999", Err("`99999999999999` is beyond 65535")),
        ];
        for (wanted, expected) in table {
            let found = identity(wanted, PASSWD, GROUP);
            let found = found
                .as_ref()
                .map(|who| (who.uid, who.gid, who.groups.clone(), who.home.as_deref()))
                .map_err(String::as_str);
            assert_eq!(found, expected, "{wanted:?}");
        }
    }
}
