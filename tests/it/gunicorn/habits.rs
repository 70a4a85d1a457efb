//! Ways in which people start Gunicorn, as documentation, tutorials and well-known applications have them: each is the
//! configuration that it should be, and says what has no effect.

use std::process::Command;

use super::{WORKS, folder_with, interpreter, tuningfork};
use crate::support::parts;

/// A way in which people start Gunicorn, and lines of the configuration that it is.
struct Habit {
    of: &'static str,
    settings: &'static str,
    env: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    becomes: &'static [&'static str],
}

const HABIT: Habit = Habit { of: "", settings: "", env: &[], arguments: &["web"], becomes: &[] };

/// As documentation, tutorials and well-known applications have them.
const HABITS: [Habit; 15] = [
    Habit {
        of: "Django's documentation",
        becomes: &["workers = 1", "preload = false", "address = [\"127.0.0.1:8000\"]", "worker-class = \"sync\""],
        ..HABIT
    },
    Habit {
        of: "a tutorial with systemd and nginx",
        arguments: &["--access-logfile", "-", "--workers", "3", "--bind", "unix:/run/web.sock", "web:application"],
        becomes: &["workers = 3", "address = [\"unix:/run/web.sock\"]", "mode = \"0666\""],
        ..HABIT
    },
    Habit {
        of: "Flask's documentation",
        arguments: &["-w", "4", "-b", "0.0.0.0", "web:create_app()"],
        becomes: &["app = \"web:create_app()\"", "address = [\"0.0.0.0:8000\"]"],
        ..HABIT
    },
    Habit {
        of: "Flask's documentation, with gevent",
        arguments: &["-k", "gevent", "-w", "4", "--worker-connections", "50", "web:create_app()"],
        becomes: &["worker-class = \"gevent\"", "connections = 50"],
        ..HABIT
    },
    Habit {
        of: "Superset's container",
        arguments: &[
            "--bind",
            "0.0.0.0:8088",
            "--access-logfile",
            "-",
            "--error-logfile",
            "-",
            "--workers",
            "1",
            "--worker-class",
            "gthread",
            "--threads",
            "20",
            "--timeout",
            "60",
            "--keep-alive",
            "2",
            "--max-requests",
            "0",
            "--limit-request-line",
            "0",
            "web",
        ],
        becomes: &["worker-class = \"gthread\"", "connections = 20", "timeout = 60", "boot-timeout = 60"],
        ..HABIT
    },
    Habit {
        of: "NetBox",
        settings: "bind = '127.0.0.1:8001'\nworkers = 5\nthreads = 3\ntimeout = 120\nmax_requests = 5000\nmax_requests_jitter = 500\n",
        arguments: &["--pid", "/var/tmp/web.pid", "--pythonpath", "/opt/web", "--config", "gunicorn.conf.py", "web"],
        becomes: &[
            "worker-class = \"gthread\"",
            "connections = 3",
            "max-requests = 5000",
            "max-requests-jitter = 500",
            "boot-timeout = 120",
            "pidfile = \"/var/tmp/web.pid\"",
        ],
        ..HABIT
    },
    Habit {
        of: "paperless, with a worker class that extends Uvicorn's",
        settings: "bind = '0.0.0.0:8000'\nworker_class = 'web_workers.Configurable'\ndef pre_exec(server):\n    pass\n",
        becomes: &[
            "# pre_exec has no effect: a new binary is started by the supervisor, which runs no Python",
            "# worker_class web_workers.Configurable extends none of Gunicorn's sync, gthread, gevent and asgi: it runs as it is",
            "worker-class = \"asgi\"",
        ],
        ..HABIT
    },
    Habit {
        of: "FastAPI's containers",
        settings: "import multiprocessing\nworkers = max(multiprocessing.cpu_count(), 2)\nworker_tmp_dir = '/dev/shm'\ngraceful_timeout = 120\nkeepalive = 5\n",
        arguments: &["-k", "uvicorn.workers.UvicornWorker", "web:app"],
        becomes: &[
            "graceful-timeout = 120",
            "# worker_tmp_dir has no effect: workers show that they live over a socket, not by a file",
        ],
        ..HABIT
    },
    Habit {
        of: "ERPNext's containers",
        arguments: &[
            "--chdir=/",
            "--bind=0.0.0.0:8000",
            "--threads=4",
            "--workers=2",
            "--worker-class=gthread",
            "--preload",
            "web",
        ],
        becomes: &["preload = true", "connections = 4", "workers = 2"],
        ..HABIT
    },
    Habit {
        of: "containers of hosts that have IPv6 addresses",
        arguments: &["--bind", "[::]:8000", "web"],
        becomes: &["address = [\"[::]:8000\"]"],
        ..HABIT
    },
    Habit {
        of: "Cloud Run's documentation",
        arguments: &["--bind", ":8080", "--workers", "1", "--threads", "8", "--timeout", "0", "web:app"],
        becomes: &["address = [\"0.0.0.0:8080\"]", "timeout = 0", "boot-timeout = 600", "connections = 8"],
        ..HABIT
    },
    Habit {
        of: "those who write everything into gunicorn.conf.py",
        settings: "wsgi_app = 'web:application'\nworkers = 2\n",
        arguments: &[],
        becomes: &["app = \"web:application\"", "workers = 2"],
        ..HABIT
    },
    Habit {
        of: "Heroku",
        settings: "import os\nbind = '0.0.0.0:' + os.environ['PORT']\nforwarded_allow_ips = '*'\n",
        env: &[("PORT", "5006"), ("WEB_CONCURRENCY", "3")],
        becomes: &["address = [\"0.0.0.0:5006\"]", "workers = 3"],
        ..HABIT
    },
    Habit {
        of: "a container's environment",
        env: &[("GUNICORN_CMD_ARGS", "--bind=0.0.0.0:5000 --workers=3 --preload")],
        becomes: &["address = [\"0.0.0.0:5000\"]", "workers = 3", "preload = true"],
        ..HABIT
    },
    Habit {
        of: "Prometheus' client",
        settings: "preload_app = True\nraw_env = ['PROMETHEUS_MULTIPROC_DIR=metrics']\numask = 0o007\ndef child_exit(server, worker):\n    pass\n",
        becomes: &["preload = true", "mode = \"0660\""],
        ..HABIT
    },
];

#[test]
fn what_people_start_gunicorn_with_is_understood() {
    let workers = "from uvicorn.workers import UvicornWorker\nclass Configurable(UvicornWorker):\n    pass\n";
    let python = interpreter();
    for habit in HABITS {
        let folder = folder_with(&[("web.py", WORKS), ("web_workers.py", workers)]);
        if !habit.settings.is_empty() {
            std::fs::write(folder.path().join("gunicorn.conf.py"), habit.settings).expect("write the settings");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
        command.args(["gunicorn", "--interpreter", &python, "--print-config"]).args(habit.arguments).current_dir(folder.path());
        command.env_remove("GUNICORN_CMD_ARGS").env_remove("WEB_CONCURRENCY").envs(habit.env.iter().copied());
        let printed = parts::output(&mut command).unwrap_or_else(|error| panic!("{}: {error}", habit.of));
        for line in habit.becomes {
            assert!(printed.lines().any(|shown| shown == *line), "{}: {line} is not in\n{printed}", habit.of);
        }
    }
}

#[test]
fn check_names_a_worker_class_of_the_users_own_and_writes_umask_as_people_do() {
    let workers = "from uvicorn.workers import UvicornWorker\nclass Configurable(UvicornWorker):\n    pass\n";
    let settings = "worker_class = 'web_workers.Configurable'\numask = 0o027\n";
    let folder = folder_with(&[("web.py", WORKS), ("web_workers.py", workers), ("gunicorn.conf.py", settings)]);
    let (said, code) = tuningfork(folder.path(), &["check", "--interpreter", &interpreter(), "--", "web"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("(web_workers.Configurable)") && !said.contains("(asgi)"), "{said}");
    assert!(said.contains("umask = 0o027"), "{said}");
}
