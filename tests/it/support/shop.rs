//! The Django project of `tests/apps/shop`, with a database of its own in a test's directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::parts;

/// Where the project is.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/shop")
}

/// A configuration that runs it in `@DIR@` on `@LISTEN@`.
pub(crate) fn config(class: &str) -> String {
    format!(
        r#"
workers = 2
connections = {}
settle = 0
[app]
kind = "python"
app = "{}"
interpreter = "{}"
worker-class = "{class}"
directory = "{}"
env = {{ SHOP_DB = "@DIR@/shop.sqlite3" }}
[listen]
address = "@LISTEN@"
"#,
        if class == "sync" { 1 } else { 8 },
        if class == "asgi" { "shop.asgi:application" } else { "shop.wsgi:application" },
        parts::python().display(),
        project().display(),
    )
}

/// Fills its database in `directory`.
pub(crate) fn seed(directory: &Path) {
    for arguments in [&["manage.py", "migrate", "--verbosity", "0"][..], &["manage.py", "seed"]] {
        let mut command = Command::new(parts::python());
        command.args(arguments).current_dir(project()).env("SHOP_DB", directory.join("shop.sqlite3"));
        parts::output(&mut command).unwrap_or_else(|error| panic!("{error}"));
    }
}
