//! What a user reads.

use super::*;

fn messages(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "\
workers = 0
worker_connections = 5
timeout = \"soon\"

[app]
kind = \"python\"
app = \"shop/wsgi.py\"
worker-class = \"gevnet\"
command = [\"x\"]
env = { PORT = 80, \"A=B\" = \"\", NOTIFY_SOCKET = \"\" }

[listen]
address = [\"8000\", \"unix:/run/a.sock\", \"unix:/run//a.sock\"]
mode = 660
backlog = 0
workers = 3

[server]
port = 1

[metrics]
listen = \"fd:3\"
";
    insta::assert_snapshot!(messages(text), @r#"
    tuningfork.toml:1: workers: 0 is out of range (write a whole number from 1 to 1024, or "auto")
    tuningfork.toml:2: worker_connections: unknown key (write connections)
    tuningfork.toml:3: timeout: "soon" is not a span of time (write whole seconds (30) or a span ("30s", "1m 30s"), at most a day; 0 asks for no heartbeat)
    tuningfork.toml:7: app.app: "shop/wsgi.py" is a file, not a module (write "shop.wsgi:application")
    tuningfork.toml:8: app.worker-class: "gevnet" is not a worker class (did you mean "gevent"?)
    tuningfork.toml:9: app.command: only kind = "command" has this key, and kind is "python" (remove it, or write kind = "command")
    tuningfork.toml:10: app.env.PORT: is the number 80 (write "80")
    tuningfork.toml:10: app.env."A=B": a variable's name cannot be empty or contain = or NUL (write another name)
    tuningfork.toml:10: app.env.NOTIFY_SOCKET: the supervisor sets this variable for every worker (remove it)
    tuningfork.toml:13: listen.address: "8000" is only a port (write "127.0.0.1:8000", or "0.0.0.0:8000" for every interface)
    tuningfork.toml:13: listen.address: "unix:/run//a.sock" is listed twice (remove one)
    tuningfork.toml:14: listen.mode: is the number 660 (write the permission bits in octal, in quotes: "0660")
    tuningfork.toml:15: listen.backlog: 0 is out of range (write a whole number from 1 to 2147483647)
    tuningfork.toml:16: listen.workers: unknown key (move it above the first [section])
    tuningfork.toml:18: server: unknown section (known here: workers, connections, graceful-timeout, timeout, boot-timeout, settle, max-requests, max-requests-jitter, max-age, max-memory, max-unavailable, fail-after, pidfile, app, limits, hooks, listen, metrics, control, log)
    tuningfork.toml:22: metrics.listen: "fd:3" cannot be inherited (write "host:port", "[v6]:port" or "unix:/path")
    "#);
}

#[test]
fn an_excerpt_shows_the_line() {
    let text = "[app]\r\nkind = \"python\"\r\napp = \"shop\"\r\n\tworker-class = \"gevent3\" # é\r\n";
    insta::assert_snapshot!(parse(text).unwrap_err().render(text, Colour::Plain), @r#"
    error: app.worker-class: "gevent3" is not a worker class
     --> tuningfork.toml:4:17
      |
    4 |     worker-class = "gevent3" # é
      |                    ^^^^^^^^^
      |
      = help: did you mean "gevent"?

    1 problem in the configuration
    "#);
    let coloured = parse(text).unwrap_err().render(text, Colour::Ansi);
    assert!(coloured.contains("\u{1b}[") && coloured.contains("gevent3"));
}

#[test]
fn an_excerpt_without_a_line_names_the_file() {
    let surroundings = Surroundings { web_concurrency: Some("many".to_owned()), ..surroundings() };
    let errors = Config::parse("", Path::new("/etc/shop.toml"), &surroundings).unwrap_err();
    insta::assert_snapshot!(errors.render("", Colour::Plain), @r#"
    error: app: the section is missing
    --> /etc/shop.toml
     = help: write [app] and below it kind = "python" and app = "module:callable"

    error: WEB_CONCURRENCY: "many" is not a number of workers
     |
     = help: set it to a whole number from 1 to 1024, unset it, or write workers in the file

    2 problems in the configuration
    "#);
    insta::assert_snapshot!(errors, @r#"
    /etc/shop.toml:1: app: the section is missing (write [app] and below it kind = "python" and app = "module:callable")
    environment: WEB_CONCURRENCY: "many" is not a number of workers (set it to a whole number from 1 to 1024, unset it, or write workers in the file)
    "#);
}

#[test]
fn a_text_that_is_not_toml_is_told_by_line() {
    let text = "timeout = 30s\nworkers =\n[app]\nkind = python\nmode = 0660\n[app]\nx = True\n[x";
    insta::assert_snapshot!(messages(text), @r#"
    tuningfork.toml:1: 30s is not in quotes (write "30s")
    tuningfork.toml:2: the value is missing (write one after the =)
    tuningfork.toml:4: python is not in quotes (write "python")
    tuningfork.toml:5: a number cannot begin with 0 (write it without, or a permission mode in quotes: "0660")
    tuningfork.toml:6: app stands here for the second time (remove one of the two)
    tuningfork.toml:7: invalid boolean (expected `true`)
    tuningfork.toml:8: unclosed table (expected `]`)
    "#);
    insta::assert_snapshot!(messages("a = \"abc\nb = [1,\nc = 2\n"), @r#"
    tuningfork.toml:1: invalid basic string (expected `"`)
    tuningfork.toml:3: unexpected `=` in array (expected value, `]`)
    "#);
}

fn told(texts: &[&str]) -> String {
    let told: Vec<_> = texts.iter().map(|text| messages(text).replace("tuningfork.toml:", "")).collect();
    told.join("\n--\n")
}

#[test]
fn kind_problems() {
    let table = [
        "",
        "[app]",
        "app = \"shop:app\"",
        "[app]\ncommand = [\"a\", \"{port}\", \"}\"]\nreadiness = \"later\"\ndirectory = \"~/shop\"",
        "[app]\nkind = \"ruby\"\napp = \"1shop\"\ninterpreter = \"\"\nworker-class = \"uvicorn.workers.UvicornWorker\"",
        "[app]\nkind = \"command\"\napp = \"shop\"\nworker-class = \"sync\"",
    ];
    insta::assert_snapshot!(told(&table), @r#"
    1: app: the section is missing (write [app] and below it kind = "python" and app = "module:callable")
    --
    1: app.kind: is missing (write kind = "python" or kind = "command")
    --
    1: app: is the string "shop:app", but app is a section (write [app] on a line of its own, its keys below)
    --
    1: app.kind: is missing (write kind = "command")
    2: app.command[1]: unknown placeholder {port} (write one of {fd}, {connections}, {worker}, {workers}, or {{ and }} for braces)
    2: app.command[2]: } without { (write one of {fd}, {connections}, {worker}, {workers}, or {{ and }} for braces)
    3: app.readiness: "later" is not a span of time (write "notify", or how long a worker must stay alive to count as ready, such as "2s")
    4: app.directory: begins with ~, which only shells understand (write the path in full)
    --
    2: app.kind: "ruby" is not a kind (write "python" or "command")
    3: app.app: "1shop" is not the name of a module (write "module:callable", such as "project.wsgi:application" or "site:create_app()")
    4: app.interpreter: is empty (write the path of a Python, such as "venv/bin/python", or a name looked up in PATH)
    5: app.worker-class: "uvicorn.workers.UvicornWorker" is not a worker class (write "asgi")
    --
    1: app.command: is missing (write the program and its arguments as an array of strings: ["node", "server.js"])
    3: app.app: only kind = "python" has this key, and kind is "command" (remove it, or write kind = "python")
    4: app.worker-class: only kind = "python" has this key, and kind is "command" (remove it, or write kind = "python")
    "#);
}

#[test]
fn command_problems() {
    let table = [
        "command = \"node server.js\"",
        "command = [\"node\", 8000, true, 1.5]",
        "command = []",
        "command = [\"\"]",
        "command = [\"a\\u0000b\"]\nenv = { \"\" = \"x\", \"\\u0000\" = \"y\", TUNINGFORK_FD = \"3\" }",
        "command = [\"a\"]\nreadiness = \"60s\"",
    ];
    let texts = table.map(|lines| format!("[app]\nkind = \"command\"\n{lines}"));
    insta::assert_snapshot!(told(&texts.each_ref().map(String::as_str)), @r#"
    3: app.command: is the string "node server.js" (write the program and its arguments as an array of strings: ["node", "server.js"])
    --
    3: app.command[1]: is the number 8000 (write "8000")
    3: app.command[2]: is the boolean true (write "true")
    3: app.command[3]: is a float (write a string, in quotes)
    --
    3: app.command: names no program (write the program and its arguments as an array of strings: ["node", "server.js"])
    --
    3: app.command: names no program (write the program and its arguments as an array of strings: ["node", "server.js"])
    --
    3: app.command[0]: contains a NUL character (remove it: no path, argument or variable can hold one)
    4: app.env."": a variable's name cannot be empty or contain = or NUL (write another name)
    4: app.env."\0": a variable's name cannot be empty or contain = or NUL (write another name)
    4: app.env.TUNINGFORK_FD: the supervisor sets this variable for every worker (remove it)
    --
    4: app.readiness: no worker would become ready: boot-timeout ends it after 1m (write a shorter span, or a longer boot-timeout)
    "#);
}

#[test]
fn python_problems() {
    let table = [
        "",
        "app = \"/srv/shop/wsgi.py\"",
        "app = \"wsgi.py:app\"",
        "app = \"shop:create_app)\"",
        "app = \"shop:site.app\"",
        "app = \"shop\"\nworker-class = 3\n",
    ];
    let texts = table.map(|lines| format!("[app]\nkind = \"python\"\n{lines}"));
    insta::assert_snapshot!(told(&texts.each_ref().map(String::as_str)), @r#"
    1: app.app: is missing (write "module:callable", such as "project.wsgi:application" or "site:create_app()")
    --
    3: app.app: "/srv/shop/wsgi.py" is a file, not a module (write "wsgi:application", and directory = "/srv/shop")
    --
    3: app.app: "wsgi.py" is a file, not a module (write "wsgi:app")
    --
    3: app.app: "create_app)" is neither a name nor a call (write "module:callable", such as "project.wsgi:application" or "site:create_app()")
    --
    3: app.app: "site.app" is neither a name nor a call (write "module:callable", such as "project.wsgi:application" or "site:create_app()")
    --
    4: app.worker-class: is the number 3 (write "sync", "gthread", "gevent" or "asgi")
    "#);
}

#[test]
fn number_problems() {
    let table = [
        "workers = \"many\"",
        "workers = 4097",
        "workers = 2.5",
        "workers = 99999999999999999999",
        "connections = 2",
        "connections = 65536",
        "graceful-timeout = 0",
        "timeout = -1",
        "timeout = \"2days\"",
        "boot-timeout = \"0s\"",
        "boot-timeout = true",
    ];
    let told: Vec<_> = table.into_iter().map(|line| messages(&format!("{line}\n{}", python("")))).collect();
    insta::assert_snapshot!(told.join("\n").replace("tuningfork.toml:1: ", ""), @r#"
    workers: "many" is not a number of workers (write a whole number from 1 to 1024, or "auto")
    workers: 4097 is out of range (write a whole number from 1 to 1024, or "auto")
    workers: is a float (write a whole number from 1 to 1024, or "auto")
    workers: is the number 99999999999999999999 (write a whole number from 1 to 1024, or "auto")
    connections: is 2, but a sync worker serves one request at a time (remove it, or write worker-class = "gthread", "gevent" or "asgi" under [app])
    connections: is 65536, but a sync worker serves one request at a time (remove it, or write worker-class = "gthread", "gevent" or "asgi" under [app])
    graceful-timeout: 0 is out of range (write whole seconds (30) or a span ("30s", "1m 30s"), more than 0 and at most a day)
    timeout: -1 is out of range (write whole seconds (30) or a span ("30s", "1m 30s"), at most a day; 0 asks for no heartbeat)
    timeout: "2days" is out of range (write whole seconds (30) or a span ("30s", "1m 30s"), at most a day; 0 asks for no heartbeat)
    boot-timeout: "0s" is out of range (write whole seconds (30) or a span ("30s", "1m 30s"), more than 0 and at most a day)
    boot-timeout: is the boolean true (write whole seconds (30) or a span ("30s", "1m 30s"), more than 0 and at most a day)
    "#);
}

#[test]
fn listen_problems() {
    let table = [
        "address = []",
        "address = [\"localhost:80\", \"LOCALHOST:80\", \"[::1]:80\", \"[0::1]:80\", \"a:0\", \"a:0\"]",
        "address = 8000",
        "backlog = 2147483648",
        "mode = \"rw-rw----\"",
        "mode = \"1777\"",
        "mode = \"+66\"",
        "owner = \"\"",
        "owner = \"a:\"",
        "owner = \":\"",
        "owner = \"a:b:c\"",
        "address = \"a:1\"\n[metrics]\nlisten = \"a:1\"",
    ];
    let told: Vec<_> = table.into_iter().map(|line| messages(&python(&format!("[listen]\n{line}")))).collect();
    insta::assert_snapshot!(told.join("\n").replace("tuningfork.toml:", ""), @r#"
    5: listen.address: is an empty array (write "host:port", "[v6]:port", "unix:/path" or "fd:N", or an array of them)
    5: listen.address: "LOCALHOST:80" is listed twice (remove one)
    5: listen.address: "[0::1]:80" is listed twice (remove one)
    5: listen.address: is the number 8000 (write "host:port", "[v6]:port", "unix:/path" or "fd:N", or an array of them)
    5: listen.backlog: 2147483648 is out of range (write a whole number from 1 to 2147483647)
    5: listen.mode: "rw-rw----" is not a permission mode (write the permission bits in octal, in quotes: "0660")
    5: listen.mode: "1777" is not a permission mode (write the permission bits in octal, in quotes: "0660")
    5: listen.mode: "+66" is not a permission mode (write the permission bits in octal, in quotes: "0660")
    5: listen.owner: "" names no owner (write "user", "user:group" or ":group")
    5: listen.owner: "a:" names no owner (write "user", "user:group" or ":group")
    5: listen.owner: ":" names no owner (write "user", "user:group" or ":group")
    5: listen.owner: "a:b:c" names no owner (write "user", "user:group" or ":group")
    7: metrics.listen: "a:1" is in listen.address too (write another port or path)
    "#);
}

#[test]
fn control_problems() {
    let table = [
        "[control]",
        "[control]\nsocket = 3",
        "[control]\nsocket = \"\"",
        "[control]\nsocket = \"~/c.sock\"",
        "[control]\npath = \"/run/c.sock\"\nsocket = \"/run/c.sock\"",
        "[listen]\naddress = \"unix:/run/a\"\n[control]\nsocket = \"/run//a\"",
        "[metrics]\nlisten = \"unix:/run/a\"\n[control]\nsocket = \"unix:/run/a\"",
    ];
    let told: Vec<_> = table.into_iter().map(|lines| messages(&python(lines))).collect();
    insta::assert_snapshot!(told.join("\n").replace("tuningfork.toml:", ""), @r#"
    4: control.socket: is missing (write the path of a unix socket to make, such as "/run/tuningfork/shop/control.sock")
    5: control.socket: is the number 3 (write the path of a unix socket to make, such as "/run/tuningfork/shop/control.sock")
    5: control.socket: "" names no socket file (write "unix:/run/name.sock")
    5: control.socket: "~/c.sock" begins with ~, which only shells understand (write the path in full)
    5: control.path: unknown key (known here: socket)
    7: control.socket: "/run//a" is in listen.address too (write another path)
    7: control.socket: "unix:/run/a" is metrics.listen too (write another path)
    "#);
}

#[test]
fn sections_that_are_none() {
    let text = format!("listen = \"a:1\"\nmetrics = true\n{}", python("[[listenn]]"));
    insta::assert_snapshot!(messages(&text), @r#"
    tuningfork.toml:1: listen: is the string "a:1", but listen is a section (write [listen] on a line of its own, its keys below)
    tuningfork.toml:2: metrics: is the boolean true, but metrics is a section (write [metrics] on a line of its own, its keys below)
    tuningfork.toml:6: listenn: unknown key (did you mean listen?)
    "#);
}

#[test]
fn care_problems() {
    let table = [
        "settle = \"2 days\"",
        "max-unavailable = 0",
        "max-requests = -1",
        "max-age = \"2 years\"",
        "max-memory = 512",
        "max-memory = \"512 MB\"",
        "fail-after = \"never\"",
    ];
    let told: Vec<_> = table.into_iter().map(|line| messages(&format!("{line}\n{}", python("")))).collect();
    insta::assert_snapshot!(told.join("\n").replace("tuningfork.toml:1: ", ""), @r#"
    settle: "2 days" is out of range (write whole seconds (5) or a span ("5s"), at most a day; 0 does not watch a reload's first worker)
    max-unavailable: 0 is out of range (write a whole number from 1 to 1024)
    max-requests: -1 is out of range (write a whole number; 0 renews no worker for it)
    max-age: "2 years" is out of range (write whole seconds or a span ("12h", "7 days"), at most a year; 0 renews no worker for it)
    max-memory: 512 bytes are less than any worker needs (write a unit: "512 MiB")
    max-memory: "512 MB" is not a size (write a size ("512 MiB", "2 GiB"); 0 renews no worker for it)
    fail-after: is the string "never" (write a whole number; 0 never gives up)
    "#);
    let command = "max-requests = 9\n[app]\nkind = \"command\"\ncommand = [\"true\"]";
    insta::assert_snapshot!(messages(command), @r#"tuningfork.toml:1: max-requests: only workers of kind = "python" count their requests (remove it, and have the program say X_TUNINGFORK_RENEW=1 to NOTIFY_SOCKET when it wants to be renewed)"#);
}

#[test]
fn confinement_problems() {
    let table = [
        "user = \"\"",
        "group = \"a:b\"",
        "umask = \"+22\"",
        "umask = \"1022\"",
        "cpu-affinity = \"all\"",
        "pass-env = \"PATH\"",
        "pass-env = [\"*_TOKEN\"]",
        "[limits]\ncore = \"big\"",
        "[limits]\nopen-files = -1",
        "[hooks]\non-exit = [\"\"]",
    ];
    let told: Vec<_> = table.into_iter().map(|line| messages(&python(line))).collect();
    insta::assert_snapshot!(told.join("\n").replace("tuningfork.toml:", ""), @r#"
    4: app.user: "" is no name (write the name or number of a user: "www-data")
    4: app.group: "a:b" is no name (write the name or number of a group: "www-data")
    4: app.umask: "+22" is no mask (write the bits to take away in octal, in quotes: "0027")
    4: app.umask: "1022" is no mask (write the bits to take away in octal, in quotes: "0027")
    4: app.cpu-affinity: "all" is not known (write "none", "spread" or "pin")
    4: app.pass-env: is the string "PATH" (write an array of names, * at the end of one for any ending: ["PATH", "LANG", "DJANGO_*"])
    4: app.pass-env: "*_TOKEN" is no name (write an array of names, * at the end of one for any ending: ["PATH", "LANG", "DJANGO_*"])
    5: limits.core: "big" is not a size (write a size ("2 GiB", 0), or "unlimited")
    5: limits.open-files: -1 is not a size (write a whole number, or "unlimited")
    5: hooks.on-exit: names no program (write a program and its arguments as an array of strings: ["/usr/local/bin/notify", "web"])
    "#);
}
