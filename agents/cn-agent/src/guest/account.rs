//! Users of a guest, by its own `/etc/passwd` and `/etc/group`: texts that somebody hostile may have written.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

/// Most bytes that are read of either file.
const MOST: u64 = 4 << 20;

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    /// Groups beside the first.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Reads a file that may be a pipe, a device or endless.
fn read(path: &str) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The account that `user` names: `name`, `uid`, and either with `:group` or `:gid`.
pub(super) fn find(user: &str) -> Result<Account, String> {
    let file = |path: &str| read(path).unwrap_or_default();
    resolve(user, &file("/etc/passwd"), &file("/etc/group"))
}

fn resolve(user: &str, passwd: &str, groups: &str) -> Result<Account, String> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let known = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        let named = fields.first() == Some(&user);
        let numbered = || number.is_some() && fields.get(2).and_then(|uid| uid.parse().ok()) == number;
        named || numbered()
    });
    let field = |at: usize| known.as_ref().and_then(|fields| fields.get(at)).copied();
    let uid = field(2).and_then(|uid| uid.parse().ok()).or(number).ok_or_else(|| format!("there is no user {user:?} in the guest"))?;
    let primary = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let entries = || groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let gid = match group.filter(|group| !group.is_empty()) {
        None => primary,
        Some(group) => {
            let named = entries().find(|fields| fields.first() == Some(&group));
            let named = named.and_then(|fields| fields.get(2)?.parse().ok());
            named.or_else(|| group.parse().ok()).ok_or_else(|| format!("there is no group {group:?} in the guest"))?
        }
    };
    let name = field(0);
    // With a group that was asked for, there are no others.
    let others = entries().filter(|fields| {
        group.is_none() && name.is_some_and(|name| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name)))
    });
    let groups = others.filter_map(|fields| fields.get(2)?.parse().ok()).take(64).collect();
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Account { uid, gid, groups, home })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/sh\n12:x:500:500::/home/12:/bin/sh\nodd:x:9:9::relative:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlogs:x:4:bin,web\nx:x:nonsense:web\n";

    #[test]
    fn users_and_groups_are_found_by_name_and_number_and_strangers_only_by_number() {
        let found = |user: &str| resolve(user, PASSWD, GROUP).map(|account| (account.uid, account.gid, account.groups, account.home));
        assert_eq!(found(""), Ok((0, 0, vec![], "/root".to_owned())));
        assert_eq!(found("web"), Ok((33, 33, vec![4], "/var/www".to_owned())));
        assert_eq!(found("33"), Ok((33, 33, vec![4], "/var/www".to_owned())));
        assert_eq!(found("web:logs"), Ok((33, 4, vec![], "/var/www".to_owned())));
        assert_eq!(found("12"), Ok((500, 500, vec![], "/home/12".to_owned())), "a name of digits is a name first");
        assert_eq!(found("4000:77"), Ok((4000, 77, vec![], "/".to_owned())));
        assert_eq!(found("odd").map(|found| found.3), Ok("/".to_owned()));
        for user in ["nobody", "web:nogroup", "-1", "99999999999"] {
            assert!(found(user).is_err(), "{user}");
        }
    }
}
