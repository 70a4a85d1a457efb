//! Absolute URLs, in which some sources name the host together with the target.

use std::borrow::Cow;

/// An `http` or `https` URL's host, as a client sends it, and its target. `None` for other schemes and a URL without host.
pub(super) fn split(url: &str) -> Option<(&str, Cow<'_, str>)> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" | "h2" | "grpcs" => ":443",
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.strip_suffix(port).unwrap_or(host);
    let target = if target.starts_with('/') { Cow::Borrowed(target) } else { Cow::Owned(format!("/{target}")) };
    (!host.is_empty()).then_some((host, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_targets() {
        let parts = |url| split(url).map(|(host, target)| (host, target.into_owned()));
        assert_eq!(parts("https://a.example:443/x?y#z"), Some(("a.example", "/x?y".into())));
        assert_eq!(parts("http://a.example:443/"), Some(("a.example:443", "/".into())));
        assert_eq!(parts("http://user:pass@[::1]:80?q"), Some(("[::1]", "/?q".into())));
        assert_eq!(parts("http://a"), Some(("a", "/".into())));
        for wrong in ["data:text/plain,x", "blob:https://a/b", "/x", "http://", "http:///x", "ftp://a/"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
